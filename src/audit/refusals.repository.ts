import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import type { RenderedEvent } from '../platform/kernel/canonical-event.js';
import { auditColumns } from './audit.repository.js';

/** A refusal on its way to the log. */
export interface PendingRefusal {
  readonly rendered: RenderedEvent;
  readonly cause: string;
}

/** Refusals that were counted and that no event tells of yet. */
export interface RefusalCount {
  readonly event: NewAuditEvent;
  readonly cause: string;
  readonly count: number;
}

/** A minute of refusals of one client for one cause. */
export interface RefusalWindow extends RefusalCount {
  readonly openedAt: Date;
}

const IN_WINDOWS = `(organization_id, client, cause) IN (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]))`;

const RECORD = {
  name: 'record_refusals',
  text: `SELECT opened_at FROM record_refusals($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[],
    $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::timestamptz[], $14::text[],
    $15::jsonb[])`,
};

/** All SQL on refusals that are counted. */
@Injectable()
export class RefusalsRepository {
  constructor(
    private readonly statements: StatementPool,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /**
   * Records refusals in one transaction: an event for the first of a client and cause, a count for the others.
   *
   * @returns since when each one's minute runs, in the order given
   */
  async record(refusals: readonly PendingRefusal[]): Promise<readonly Date[]> {
    const rows = await this.statements.query<{ opened_at: Date }>(RECORD, [
      ...auditColumns(refusals.map(({ rendered }) => rendered)),
      refusals.map(({ cause }) => cause),
      refusals.map(({ rendered }) => JSON.stringify(rendered.event)),
    ]);
    return rows.map(({ opened_at }) => opened_at);
  }

  /** Adds what this replica has counted. Sorted, so that two replicas do not wait for each other. */
  async add(counts: readonly RefusalCount[], now: Date): Promise<void> {
    const sorted = [...counts].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
    await this.unitOfWork.reader.query(
      `INSERT INTO audit_refusals AS a (organization_id, client, cause, opened_at, count, event)
        SELECT t.organization, t.client, t.cause, $6, t.count, t.event
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::jsonb[])
            AS t (organization, client, cause, count, event)
        ON CONFLICT (organization_id, client, cause) DO UPDATE SET count = a.count + EXCLUDED.count`,
      [
        sorted.map(({ event }) => event.organizationId),
        sorted.map(({ event }) => event.target.id),
        sorted.map(({ cause }) => cause),
        sorted.map(({ count }) => count),
        sorted.map(({ event }) => JSON.stringify(event)),
        now,
      ],
    );
  }

  /**
   * Locks up to `limit` windows that are over at `now`, leaving those that another replica is at.
   *
   * @param before windows that began at this instant or earlier are over; so are those that begin after `now`, which
   *   a clock that was set back leaves behind
   */
  async lockOver(transaction: EntityManager, before: Date, now: Date, limit: number): Promise<RefusalWindow[]> {
    const rows = await transaction.query<{ cause: string; opened_at: Date; count: string; event: NewAuditEvent }[]>(
      `SELECT cause, opened_at, count, event FROM audit_refusals WHERE opened_at <= $1 OR opened_at > $2
        ORDER BY organization_id, client, cause LIMIT $3 FOR UPDATE SKIP LOCKED`,
      [before, now, limit],
    );
    return rows.map((row) => ({
      cause: row.cause,
      openedAt: row.opened_at,
      count: Number(row.count),
      event: row.event,
    }));
  }

  /** Begins the next minute of windows that counted something, and forgets the others. */
  async renew(transaction: EntityManager, windows: readonly RefusalWindow[], now: Date): Promise<void> {
    const keys = [
      windows.map(({ event }) => event.organizationId),
      windows.map(({ event }) => event.target.id),
      windows.map(({ cause }) => cause),
    ];
    await transaction.query(`DELETE FROM audit_refusals WHERE count = 0 AND ${IN_WINDOWS}`, keys);
    await transaction.query(`UPDATE audit_refusals SET opened_at = $4, count = 0 WHERE ${IN_WINDOWS}`, [...keys, now]);
  }
}

function keyOf({ event, cause }: RefusalCount): string {
  return `${event.organizationId} ${event.target.id} ${cause}`;
}

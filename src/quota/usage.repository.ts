import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';

/** A count of one kind on one day. */
export interface UsageCount {
  /** `2026-11-22`, UTC. */
  readonly day: string;
  /** `issued`, or `refused:` and the reason. */
  readonly kind: string;
  readonly count: number;
}

/** Events that one statement counts: some tenths of a second. */
const CHUNK = 100_000;

/**
 * All SQL on usage. Usage follows the audit chain by a cursor of its own, which is moved on when usage is read: the
 * token path pays nothing for it.
 */
@Injectable()
export class UsageRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /**
   * Counts what the chain has beyond the cursor, a chunk a transaction. An event that counts refusals `since` an instant
   * belongs to the day of that instant: the log begins to count anew with each day.
   */
  async catchUp(organizationId: string): Promise<void> {
    const [ledger] = await this.unitOfWork.reader.query<{ sequence: string }[]>(
      'SELECT sequence FROM organization_ledgers WHERE organization_id = $1',
      [organizationId],
    );
    const head = Number(ledger?.sequence ?? 0);
    let countedTo = 0;
    while (countedTo < head) {
      countedTo = await this.unitOfWork.run((transaction) => this.countChunk(transaction, organizationId, head));
    }
  }

  /** The counts from one day to another, both included. */
  async read(organizationId: string, from: string, to: string): Promise<UsageCount[]> {
    const rows = await this.unitOfWork.reader.query<{ day: string; kind: string; count: string }[]>(
      `SELECT to_char(day, 'YYYY-MM-DD') AS day, kind, count FROM organization_usage
        WHERE organization_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day, kind`,
      [organizationId, from, to],
    );
    return rows.map(({ day, kind, count }) => ({ day, kind, count: Number(count) }));
  }

  /** @returns the sequence that is counted now */
  private async countChunk(transaction: EntityManager, organizationId: string, head: number): Promise<number> {
    await transaction.query(
      'INSERT INTO organization_usage_cursors (organization_id, counted_to) VALUES ($1, 0) ON CONFLICT DO NOTHING',
      [organizationId],
    );
    // The cursor's lock makes readers who come together count one after the other.
    const [cursor] = await transaction.query<{ counted_to: string }[]>(
      'SELECT counted_to FROM organization_usage_cursors WHERE organization_id = $1 FOR UPDATE',
      [organizationId],
    );
    const from = Number(cursor?.counted_to ?? 0);
    if (from >= head) return from;
    const to = Math.min(from + CHUNK, head);
    await transaction.query(
      `INSERT INTO organization_usage (organization_id, day, kind, count)
        SELECT e.organization_id,
            (coalesce((e.details ->> 'since')::timestamptz, e.occurred_at) AT TIME ZONE 'UTC')::date,
            CASE e.action WHEN 'token.issued' THEN 'issued' ELSE 'refused:' || (e.details ->> 'reason') END,
            sum(coalesce((e.details ->> 'count')::bigint, 1))
          FROM audit_events e
          WHERE e.organization_id = $1 AND e.sequence > $2 AND e.sequence <= $3
            AND e.action IN ('token.issued', 'token.refused')
          GROUP BY 1, 2, 3
        ON CONFLICT (organization_id, day, kind) DO UPDATE SET count = organization_usage.count + excluded.count`,
      [organizationId, from, to],
    );
    await transaction.query('UPDATE organization_usage_cursors SET counted_to = $2 WHERE organization_id = $1', [
      organizationId,
      to,
    ]);
    return to;
  }
}

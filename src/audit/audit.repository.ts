import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { ChainedEvent, RenderedEvent } from '../platform/kernel/canonical-event.js';
import { AuditEventEntity } from './audit-event.entity.js';

/** What a search of the log may be narrowed by. */
export interface AuditFilter {
  readonly agentId?: string;
  readonly action?: string;
  readonly outcome?: string;
  /** The first instant that counts. */
  readonly from?: string;
  /** The first instant that no longer counts. */
  readonly to?: string;
}

/** The head of a chain. */
export interface ChainHead {
  readonly sequence: number;
  readonly hash: string;
}

/** What links an event into its chain. */
export interface ChainLink {
  readonly sequence: number;
  readonly previousHash: Buffer;
  readonly hash: Buffer;
  readonly occurredAt: Date;
}

interface EventRow {
  organization_id: string;
  sequence: string;
  event_id: string;
  action: string;
  outcome: string;
  actor: string | null;
  target_type: string;
  target_id: string;
  ip: string | null;
  user_agent: string | null;
  details: unknown;
  occurred_at: Date;
  previous_hash: Buffer;
  hash: Buffer;
}

const EVENT_COLUMNS = `organization_id, sequence, event_id, action, outcome, actor, target_type, target_id, ip, user_agent,
  details, occurred_at, previous_hash, hash`;

const APPEND = {
  name: 'append_audit_events',
  text: `SELECT event_sequence, event_hash FROM append_audit_events($1::uuid[], $2::text[], $3::text[], $4::uuid[],
    $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[],
    $13::timestamptz[])`,
};

/** All SQL on the audit chain. */
@Injectable()
export class AuditRepository {
  constructor(
    private readonly statements: StatementPool,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /** Appends events within a transaction; their places are final when it commits. */
  async append(transaction: EntityManager, events: readonly RenderedEvent[]): Promise<void> {
    await transaction.query(APPEND.text, auditColumns(events));
  }

  /** Appends events in a transaction of their own: one group commit. */
  async appendTogether(events: readonly RenderedEvent[]): Promise<readonly undefined[]> {
    await this.statements.query(APPEND, auditColumns(events));
    return events.map(() => undefined);
  }

  /** Up to `limit` events, newest first, below the sequence `before`. */
  async search(
    organizationId: string,
    filter: AuditFilter,
    before: string | undefined,
    limit: number,
  ): Promise<ChainedEvent[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(AuditEventEntity, 'event')
      .where('event.organization_id = :organizationId', { organizationId })
      .orderBy('event.sequence', 'DESC')
      .limit(limit);
    if (before !== undefined) query.andWhere('event.sequence < :before', { before });
    if (filter.agentId !== undefined) {
      query.andWhere(
        `(event.actor = :agentId OR (event.target_type = 'agent' AND event.target_id = :agentId::text)
          OR event.details ->> 'agentId' = :agentId::text)`,
        { agentId: filter.agentId },
      );
    }
    if (filter.action !== undefined) query.andWhere('event.action = :action', { action: filter.action });
    if (filter.outcome !== undefined) query.andWhere('event.outcome = :outcome', { outcome: filter.outcome });
    if (filter.from !== undefined) query.andWhere('event.occurred_at >= :from', { from: filter.from });
    if (filter.to !== undefined) query.andWhere('event.occurred_at < :to', { to: filter.to });
    return (await query.getMany()).map(toChainedEvent);
  }

  /** One event, or null. */
  async find(organizationId: string, eventId: string): Promise<ChainedEvent | null> {
    const entity = await this.unitOfWork.reader.findOneBy(AuditEventEntity, { organizationId, eventId });
    return entity === null ? null : toChainedEvent(entity);
  }

  /** The organization whose chain has the event, for the operator; null where there is none. */
  async organizationOf(eventId: string): Promise<string | null> {
    // One look into the index an organization; without the organization no index leads to the event.
    const rows = await this.unitOfWork.reader.query<{ organization_id: string }[]>(
      `SELECT o.organization_id FROM organizations o CROSS JOIN LATERAL (
          SELECT 1 FROM audit_events e WHERE e.organization_id = o.organization_id AND e.event_id = $1 LIMIT 1) found
        LIMIT 1`,
      [eventId],
    );
    return rows[0]?.organization_id ?? null;
  }

  /** Up to `limit` events from `sequence` on, oldest first. */
  async readForward(organizationId: string, sequence: number, limit: number): Promise<ChainedEvent[]> {
    const rows = await this.unitOfWork.reader.query<EventRow[]>(
      `SELECT ${EVENT_COLUMNS} FROM audit_events WHERE organization_id = $1 AND sequence >= $2
        ORDER BY sequence LIMIT $3`,
      [organizationId, sequence, limit],
    );
    return rows.map(rowToEvent);
  }

  /** What links up to `limit` events from `sequence` on, oldest first. */
  async readLinks(
    reader: EntityManager,
    organizationId: string,
    sequence: number,
    limit: number,
  ): Promise<ChainLink[]> {
    const rows = await reader.query<{ sequence: string; previous_hash: Buffer; hash: Buffer; occurred_at: Date }[]>(
      `SELECT sequence, previous_hash, hash, occurred_at FROM audit_events WHERE organization_id = $1 AND sequence >= $2
        ORDER BY sequence LIMIT $3`,
      [organizationId, sequence, limit],
    );
    return rows.map((row) => ({
      sequence: Number(row.sequence),
      previousHash: row.previous_hash,
      hash: row.hash,
      occurredAt: row.occurred_at,
    }));
  }

  /** The head of the chain as its ledger has it. */
  async head(organizationId: string, reader: EntityManager = this.unitOfWork.reader): Promise<ChainHead | null> {
    const rows = await reader.query<{ sequence: string; head_hash: Buffer }[]>(
      'SELECT sequence, head_hash FROM organization_ledgers WHERE organization_id = $1',
      [organizationId],
    );
    const row = rows[0];
    return row === undefined ? null : { sequence: Number(row.sequence), hash: row.head_hash.toString('hex') };
  }
}

/**
 * The parameters of `append_audit_events`, in its order: an array a column.
 *
 * @param events events in the order in which they are to be chained
 */
export function auditColumns(events: readonly RenderedEvent[]): unknown[][] {
  return [
    events.map(({ event }) => event.organizationId),
    events.map(({ head }) => head),
    events.map(({ tail }) => tail),
    events.map(({ eventId }) => eventId),
    events.map(({ event }) => event.action),
    events.map(({ event }) => event.outcome),
    events.map(({ event }) => event.actor),
    events.map(({ event }) => event.target.type),
    events.map(({ event }) => event.target.id),
    events.map(({ event }) => event.origin.ip),
    events.map(({ event }) => event.origin.userAgent),
    events.map(({ details }) => details),
    events.map(({ occurredAt }) => occurredAt),
  ];
}

function rowToEvent(row: EventRow): ChainedEvent {
  return {
    eventId: row.event_id,
    sequence: Number(row.sequence),
    organizationId: row.organization_id,
    action: row.action,
    outcome: row.outcome,
    actor: row.actor,
    target: { type: row.target_type, id: row.target_id },
    ip: row.ip,
    userAgent: row.user_agent,
    details: row.details,
    occurredAt: row.occurred_at.toISOString(),
    previousHash: row.previous_hash.toString('hex'),
    hash: row.hash.toString('hex'),
  };
}

function toChainedEvent(entity: AuditEventEntity): ChainedEvent {
  return {
    eventId: entity.eventId,
    sequence: Number(entity.sequence),
    organizationId: entity.organizationId,
    action: entity.action,
    outcome: entity.outcome,
    actor: entity.actor,
    target: { type: entity.targetType, id: entity.targetId },
    ip: entity.ip,
    userAgent: entity.userAgent,
    details: entity.details,
    occurredAt: entity.occurredAt.toISOString(),
    previousHash: entity.previousHash.toString('hex'),
    hash: entity.hash.toString('hex'),
  };
}

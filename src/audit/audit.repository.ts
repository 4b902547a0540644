import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { FAILING_ACTIONS } from '../platform/kernel/audit-event.js';
import type { ChainedEvent, RenderedEvent } from '../platform/kernel/canonical-event.js';
import { AuditEventEntity } from './audit-event.entity.js';
import { searchStatement, type AuditFilter, type SequenceBounds } from './audit-search.js';

/** The head of a chain. */
export interface ChainHead {
  readonly sequence: number;
  readonly hash: string;
}

/** An event's place in its chain. */
export interface ChainPlace extends ChainHead {
  readonly eventId: string;
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

/** Events that may wait for the tree; with more of them a search by time looks at all. */
const MAX_TAIL = 5000;

const APPEND = `SELECT event_sequence, event_hash FROM append_audit_events($1::uuid[], $2::text[], $3::text[],
  $4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[],
  $13::timestamptz[])`;

/** All SQL on the audit chain. */
@Injectable()
export class AuditRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /**
   * Appends events within a transaction; their places are final when it commits.
   *
   * @returns the place of each, in the order given
   */
  async append(transaction: EntityManager, events: readonly RenderedEvent[]): Promise<ChainPlace[]> {
    const rows = await transaction.query<{ event_sequence: string; event_hash: Buffer }[]>(
      APPEND,
      auditColumns(events),
    );
    return events.map(({ eventId }, index) => {
      const row = rows[index];
      if (row === undefined) throw new Error('an event was appended and has no place');
      return { eventId, sequence: Number(row.event_sequence), hash: row.event_hash.toString('hex') };
    });
  }

  /** Up to `limit` events, newest first, below the sequence `before`. */
  async search(
    organizationId: string,
    filter: AuditFilter,
    before: string | undefined,
    limit: number,
  ): Promise<ChainedEvent[]> {
    // There is none, and no index says so.
    if (filter.outcome === 'failure' && !mayFail(filter.action)) return [];
    const bounds = await this.boundsOf(organizationId, filter);
    const { text, values } = searchStatement(EVENT_COLUMNS, organizationId, filter, bounds, before, limit);
    return (await this.unitOfWork.reader.query<EventRow[]>(text, [...values])).map(rowToEvent);
  }

  /**
   * Between which sequences events of the instants asked for can stand. The audit tree knows of each 256 events when they
   * occurred; of those that it has not taken in yet, the last are looked at.
   */
  private async boundsOf(organizationId: string, { from, to }: AuditFilter): Promise<SequenceBounds> {
    if (from === undefined && to === undefined) return { first: null, last: null };
    const rows = await this.unitOfWork.reader.query<{ first: string | null; last: string | null }[]>(
      `WITH tree AS MATERIALIZED (SELECT size FROM audit_trees WHERE organization_id = $1),
        tail AS MATERIALIZED (
          SELECT count(*) AS events, min(t.occurred_at) AS oldest_at FROM (
            SELECT e.occurred_at FROM audit_events e WHERE e.organization_id = $1 AND e.sequence > (SELECT size FROM tree)
              ORDER BY e.sequence LIMIT ${MAX_TAIL}) t)
        SELECT
          CASE WHEN $2::timestamptz IS NULL THEN NULL ELSE coalesce((
            SELECT t.tile * 256 + 1 FROM audit_tree_tiles t WHERE t.organization_id = $1 AND t.level = 0
              AND t.newest_at >= $2::timestamptz ORDER BY t.tile LIMIT 1), tree.size + 1) END AS first,
          CASE WHEN $3::timestamptz IS NULL OR tail.events = ${MAX_TAIL} OR tail.oldest_at < $3::timestamptz THEN NULL
            ELSE coalesce((
              SELECT t.tile * 256 + 256 FROM audit_tree_tiles t WHERE t.organization_id = $1 AND t.level = 0
                AND t.oldest_at < $3::timestamptz ORDER BY t.tile DESC LIMIT 1), 0) END AS last
        FROM tree CROSS JOIN tail`,
      [organizationId, from === undefined ? null : new Date(from), to === undefined ? null : new Date(to)],
    );
    const bound = (value: string | null | undefined) => (value === null || value === undefined ? null : Number(value));
    return { first: bound(rows[0]?.first), last: bound(rows[0]?.last) };
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

  /**
   * Up to `limit` events whose actions match, oldest first, after the sequence `after` and up to `upTo`.
   *
   * @param patterns names of actions, families as `agent.*`, or `*`; `token.issued` counts only where it is named
   */
  async readMatching(
    organizationId: string,
    after: number,
    upTo: number,
    patterns: readonly string[],
    limit: number,
  ): Promise<ChainedEvent[]> {
    const entities = await this.unitOfWork.reader
      .createQueryBuilder(AuditEventEntity, 'event')
      .where('event.organization_id = :organizationId AND event.sequence > :after AND event.sequence <= :upTo', {
        organizationId,
        after,
        upTo,
      })
      .andWhere('audit_action_matches(event.action, :patterns)', { patterns })
      .orderBy('event.sequence', 'ASC')
      .limit(limit)
      .getMany();
    return entities.map(toChainedEvent);
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

function mayFail(action: string | undefined): boolean {
  return action === undefined || FAILING_ACTIONS.some((name) => name === action);
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

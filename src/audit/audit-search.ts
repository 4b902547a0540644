import { AUDIT_ACTIONS, FAILING_ACTIONS } from '../platform/kernel/audit-event.js';

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

/** The first and the last sequence that a search has to look at. */
export interface SequenceBounds {
  readonly first: number | null;
  readonly last: number | null;
}

/** A statement and its parameters. */
export interface SearchStatement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/**
 * The SQL of one page of the log, newest first. Each way in which an event may concern an agent is a scan of an index of
 * its own that ends after `limit` rows; the newest of all are the page. An agent's acts are read action by action, so
 * that its rare ones are not searched among a million tokens.
 *
 * @param columns the columns of an event
 * @param bounds what is known about the sequences of the instants in `filter`
 * @param before the page ends before this sequence
 */
export function searchStatement(
  columns: string,
  organizationId: string,
  filter: AuditFilter,
  bounds: SequenceBounds,
  before: string | undefined,
  limit: number,
): SearchStatement {
  const values: unknown[] = [organizationId, limit];
  const place = (value: unknown) => `$${values.push(value)}`;
  const conditions = ['e.organization_id = $1'];
  if (before !== undefined) conditions.push(`e.sequence < ${place(before)}`);
  if (bounds.first !== null) conditions.push(`e.sequence >= ${place(bounds.first)}`);
  if (bounds.last !== null) conditions.push(`e.sequence <= ${place(bounds.last)}`);
  if (filter.action !== undefined) {
    conditions.push(`e.action = ${place(filter.action)}`);
    // Written out, so that the index that leaves these rows out may be used.
    if (filter.action !== 'token.issued') conditions.push("e.action <> 'token.issued'");
  }
  // Written out for the same reason; both come from a fixed list.
  if (filter.outcome !== undefined)
    conditions.push(`e.outcome = '${filter.outcome === 'failure' ? 'failure' : 'success'}'`);
  if (filter.from !== undefined) conditions.push(`e.occurred_at >= ${place(new Date(filter.from))}::timestamptz`);
  if (filter.to !== undefined) conditions.push(`e.occurred_at < ${place(new Date(filter.to))}::timestamptz`);
  /* eslint-disable no-restricted-syntax -- of fixed texts; every value has its place among the parameters */
  const scan = (...more: string[]) =>
    `SELECT ${columns} FROM audit_events e WHERE ${[...conditions, ...more].join(' AND ')}
      ORDER BY e.sequence DESC LIMIT $2`;
  if (filter.agentId === undefined) return { text: scan(), values };

  const agent = place(filter.agentId.toLowerCase());
  const byActor = `e.actor = ${agent}::uuid`;
  // What never fails is not looked through for a failure.
  const actions = filter.outcome === 'failure' ? FAILING_ACTIONS : AUDIT_ACTIONS;
  const acted =
    filter.action === undefined
      ? `SELECT acts.* FROM unnest(${place(actions)}::text[]) AS a (name)
          CROSS JOIN LATERAL (${scan(byActor, 'e.action = a.name')}) acts`
      : scan(byActor);
  const ways = [
    acted,
    scan("e.target_type = 'agent'", `e.target_id = ${agent}::text`),
    scan("e.details ? 'agentId'", `e.details ->> 'agentId' = ${agent}::text`),
  ];
  return {
    text: `SELECT DISTINCT ON (sequence) * FROM (${ways.map((way) => `(${way})`).join(' UNION ALL ')}) found
      ORDER BY sequence DESC LIMIT $2`,
    values,
  };
  /* eslint-enable no-restricted-syntax */
}

import { Injectable } from '@nestjs/common';
import { StatementPool, type NamedStatement } from '../platform/database/statement-pool.js';
import type { DeliveryAttempt, DeliveryStatus } from './delivery.entity.js';
import type { LanePlace } from './lane-feed.js';
import { Turnstile } from './turnstile.js';

/** Connections of the pool that the lanes of one replica use at most, so that the token path always finds one. */
const CONNECTIONS = 2;
/** How long a lane is leased: a replica that dies holds it up for so long, by the database's clock. */
export const LEASE_SECONDS = 10;
/** How many events of a chain that concern nobody one statement passes over. */
const WINDOW = 10_000;

/** A lane that this replica serves. */
export interface LeasedLane extends LanePlace {
  /** Whose lease it is. Of this lease alone: who served the lane before can record nothing any more. */
  readonly owner: string;
  readonly organizationId: string;
  readonly webhookId: string;
  /** When the last success was followed by a failure; null while there is no failure. */
  readonly failingSince: Date | null;
}

/** The first attempt at an event of the chain or a checkpoint. */
export interface MessageRecord {
  readonly slot: number;
  readonly deliveryId: string;
  readonly messageId: string;
  readonly event: string;
  /** The event's place in the chain; null for a checkpoint, which has none. */
  readonly sequence: number | null;
  readonly status: DeliveryStatus;
  readonly attempt: DeliveryAttempt;
  readonly nextAttemptAt: Date | null;
  /** When it happened: ISO 8601, UTC. */
  readonly createdAt: string;
  /** What was sent, where it is to be kept. */
  readonly body: string | null;
}

/** Something that is due: a retry, a test event, a redelivery by hand. */
export interface DueDelivery {
  readonly slot: number;
  readonly deliveryId: string;
  readonly eventId: string;
  readonly body: string;
  /** How often it has failed since it was put into the queue. */
  readonly failures: number;
}

/** The outcome of an attempt from the queue. */
export interface AttemptRecord {
  readonly slot: number;
  readonly deliveryId: string;
  readonly status: DeliveryStatus;
  readonly attempt: DeliveryAttempt;
  readonly nextAttemptAt: Date | null;
  readonly failures: number;
}

const LEASE = {
  name: 'lease_webhook_lanes',
  text: `SELECT * FROM lease_webhook_lanes($1, $2, make_interval(secs => $3), $4, $5, $6::uuid[], $7, $8)`,
};
const RENEW = {
  name: 'renew_webhook_lanes',
  text: `UPDATE webhook_lanes SET lease_until = clock_timestamp() + make_interval(secs => $2)
    WHERE lease_owner = ANY ($1::uuid[]) AND webhook_id = ANY ($3::uuid[]) AND lease_until > clock_timestamp()
    RETURNING lease_owner, webhook_id`,
};
const RECORD_MESSAGES = {
  name: 'record_webhook_messages',
  text: 'SELECT record_webhook_messages($1, $2, $3, $4, $5, $6, $7, $8::json) AS recorded',
};
const RECORD_ATTEMPT = {
  name: 'record_webhook_attempt',
  text: 'SELECT record_webhook_attempt($1, $2, $3, $4, $5::smallint, $6, $7, $8::jsonb, $9, $10) AS recorded',
};
const RELEASE = { name: 'release_webhook_lane', text: 'SELECT release_webhook_lane($1, $2, $3, $4)' };
const PASSED = {
  name: 'passed_webhook_lanes',
  text: `SELECT least(min(sequence), $2::bigint) AS passed FROM webhook_lanes WHERE organization_id = $1 AND active`,
};
const DUE = {
  name: 'due_webhook_deliveries',
  text: `SELECT slot, delivery_id, event_id, body, failures FROM webhook_queue
    WHERE organization_id = $1 AND webhook_id = $2 AND due_at <= $3 ORDER BY due_at LIMIT $4`,
};

/** All SQL of the lanes: who serves them, how far they are, what came of each attempt. */
@Injectable()
export class LanesRepository {
  private readonly turnstile = new Turnstile(CONNECTIONS);

  constructor(private readonly statements: StatementPool) {}

  /** Runs what a lane reads by other ways than this repository under the same bound on connections. */
  bounded<T>(work: () => Promise<T>): Promise<T> {
    return this.turnstile.run(work);
  }

  /**
   * Leases lanes that have something to send.
   *
   * @param owner whose leases they are to be, used for nothing else before
   * @param now what is due by then counts
   * @param limit how many at most
   * @param perOrganization how many of one organization at most, those in `held` counted
   * @param held the organizations of the lanes that this replica serves already, one entry a lane
   * @param failing how many lanes at most whose receiver failed the last time
   */
  async claim(
    owner: string,
    now: Date,
    limit: number,
    perOrganization: number,
    held: readonly string[],
    failing: number,
  ): Promise<LeasedLane[]> {
    const rows = await this.statements.query<{
      organization_id: string;
      webhook_id: string;
      sequence: string;
      checkpoint_sequence: string | null;
      failing_since: Date | null;
    }>(LEASE, [owner, now, LEASE_SECONDS, limit, perOrganization, held, WINDOW, failing]);
    return rows.map((row) => ({
      owner,
      organizationId: row.organization_id,
      webhookId: row.webhook_id,
      sequence: Number(row.sequence),
      checkpoint: row.checkpoint_sequence === null ? null : Number(row.checkpoint_sequence),
      failingSince: row.failing_since,
    }));
  }

  /** Renews the leases of lanes. Answers with those that are still held. */
  async renew(lanes: readonly LeasedLane[]): Promise<ReadonlySet<LeasedLane>> {
    const owners = [...new Set(lanes.map(({ owner }) => owner))];
    const values = [owners, LEASE_SECONDS, lanes.map(({ webhookId }) => webhookId)];
    const rows = await this.statements.query<{ lease_owner: string; webhook_id: string }>(RENEW, values);
    const held = new Set(rows.map((row) => `${row.lease_owner} ${row.webhook_id}`));
    return new Set(lanes.filter(({ owner, webhookId }) => held.has(`${owner} ${webhookId}`)));
  }

  /**
   * Records first attempts, in the order in which they were made, and moves the lane to `place`.
   *
   * @returns false where the lease has passed to somebody else: then nothing was recorded
   */
  async recordMessages(
    { organizationId, webhookId, owner }: LeasedLane,
    place: LanePlace,
    failingSince: Date | null,
    records: readonly MessageRecord[],
  ): Promise<boolean> {
    const due = records.map(({ nextAttemptAt }) => nextAttemptAt?.getTime() ?? Infinity);
    const firstDue = Math.min(...due);
    const values = [
      ...[organizationId, webhookId, owner, place.sequence, place.checkpoint, failingSince],
      Number.isFinite(firstDue) ? new Date(firstDue) : null,
      JSON.stringify(records.map(toRow)),
    ];
    return this.bounded(() => this.recorded(RECORD_MESSAGES, values));
  }

  /**
   * Records an attempt from the queue.
   *
   * @returns false where the lease has passed to somebody else: then nothing was recorded
   */
  async recordAttempt(
    lane: LeasedLane,
    failingSince: Date | null,
    { slot, deliveryId, status, attempt, nextAttemptAt, failures }: AttemptRecord,
  ): Promise<boolean> {
    const values = [
      ...[lane.organizationId, lane.webhookId, lane.owner, failingSince, slot, deliveryId, status],
      ...[JSON.stringify([attempt]), nextAttemptAt, failures],
    ];
    return this.bounded(() => this.recorded(RECORD_ATTEMPT, values));
  }

  /** Up to `limit` things of a subscription that are due, those due longest first. */
  async due(lane: LeasedLane, now: Date, limit: number): Promise<DueDelivery[]> {
    const rows = await this.bounded(() =>
      this.statements.query<{
        slot: number;
        delivery_id: string;
        event_id: string;
        body: string;
        failures: number;
      }>(DUE, [lane.organizationId, lane.webhookId, now, limit]),
    );
    return rows.map(({ slot, delivery_id, event_id, body, failures }) => ({
      slot,
      deliveryId: delivery_id,
      eventId: event_id,
      body,
      failures,
    }));
  }

  /** Gives a lane back, at `sequence` of the chain. Does nothing where the lease has passed to somebody else. */
  async release(lane: LeasedLane, sequence: number): Promise<void> {
    const values = [lane.organizationId, lane.webhookId, lane.owner, sequence];
    await this.bounded(() => this.statements.query(RELEASE, values));
  }

  /** How far every active subscription of an organization is done with its chain, at most `through`. */
  async passedThrough(organizationId: string, through: number): Promise<number> {
    const values = [organizationId, through];
    const [row] = await this.bounded(() => this.statements.query<{ passed: string }>(PASSED, values));
    return Number(row?.passed ?? 0);
  }

  private async recorded(statement: NamedStatement, values: readonly unknown[]): Promise<boolean> {
    const [row] = await this.statements.query<{ recorded: boolean }>(statement, values);
    return row?.recorded === true;
  }
}

/** A record in the words of the database's function. */
function toRow(record: MessageRecord): object {
  const { slot, deliveryId, messageId, event, sequence, body, status, attempt, nextAttemptAt, createdAt } = record;
  return {
    ...{ slot, delivery: deliveryId, message: messageId, event, sequence, body, status, attempts: [attempt] },
    ...{ next: nextAttemptAt, created: createdAt },
  };
}

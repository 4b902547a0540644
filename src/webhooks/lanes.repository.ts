import { Injectable } from '@nestjs/common';
import { StatementPool } from '../platform/database/statement-pool.js';
import type { DeliveryAttempt, DeliveryStatus } from './delivery.entity.js';
import { Turnstile } from './turnstile.js';

/** Connections of the pool that the lanes of one replica use at most, so that the token path always finds one. */
const CONNECTIONS = 2;
/** How long a lane is leased: a replica that dies holds it up for so long, by the database's clock. */
export const LEASE_SECONDS = 10;
/** How many events of a chain that concern nobody one statement passes over. */
const WINDOW = 10_000;

/** A lane that this replica serves. */
export interface LeasedLane {
  readonly organizationId: string;
  readonly webhookId: string;
  /** What was delivered, failed or does not concern the subscription, up to this place of the chain. */
  readonly sequence: number;
  /** When the last success was followed by a failure; null while there is no failure. */
  readonly failingSince: Date | null;
}

/** The first attempt at an event of the chain. */
export interface EventRecord {
  readonly slot: number;
  readonly deliveryId: string;
  readonly eventId: string;
  readonly event: string;
  readonly sequence: number;
  readonly status: DeliveryStatus;
  readonly attempt: DeliveryAttempt;
  readonly nextAttemptAt: Date | null;
  readonly createdAt: Date;
  readonly body: string;
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

const CLAIM = {
  name: 'claim_webhook_lanes',
  text: `SELECT * FROM claim_webhook_lanes($1, $2, make_interval(secs => $3), $4, $5, $6::uuid[], $7)`,
};
const RENEW = {
  name: 'renew_webhook_lanes',
  text: `UPDATE webhook_lanes SET lease_until = clock_timestamp() + make_interval(secs => $2)
    WHERE lease_owner = $1 AND webhook_id = ANY ($3::uuid[]) AND lease_until > clock_timestamp()
    RETURNING webhook_id`,
};
const RECORD_EVENTS = {
  name: 'record_webhook_events',
  text: `SELECT record_webhook_events($1, $2, $3, $4, $5, $6::smallint[], $7::uuid[], $8::uuid[], $9::text[],
    $10::bigint[], $11::text[], $12::jsonb[], $13::timestamptz[], $14::timestamptz[], $15::text[]) AS recorded`,
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
   * @param owner this replica
   * @param now what is due by then counts
   * @param limit how many at most
   * @param perOrganization how many of one organization at most, those in `held` counted
   * @param held the organizations of the lanes that this replica serves already, one entry a lane
   */
  async claim(
    owner: string,
    now: Date,
    limit: number,
    perOrganization: number,
    held: readonly string[],
  ): Promise<LeasedLane[]> {
    const rows = await this.statements.query<{
      organization_id: string;
      webhook_id: string;
      sequence: string;
      failing_since: Date | null;
    }>(CLAIM, [owner, now, LEASE_SECONDS, limit, perOrganization, held, WINDOW]);
    return rows.map((row) => ({
      organizationId: row.organization_id,
      webhookId: row.webhook_id,
      sequence: Number(row.sequence),
      failingSince: row.failing_since,
    }));
  }

  /** Renews the leases of a replica on the lanes of subscriptions. Answers with those that it still holds. */
  async renew(owner: string, webhookIds: readonly string[]): Promise<ReadonlySet<string>> {
    const rows = await this.statements.query<{ webhook_id: string }>(RENEW, [owner, LEASE_SECONDS, webhookIds]);
    return new Set(rows.map((row) => row.webhook_id));
  }

  /**
   * Records first attempts, oldest event first, and moves the lane to `sequence`.
   *
   * @returns false where this replica no longer holds the lane: then nothing was recorded
   */
  async recordEvents(
    owner: string,
    lane: LeasedLane,
    sequence: number,
    failingSince: Date | null,
    records: readonly EventRecord[],
  ): Promise<boolean> {
    const values = [
      ...[lane.organizationId, lane.webhookId, owner, sequence, failingSince],
      records.map(({ slot }) => slot),
      records.map(({ deliveryId }) => deliveryId),
      records.map(({ eventId }) => eventId),
      records.map(({ event }) => event),
      records.map((record) => record.sequence),
      records.map(({ status }) => status),
      records.map(({ attempt }) => JSON.stringify([attempt])),
      records.map(({ nextAttemptAt }) => nextAttemptAt),
      records.map(({ createdAt }) => createdAt),
      // Only what is to be sent again is kept.
      records.map(({ body, nextAttemptAt }) => (nextAttemptAt === null ? null : body)),
    ];
    return this.bounded(() => this.recorded(RECORD_EVENTS, values));
  }

  /**
   * Records an attempt from the queue.
   *
   * @returns false where this replica no longer holds the lane: then nothing was recorded
   */
  async recordAttempt(
    owner: string,
    lane: LeasedLane,
    failingSince: Date | null,
    { slot, deliveryId, status, attempt, nextAttemptAt, failures }: AttemptRecord,
  ): Promise<boolean> {
    const values = [
      ...[lane.organizationId, lane.webhookId, owner, failingSince, slot, deliveryId, status],
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

  /** Gives a lane back, at `sequence` of the chain. Does nothing where this replica no longer holds it. */
  async release(owner: string, lane: LeasedLane, sequence: number): Promise<void> {
    const values = [lane.organizationId, lane.webhookId, owner, sequence];
    await this.bounded(() => this.statements.query(RELEASE, values));
  }

  /** How far every active subscription of an organization is done with its chain, at most `through`. */
  async passedThrough(organizationId: string, through: number): Promise<number> {
    const values = [organizationId, through];
    const [row] = await this.bounded(() => this.statements.query<{ passed: string }>(PASSED, values));
    return Number(row?.passed ?? 0);
  }

  private async recorded(statement: typeof RECORD_EVENTS, values: readonly unknown[]): Promise<boolean> {
    const [row] = await this.statements.query<{ recorded: boolean }>(statement, values);
    return row?.recorded === true;
  }
}

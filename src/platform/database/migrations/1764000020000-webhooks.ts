import type { MigrationInterface, QueryRunner } from 'typeorm';
import { DELIVERY_SLOTS, deliverySlotTable } from '../delivery-slots.js';

/** Webhook subscriptions, their place in the audit chain, what waits to be sent again, and the history. */
export class Webhooks1764000020000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(SUBSCRIPTIONS);
    await runner.query(QUEUE);
    await runner.query(HISTORY);
    for (const slot of DELIVERY_SLOTS) {
      const table = deliverySlotTable(slot);
      await runner.query(`CREATE TABLE ${table} PARTITION OF webhook_deliveries FOR VALUES IN (${slot})`);
    }
    await runner.query(EVENT_MATCHES);
    await runner.query(CLAIM_LANES);
    await runner.query(RECORD_EVENTS);
    await runner.query(RECORD_ATTEMPT);
    await runner.query(RELEASE_LANE);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * A lane is where a subscription stands in the chain (`sequence`: what is delivered, failed or does not concern it), and
 * which replica serves it (a lease, by the database's clock). It changes with every delivery, so it is a narrow row of
 * its own with room for in-page updates.
 */
const SUBSCRIPTIONS = `
CREATE TABLE webhooks (
  organization_id uuid NOT NULL REFERENCES organizations (organization_id),
  webhook_id uuid NOT NULL CONSTRAINT webhooks_webhook_id_key UNIQUE,
  url text NOT NULL,
  events text[] NOT NULL,
  description text,
  status text NOT NULL CHECK (status IN ('active', 'disabled')),
  disabled_reason text CHECK (disabled_reason IN ('requested', 'gone', 'failing')),
  sealed_secret bytea NOT NULL,
  sealed_previous_secret bytea,
  previous_secret_expires_at timestamptz(3),
  created_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, webhook_id),
  CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX webhooks_newest_first ON webhooks (organization_id, created_at DESC, webhook_id DESC);

CREATE TABLE webhook_lanes (
  organization_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  active boolean NOT NULL,
  sequence bigint NOT NULL,
  next_due_at timestamptz(3),
  failing_since timestamptz(3),
  lease_owner uuid,
  lease_until timestamptz,
  served_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (organization_id, webhook_id),
  FOREIGN KEY (organization_id, webhook_id) REFERENCES webhooks (organization_id, webhook_id) ON DELETE CASCADE
) WITH (fillfactor = 40);
`;

/**
 * What is to be sent outside the order of the chain: retries, test events, redeliveries by hand. It may be long, so it
 * hangs on no foreign key: what a subscription leaves behind is swept away in small pieces.
 */
const QUEUE = `
CREATE TABLE webhook_queue (
  organization_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  slot smallint NOT NULL,
  delivery_id uuid NOT NULL,
  event_id uuid NOT NULL,
  event text NOT NULL,
  body text NOT NULL,
  failures integer NOT NULL,
  due_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, webhook_id, delivery_id)
);
CREATE INDEX webhook_queue_due ON webhook_queue (organization_id, webhook_id, due_at);
`;

/** `slot` is the day of `created_at` in the ring; what is no event of the chain has no `sequence` but its `body`. */
const HISTORY = `
CREATE TABLE webhook_deliveries (
  organization_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  slot smallint NOT NULL,
  delivery_id uuid NOT NULL,
  event_id uuid NOT NULL,
  event text NOT NULL,
  sequence bigint,
  body text,
  status text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
  attempts jsonb NOT NULL,
  next_attempt_at timestamptz(3),
  created_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, webhook_id, slot, delivery_id),
  CHECK ((sequence IS NULL) = (body IS NOT NULL)),
  CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL))
) PARTITION BY LIST (slot);
`;

/** Whether patterns name an action: outright, by its family, or all; `token.issued` only outright. */
const EVENT_MATCHES = `
CREATE FUNCTION audit_action_matches(p_action text, p_patterns text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_action = ANY (p_patterns) OR (p_action <> 'token.issued'
  AND ('*' = ANY (p_patterns) OR split_part(p_action, '.', 1) || '.*' = ANY (p_patterns)));
`;

/**
 * Leases lanes that have something to send to one replica, those longest not served first. A lane that is behind its
 * chain but has no event that concerns it is brought forward on the way, `p_window` events at most.
 */
const CLAIM_LANES = `
CREATE FUNCTION claim_webhook_lanes(
  p_owner uuid, p_now timestamptz, p_lease interval, p_limit integer, p_per_organization integer,
  p_organizations uuid[], p_window integer
) RETURNS TABLE (organization_id uuid, webhook_id uuid, sequence bigint, failing_since timestamptz)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  r record;
  v_upto bigint;
  v_taken integer := 0;
  v_held uuid[] := p_organizations;
BEGIN
  FOR r IN
    SELECT l.organization_id, l.webhook_id, l.sequence, l.failing_since, g.sequence AS head, w.events,
        coalesce(l.next_due_at <= p_now, false) AS due
      FROM webhook_lanes l
      JOIN organization_ledgers g ON g.organization_id = l.organization_id
      JOIN webhooks w ON w.organization_id = l.organization_id AND w.webhook_id = l.webhook_id
      WHERE l.active AND (l.lease_until IS NULL OR l.lease_until < clock_timestamp())
        AND (l.sequence < g.sequence OR l.next_due_at <= p_now)
      ORDER BY l.served_at LIMIT 1000
      FOR UPDATE OF l SKIP LOCKED
  LOOP
    v_upto := least(r.head, r.sequence + p_window);
    IF NOT r.due AND NOT EXISTS (
      SELECT 1 FROM audit_events e WHERE e.organization_id = r.organization_id AND e.sequence > r.sequence
        AND e.sequence <= v_upto AND audit_action_matches(e.action, r.events))
    THEN
      UPDATE webhook_lanes l SET sequence = v_upto
        WHERE l.organization_id = r.organization_id AND l.webhook_id = r.webhook_id;
      CONTINUE;
    END IF;
    CONTINUE WHEN v_taken >= p_limit
      OR cardinality(array_positions(v_held, r.organization_id)) >= p_per_organization;
    v_taken := v_taken + 1;
    v_held := v_held || r.organization_id;
    UPDATE webhook_lanes l SET lease_owner = p_owner, lease_until = clock_timestamp() + p_lease
      WHERE l.organization_id = r.organization_id AND l.webhook_id = r.webhook_id;
    organization_id := r.organization_id;
    webhook_id := r.webhook_id;
    sequence := r.sequence;
    failing_since := r.failing_since;
    RETURN NEXT;
  END LOOP;
END
$$;
`;

/**
 * Records first attempts of events of the chain and moves the lane's place behind them, all or nothing, and only for the
 * replica that holds the lane.
 */
const RECORD_EVENTS = `
CREATE FUNCTION record_webhook_events(
  p_organization uuid, p_webhook uuid, p_owner uuid, p_sequence bigint, p_failing_since timestamptz,
  p_slots smallint[], p_deliveries uuid[], p_event_ids uuid[], p_events text[], p_sequences bigint[],
  p_statuses text[], p_attempts jsonb[], p_next timestamptz[], p_created timestamptz[], p_bodies text[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  UPDATE webhook_lanes l SET sequence = p_sequence, failing_since = p_failing_since,
      next_due_at = least(l.next_due_at, (SELECT min(t.next) FROM unnest(p_next) AS t (next)))
    WHERE l.organization_id = p_organization AND l.webhook_id = p_webhook AND l.lease_owner = p_owner;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO webhook_deliveries (organization_id, webhook_id, slot, delivery_id, event_id, event, sequence, status,
      attempts, next_attempt_at, created_at)
    SELECT p_organization, p_webhook, t.*
      FROM unnest(p_slots, p_deliveries, p_event_ids, p_events, p_sequences, p_statuses, p_attempts, p_next,
        p_created) AS t;
  INSERT INTO webhook_queue (organization_id, webhook_id, slot, delivery_id, event_id, event, body, failures, due_at)
    SELECT p_organization, p_webhook, t.slot, t.delivery, t.event_id, t.event, t.body, 1, t.next
      FROM unnest(p_slots, p_deliveries, p_event_ids, p_events, p_bodies, p_next)
        AS t (slot, delivery, event_id, event, body, next)
      WHERE t.next IS NOT NULL;
  RETURN true;
END
$$;
`;

/** Records one attempt from the queue: the delivery is done, failed for good, or due again; for the lane's holder only. */
const RECORD_ATTEMPT = `
CREATE FUNCTION record_webhook_attempt(
  p_organization uuid, p_webhook uuid, p_owner uuid, p_failing_since timestamptz, p_slot smallint, p_delivery uuid,
  p_status text, p_attempt jsonb, p_next timestamptz, p_failures integer
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  UPDATE webhook_lanes l SET failing_since = p_failing_since, next_due_at = least(l.next_due_at, p_next)
    WHERE l.organization_id = p_organization AND l.webhook_id = p_webhook AND l.lease_owner = p_owner;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF p_next IS NULL THEN
    DELETE FROM webhook_queue q
      WHERE q.organization_id = p_organization AND q.webhook_id = p_webhook AND q.delivery_id = p_delivery;
  ELSE
    UPDATE webhook_queue q SET failures = p_failures, due_at = p_next
      WHERE q.organization_id = p_organization AND q.webhook_id = p_webhook AND q.delivery_id = p_delivery;
  END IF;
  UPDATE webhook_deliveries d SET status = p_status, attempts = d.attempts || p_attempt, next_attempt_at = p_next
    WHERE d.organization_id = p_organization AND d.webhook_id = p_webhook AND d.slot = p_slot
      AND d.delivery_id = p_delivery;
  RETURN true;
END
$$;
`;

/**
 * Gives a lane back. Locks it first and looks for what is due afterwards, in a statement of its own: whoever puts
 * something into the queue locks the lane too, so nothing falls between.
 */
const RELEASE_LANE = `
CREATE FUNCTION release_webhook_lane(p_organization uuid, p_webhook uuid, p_owner uuid, p_sequence bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_due timestamptz;
BEGIN
  PERFORM 1 FROM webhook_lanes l
    WHERE l.organization_id = p_organization AND l.webhook_id = p_webhook AND l.lease_owner = p_owner FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT min(q.due_at) INTO v_due FROM webhook_queue q
    WHERE q.organization_id = p_organization AND q.webhook_id = p_webhook;
  UPDATE webhook_lanes l SET sequence = greatest(l.sequence, p_sequence), next_due_at = v_due, lease_owner = NULL,
      lease_until = NULL, served_at = clock_timestamp()
    WHERE l.organization_id = p_organization AND l.webhook_id = p_webhook;
END
$$;
`;

import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Webhooks follow the checkpoints too. The functions are new ones beside those that the version before calls: that one
 * goes on with the events, and leaves the checkpoints to replicas of this one.
 */
export class WebhookCheckpoints1764000110000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(PLACE);
    await runner.query(LEASE_LANES);
    await runner.query(RECORD_MESSAGES);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * A lane's place among the checkpoints, by the sequence of the last one that is delivered or failed. Null where it follows
 * none, or has not begun: it begins behind the newest when it is first leased.
 */
const PLACE = `
ALTER TABLE webhook_lanes ADD COLUMN checkpoint_sequence bigint;
`;

/**
 * Leases lanes that have something to send to one replica, those longest not served first. A lane that is behind its
 * chain but has no event that concerns it is brought forward on the way, \`p_window\` events at most; one that begins to
 * follow the checkpoints begins behind the newest.
 */
const LEASE_LANES = `
CREATE FUNCTION lease_webhook_lanes(
  p_owner uuid, p_now timestamptz, p_lease interval, p_limit integer, p_per_organization integer,
  p_organizations uuid[], p_window integer
) RETURNS TABLE (
  organization_id uuid, webhook_id uuid, sequence bigint, checkpoint_sequence bigint, failing_since timestamptz
)
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
        coalesce(l.next_due_at <= p_now, false) AS due,
        CASE WHEN c.follows THEN coalesce(l.checkpoint_sequence, t.checkpoint_sequence, 0)
          ELSE l.checkpoint_sequence END AS checkpoint_sequence,
        coalesce(c.follows AND l.checkpoint_sequence < t.checkpoint_sequence, false) AS signed
      FROM webhook_lanes l
      JOIN organization_ledgers g ON g.organization_id = l.organization_id
      JOIN webhooks w ON w.organization_id = l.organization_id AND w.webhook_id = l.webhook_id
      LEFT JOIN audit_trees t ON t.organization_id = l.organization_id
      CROSS JOIN LATERAL (SELECT audit_action_matches('audit.checkpoint', w.events) AS follows) c
      WHERE l.active AND (l.lease_until IS NULL OR l.lease_until < clock_timestamp())
        AND (l.sequence < g.sequence OR l.next_due_at <= p_now
          OR c.follows AND (l.checkpoint_sequence IS NULL OR l.checkpoint_sequence < t.checkpoint_sequence))
      ORDER BY l.served_at LIMIT 1000
      FOR UPDATE OF l SKIP LOCKED
  LOOP
    v_upto := least(r.head, r.sequence + p_window);
    IF NOT r.due AND NOT r.signed AND NOT EXISTS (
      SELECT 1 FROM audit_events e WHERE e.organization_id = r.organization_id AND e.sequence > r.sequence
        AND e.sequence <= v_upto AND audit_action_matches(e.action, r.events))
    THEN
      UPDATE webhook_lanes l SET sequence = v_upto, checkpoint_sequence = r.checkpoint_sequence
        WHERE l.organization_id = r.organization_id AND l.webhook_id = r.webhook_id;
      CONTINUE;
    END IF;
    CONTINUE WHEN v_taken >= p_limit
      OR cardinality(array_positions(v_held, r.organization_id)) >= p_per_organization;
    v_taken := v_taken + 1;
    v_held := v_held || r.organization_id;
    UPDATE webhook_lanes l SET lease_owner = p_owner, lease_until = clock_timestamp() + p_lease,
        checkpoint_sequence = r.checkpoint_sequence
      WHERE l.organization_id = r.organization_id AND l.webhook_id = r.webhook_id;
    organization_id := r.organization_id;
    webhook_id := r.webhook_id;
    sequence := r.sequence;
    checkpoint_sequence := r.checkpoint_sequence;
    failing_since := r.failing_since;
    RETURN NEXT;
  END LOOP;
END
$$;
`;

/**
 * Records first attempts at events and checkpoints and moves the lane's places behind them, all or nothing, and only for
 * the replica that holds the lane. A checkpoint has no place in the chain, so its delivery keeps its body, as that of a
 * test event does. \`p_due\` is when the first of those that failed is due again.
 */
const RECORD_MESSAGES = `
CREATE FUNCTION record_webhook_messages(
  p_organization uuid, p_webhook uuid, p_owner uuid, p_sequence bigint, p_checkpoint bigint,
  p_failing_since timestamptz, p_due timestamptz, p_messages json
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  UPDATE webhook_lanes l SET sequence = p_sequence, failing_since = p_failing_since,
      checkpoint_sequence = greatest(l.checkpoint_sequence, p_checkpoint), next_due_at = least(l.next_due_at, p_due)
    WHERE l.organization_id = p_organization AND l.webhook_id = p_webhook AND l.lease_owner = p_owner;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO webhook_deliveries (organization_id, webhook_id, slot, delivery_id, event_id, event, sequence, body,
      status, attempts, next_attempt_at, created_at)
    SELECT p_organization, p_webhook, t.slot, t.delivery, t.message, t.event, t.sequence,
        CASE WHEN t.sequence IS NULL THEN t.body END, t.status, t.attempts, t.next, t.created
      FROM json_to_recordset(p_messages) AS t (slot smallint, delivery uuid, message uuid, event text, sequence bigint,
        body text, status text, attempts jsonb, next timestamptz, created timestamptz)
    ON CONFLICT (organization_id, webhook_id, slot, delivery_id) DO NOTHING;
  IF p_due IS NOT NULL THEN
    INSERT INTO webhook_queue (organization_id, webhook_id, slot, delivery_id, event_id, event, body, failures, due_at)
      SELECT p_organization, p_webhook, t.slot, t.delivery, t.message, t.event, t.body, 1, t.next
        FROM json_to_recordset(p_messages) AS t (slot smallint, delivery uuid, message uuid, event text, body text,
          next timestamptz)
        WHERE t.next IS NOT NULL
      ON CONFLICT (organization_id, webhook_id, delivery_id) DO NOTHING;
  END IF;
  RETURN true;
END
$$;
`;

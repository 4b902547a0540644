import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A lane never goes back, and those that have to wait are in nobody's way. */
export class WebhookLanesForward1764000150000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(LEASE_LANES);
    await runner.query(LEASE_LANES_AS_BEFORE);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * As before, but for three things. A lane that moved on while its row was looked for is read as it stands then, and the
 * head of its chain as it stood at the beginning: brought "forward" to that, it would be sent again what it was sent. So it goes to the greater of the two.
 *
 * Of an organization that has as many lanes with this replica as it may, none is looked at: a thousand that wait because
 * their receivers hang would be all that is looked at, and those of the others would wait with them.
 *
 * And of lanes whose receiver failed the last time at most \`p_failing\` are leased: each may hang for as long as an
 * attempt takes, and there are never more of them than leave room to the others.
 */
const LEASE_LANES = `
CREATE FUNCTION lease_webhook_lanes(
  p_owner uuid, p_now timestamptz, p_lease interval, p_limit integer, p_per_organization integer,
  p_organizations uuid[], p_window integer, p_failing integer
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
  v_failing integer := 0;
  v_held uuid[] := p_organizations;
  v_full uuid[] := ARRAY(
    SELECT o FROM unnest(p_organizations) AS o GROUP BY o HAVING count(*) >= p_per_organization);
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
        AND l.organization_id <> ALL (v_full) AND (l.failing_since IS NULL OR p_failing > 0)
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
      UPDATE webhook_lanes l SET sequence = greatest(l.sequence, v_upto), checkpoint_sequence = r.checkpoint_sequence
        WHERE l.organization_id = r.organization_id AND l.webhook_id = r.webhook_id;
      CONTINUE;
    END IF;
    CONTINUE WHEN v_taken >= p_limit
      OR cardinality(array_positions(v_held, r.organization_id)) >= p_per_organization;
    IF r.failing_since IS NOT NULL THEN
      CONTINUE WHEN v_failing >= p_failing;
      v_failing := v_failing + 1;
    END IF;
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

/** For replicas of the version before, whose failing lanes are as many as there are places. */
const LEASE_LANES_AS_BEFORE = `
CREATE OR REPLACE FUNCTION lease_webhook_lanes(
  p_owner uuid, p_now timestamptz, p_lease interval, p_limit integer, p_per_organization integer,
  p_organizations uuid[], p_window integer
) RETURNS TABLE (
  organization_id uuid, webhook_id uuid, sequence bigint, checkpoint_sequence bigint, failing_since timestamptz
)
LANGUAGE sql VOLATILE
AS $$
  SELECT * FROM lease_webhook_lanes(p_owner, p_now, p_lease, p_limit, p_per_organization, p_organizations, p_window,
    p_limit)
$$;
`;

import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Repeated refusals of one client for one cause become one event a minute. */
export class AuditRefusals1764000030002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(REFUSALS);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * One row for each client and cause (with the day) that was refused within the last minute: since when, how many refusals no event
 * tells of yet, and what the event is to say. `record_refusals` appends an event for those that have no row and counts
 * the others. Rows are taken in sorted order, and before the ledgers.
 */
const REFUSALS = `
CREATE TABLE audit_refusals (
  organization_id uuid NOT NULL,
  client text NOT NULL,
  cause text NOT NULL,
  opened_at timestamptz(3) NOT NULL,
  count bigint NOT NULL,
  event jsonb NOT NULL,
  PRIMARY KEY (organization_id, client, cause)
) WITH (fillfactor = 50);

CREATE FUNCTION record_refusals(
  p_organizations uuid[], p_heads text[], p_tails text[], p_event_ids uuid[], p_actions text[], p_outcomes text[],
  p_actors uuid[], p_target_types text[], p_target_ids text[], p_ips text[], p_user_agents text[], p_details jsonb[],
  p_occurred timestamptz[], p_causes text[], p_events jsonb[]
) RETURNS TABLE (opened_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_opened timestamptz[] := array_fill(NULL::timestamptz, ARRAY[cardinality(p_organizations)]);
  v_new integer[] := '{}';
  r record;
  w record;
BEGIN
  FOR r IN SELECT t.i::integer AS i FROM unnest(p_organizations, p_target_ids, p_causes) WITH ORDINALITY
      AS t (organization, client, cause, i) ORDER BY t.organization, t.client, t.cause, t.i
  LOOP
    INSERT INTO audit_refusals AS a (organization_id, client, cause, opened_at, count, event)
      VALUES (p_organizations[r.i], p_target_ids[r.i], p_causes[r.i], p_occurred[r.i], 0, p_events[r.i])
      ON CONFLICT (organization_id, client, cause) DO UPDATE SET count = a.count + 1
      RETURNING a.opened_at, xmax = 0 AS is_new INTO w;
    v_opened[r.i] := w.opened_at;
    IF w.is_new THEN
      v_new := v_new || r.i;
    END IF;
  END LOOP;

  IF cardinality(v_new) > 0 THEN
    -- In the order in which they came.
    v_new := ARRAY(SELECT i FROM unnest(v_new) i ORDER BY i);
    PERFORM append_audit_events(
      ARRAY(SELECT p_organizations[i] FROM unnest(v_new) i), ARRAY(SELECT p_heads[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_tails[i] FROM unnest(v_new) i), ARRAY(SELECT p_event_ids[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_actions[i] FROM unnest(v_new) i), ARRAY(SELECT p_outcomes[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_actors[i] FROM unnest(v_new) i), ARRAY(SELECT p_target_types[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_target_ids[i] FROM unnest(v_new) i), ARRAY(SELECT p_ips[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_user_agents[i] FROM unnest(v_new) i), ARRAY(SELECT p_details[i] FROM unnest(v_new) i),
      ARRAY(SELECT p_occurred[i] FROM unnest(v_new) i));
  END IF;
  RETURN QUERY SELECT * FROM unnest(v_opened);
END
$$;
`;

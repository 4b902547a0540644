import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The one way into the audit chain. */
export class AuditAppend1764000000001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(APPEND_AUDIT_EVENTS);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * Appends events to the chains of their organizations, in the order given, and answers each one's sequence and hash.
 *
 * In the canonical form (RFC 8785) of an event "previousHash" and "sequence" are neighbours: the caller renders what
 * stands before them (`p_heads`, up to and with the comma) and after them (`p_tails`), the database knows the two and
 * hashes. Organizations are locked in sorted order, so that two batches cannot wait for each other.
 */
const APPEND_AUDIT_EVENTS = `
CREATE FUNCTION append_audit_events(
  p_organizations uuid[], p_heads text[], p_tails text[], p_event_ids uuid[], p_actions text[], p_outcomes text[],
  p_actors uuid[], p_target_types text[], p_target_ids text[], p_ips text[], p_user_agents text[], p_details jsonb[],
  p_occurred timestamptz[]
) RETURNS TABLE (event_sequence bigint, event_hash bytea)
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_count integer := cardinality(p_organizations);
  v_sequences bigint[] := array_fill(0::bigint, ARRAY[v_count]);
  v_previous bytea[] := array_fill(''::bytea, ARRAY[v_count]);
  v_hashes bytea[] := array_fill(''::bytea, ARRAY[v_count]);
  v_organization uuid;
  v_sequence bigint;
  v_head bytea;
  v_hash bytea;
  i integer;
BEGIN
  PERFORM 1 FROM organization_ledgers l
    WHERE l.organization_id = ANY (p_organizations) ORDER BY l.organization_id FOR UPDATE;

  FOR i IN SELECT t.i FROM unnest(p_organizations) WITH ORDINALITY AS t (organization, i) ORDER BY t.organization, t.i
  LOOP
    IF v_organization IS DISTINCT FROM p_organizations[i] THEN
      IF v_organization IS NOT NULL THEN
        UPDATE organization_ledgers l SET sequence = v_sequence, head_hash = v_head
          WHERE l.organization_id = v_organization;
      END IF;
      v_organization := p_organizations[i];
      SELECT l.sequence, l.head_hash INTO v_sequence, v_head
        FROM organization_ledgers l WHERE l.organization_id = v_organization;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no organization %', v_organization USING ERRCODE = '23503';
      END IF;
    END IF;
    v_sequence := v_sequence + 1;
    v_hash := sha256(convert_to(
      p_heads[i] || '"previousHash":"' || encode(v_head, 'hex') || '","sequence":' || v_sequence || ',' || p_tails[i],
      'UTF8'));
    v_sequences[i] := v_sequence;
    v_previous[i] := v_head;
    v_hashes[i] := v_hash;
    v_head := v_hash;
  END LOOP;
  UPDATE organization_ledgers l SET sequence = v_sequence, head_hash = v_head WHERE l.organization_id = v_organization;

  INSERT INTO audit_events (organization_id, sequence, event_id, action, outcome, actor, target_type, target_id, ip,
      user_agent, details, occurred_at, previous_hash, hash)
    SELECT * FROM unnest(p_organizations, v_sequences, p_event_ids, p_actions, p_outcomes, p_actors, p_target_types,
      p_target_ids, p_ips, p_user_agents, p_details, p_occurred, v_previous, v_hashes);
  RETURN QUERY SELECT * FROM unnest(v_sequences, v_hashes);
END
$$;
`;

import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The group commit of issuances in fewer statements; `issue_tokens` stays for replicas of the version before. */
export class IssueTogether1764000070000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(ISSUE_TOKENS_TOGETHER);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * Issues tokens: one group commit, as `issue_tokens` does it. Locks the ledgers of the organizations in sorted order and
 * takes their chain heads and quotas from the locked rows; reads, in a statement of its own, the state that stands under
 * the lock; consumes quota exactly; chains `token.issued`, and `quota.threshold` behind it where one is crossed. Items
 * are decided in the order given within their organization.
 *
 * Texts come one after the other, each ended by U+001E; U+001F stands for null. The id of the event is the token's
 * `jti`, so it is the event's target as well.
 *
 * Answers null where all were issued, else what the others came to, each with its place, counted from 0:
 * client_invalid, agent_suspended, organization_suspended, generation_changed (with the present generation and scopes,
 * to be decided and signed anew), quota_reached (with tier and limit).
 *
 * A lock that is not had within a second is given up: one locked organization must not hold up the others.
 *
 * The month of a request is the clock's of the replica; a replica whose clock lags behind a month that has begun counts
 * into the month that has begun.
 */
const ISSUE_TOKENS_TOGETHER = `
CREATE FUNCTION issue_tokens_together(
  p_organizations uuid[], p_agents uuid[], p_credentials uuid[], p_generations text, p_months integer[],
  p_event_ids uuid[], p_occurred timestamptz[], p_ips text, p_user_agents text, p_details text, p_heads text,
  p_tails text
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_ledgers organization_ledgers[];
  v_ledger organization_ledgers;
  v_at integer := 0;
  v_generations text[] := string_to_array(p_generations, U&'\\001E');
  v_heads text[] := string_to_array(p_heads, U&'\\001E');
  v_tails text[] := string_to_array(p_tails, U&'\\001E');
  v_details text[] := string_to_array(p_details, U&'\\001E');
  v_ips text[] := string_to_array(p_ips, U&'\\001E', U&'\\001F');
  v_user_agents text[] := string_to_array(p_user_agents, U&'\\001E', U&'\\001F');
  v_count integer := cardinality(p_organizations);
  v_sequences bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
  v_previous bytea[] := array_fill(NULL::bytea, ARRAY[v_count]);
  v_hashes bytea[] := array_fill(NULL::bytea, ARRAY[v_count]);
  v_crossed integer[] := '{}';
  v_crossed_percent integer[] := '{}';
  v_crossed_limit bigint[] := '{}';
  v_refused jsonb;
  v_outcome jsonb;
  r record;
BEGIN
  -- The empty text behind the last one makes one more. Of SQLSTATE class 22, so that a batch is tried item by item.
  IF (v_count + 1) <> ANY (ARRAY[cardinality(v_generations), cardinality(v_heads), cardinality(v_tails),
      cardinality(v_details), cardinality(v_ips), cardinality(v_user_agents)]) THEN
    RAISE EXCEPTION 'a text of the batch holds a control character' USING ERRCODE = '22000';
  END IF;

  v_ledgers := ARRAY(SELECT l FROM organization_ledgers l
    WHERE l.organization_id = ANY (p_organizations) ORDER BY l.organization_id FOR UPDATE);

  FOR r IN
    SELECT t.i::integer AS i, t.organization, t.month, t.generation = o.generation || '.' || a.generation || '.' ||
          c.generation AS same_generation,
        o.status AS organization_status, o.tier, coalesce(o.limit_tokens_per_month, ti.tokens_per_month) AS quota,
        a.status AS agent_status,
        c.status = 'revoked' OR c.expires_at <= t.occurred OR c.retires_at <= t.occurred
          OR p.status <> 'active' AS credential_spent
      FROM unnest(p_organizations, p_agents, p_credentials, p_occurred, p_months, v_generations)
        WITH ORDINALITY AS t (organization, agent, credential, occurred, month, generation, i)
      LEFT JOIN organizations o ON o.organization_id = t.organization
      LEFT JOIN tiers ti ON ti.name = o.tier
      LEFT JOIN agents a ON a.organization_id = t.organization AND a.agent_id = t.agent
      LEFT JOIN credentials c ON c.organization_id = t.organization AND c.agent_id = t.agent
        AND c.credential_id = t.credential
      LEFT JOIN federation_partners p ON p.organization_id = t.organization AND p.partner_id = c.partner_id
      WHERE t.i <= v_count
      ORDER BY t.organization, t.i
  LOOP
    -- Both are sorted; a ledger is missing only where there is no organization, and nothing of it is issued.
    WHILE v_ledger.organization_id IS DISTINCT FROM r.organization AND v_at < cardinality(v_ledgers)
        AND v_ledgers[v_at + 1].organization_id <= r.organization LOOP
      IF v_at > 0 THEN
        v_ledgers[v_at] := v_ledger;
      END IF;
      v_at := v_at + 1;
      v_ledger := v_ledgers[v_at];
    END LOOP;

    v_outcome := NULL;
    IF r.same_generation IS NULL OR r.agent_status = 'decommissioned' OR r.credential_spent THEN
      v_outcome := '{"outcome": "client_invalid"}';
    ELSIF r.agent_status <> 'active' THEN
      v_outcome := '{"outcome": "agent_suspended"}';
    ELSIF r.organization_status <> 'active' THEN
      v_outcome := '{"outcome": "organization_suspended"}';
    ELSIF NOT r.same_generation THEN
      SELECT jsonb_build_object('outcome', 'generation_changed',
          'generation', o.generation || '.' || a.generation || '.' || c.generation, 'scopes', a.scopes) INTO v_outcome
        FROM organizations o
        JOIN agents a ON a.organization_id = o.organization_id AND a.agent_id = p_agents[r.i]
        JOIN credentials c ON c.organization_id = a.organization_id AND c.agent_id = a.agent_id
          AND c.credential_id = p_credentials[r.i]
        WHERE o.organization_id = r.organization;
    ELSE
      IF r.month > v_ledger.quota_month THEN
        v_ledger.quota_month := r.month;
        v_ledger.tokens_used := 0;
      END IF;
      IF v_ledger.tokens_used >= r.quota THEN
        v_outcome := jsonb_build_object('outcome', 'quota_reached', 'tier', r.tier, 'limit', r.quota);
      ELSE
        v_ledger.tokens_used := v_ledger.tokens_used + 1;
        IF v_ledger.tokens_used = r.quota THEN
          v_crossed := v_crossed || r.i;
          v_crossed_percent := v_crossed_percent || 100;
          v_crossed_limit := v_crossed_limit || r.quota;
        ELSIF v_ledger.tokens_used = (r.quota * 8 + 9) / 10 THEN
          v_crossed := v_crossed || r.i;
          v_crossed_percent := v_crossed_percent || 80;
          v_crossed_limit := v_crossed_limit || r.quota;
        END IF;
        v_ledger.sequence := v_ledger.sequence + 1;
        v_sequences[r.i] := v_ledger.sequence;
        v_previous[r.i] := v_ledger.head_hash;
        v_ledger.head_hash := sha256(convert_to(v_heads[r.i] || '"previousHash":"' ||
          encode(v_ledger.head_hash, 'hex') || '","sequence":' || v_ledger.sequence || ',' || v_tails[r.i], 'UTF8'));
        v_hashes[r.i] := v_ledger.head_hash;
      END IF;
    END IF;
    IF v_outcome IS NOT NULL THEN
      v_refused := coalesce(v_refused, '[]') || (v_outcome || jsonb_build_object('at', r.i - 1));
    END IF;
  END LOOP;
  IF v_at > 0 THEN
    v_ledgers[v_at] := v_ledger;
  END IF;

  UPDATE organization_ledgers l
    SET sequence = n.sequence, head_hash = n.head_hash, quota_month = n.quota_month, tokens_used = n.tokens_used
    FROM unnest(v_ledgers) n
    WHERE l.organization_id = n.organization_id AND l.sequence <> n.sequence;
  INSERT INTO audit_events (organization_id, sequence, event_id, action, outcome, actor, target_type, target_id, ip,
      user_agent, details, occurred_at, previous_hash, hash)
    SELECT t.organization, t.sequence, t.event_id, 'token.issued', 'success', t.agent, 'token', t.event_id::text, t.ip,
        t.user_agent, t.details::jsonb, t.occurred, t.previous, t.hash
      FROM unnest(p_organizations, v_sequences, p_event_ids, p_agents, v_ips, v_user_agents, v_details, p_occurred,
          v_previous, v_hashes)
        AS t (organization, sequence, event_id, agent, ip, user_agent, details, occurred, previous, hash)
      WHERE t.sequence IS NOT NULL;
  FOR n IN 1 .. cardinality(v_crossed) LOOP
    PERFORM append_quota_threshold(p_organizations[v_crossed[n]], v_crossed_percent[n], v_crossed_limit[n],
      p_occurred[v_crossed[n]]);
  END LOOP;
  RETURN v_refused;
END
$$;
`;

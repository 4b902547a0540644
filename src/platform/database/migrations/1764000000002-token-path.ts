import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The statements of the token path: who the client is, the group commit of issuances, which tokens are alive. */
export class TokenPath1764000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(READ_CLIENTS);
    await runner.query(ISSUE_TOKENS);
    await runner.query(TOKENS_ALIVE);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * Reads agent, organization and the credentials with a prefix for each pair of agent and prefix; one row a credential,
 * one row without a credential where the agent has none with that prefix, none where there is no such agent. With it
 * come the audiences of the agent's scopes, `[[scope, identifier, lifetime], …]`, null where all are built-in.
 *
 * Plans are pinned to index lookups: with a table's statistics missing or old, a join with `unnest` may otherwise scan
 * the table.
 */
const READ_CLIENTS = `
CREATE FUNCTION read_clients(p_agents uuid[], p_prefixes text[])
RETURNS TABLE (
  ordinal integer, organization_id uuid, organization_status text, organization_generation integer,
  agent_id uuid, agent_status text, agent_generation integer, scopes text[], token_ttl_seconds integer,
  credential_id uuid, credential_status text, credential_generation integer, secret_hash bytea,
  expires_at timestamptz, retires_at timestamptz, last_used_at timestamptz, audiences jsonb
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
    SELECT t.ordinal::integer, o.organization_id, o.status, o.generation,
        a.agent_id, a.status, a.generation, a.scopes, a.token_ttl_seconds,
        c.credential_id, c.status, c.generation, c.secret_hash, c.expires_at, c.retires_at, c.last_used_at,
        (SELECT jsonb_agg(jsonb_build_array(s.name, r.identifier, r.token_ttl_seconds))
          FROM unnest(a.scopes) AS u (name)
          JOIN resource_scopes s ON s.organization_id = a.organization_id AND s.name = u.name
          JOIN resource_servers r ON r.organization_id = s.organization_id AND r.resource_id = s.resource_id)
      FROM unnest(p_agents, p_prefixes) WITH ORDINALITY AS t (agent, prefix, ordinal)
      JOIN agents a ON a.agent_id = t.agent
      JOIN organizations o ON o.organization_id = a.organization_id
      LEFT JOIN credentials c ON c.agent_id = t.agent AND c.prefix = t.prefix AND c.kind = 'secret';
END
$$;
`;

/**
 * Issues tokens: one group commit. Locks the organizations in sorted order, then reads, in a statement of its own, what
 * stands under the lock; consumes quota exactly; appends `token.issued` and, where a threshold is crossed,
 * `quota.threshold`. Items are decided in the order given within their organization.
 *
 * Outcomes: issued, client_invalid, agent_suspended, organization_suspended, generation_changed (with the present
 * generation and scopes, to be decided and signed anew), quota_reached (with tier and limit).
 *
 * A lock that is not had within a second is given up: one locked organization must not hold up the others.
 *
 * The month of a request is the clock's of the replica; a replica whose clock lags behind a month that has begun counts
 * into the month that has begun.
 */
const ISSUE_TOKENS = `
CREATE FUNCTION issue_tokens(
  p_organizations uuid[], p_heads text[], p_tails text[], p_event_ids uuid[], p_actions text[], p_outcomes text[],
  p_actors uuid[], p_target_types text[], p_target_ids text[], p_ips text[], p_user_agents text[], p_details jsonb[],
  p_occurred timestamptz[], p_credentials uuid[], p_generations text[], p_months integer[]
) RETURNS TABLE (outcome text, generation text, scopes text, tier text, quota_limit bigint)
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_count integer := cardinality(p_organizations);
  v_outcomes text[] := array_fill('issued'::text, ARRAY[v_count]);
  v_generations text[] := array_fill(NULL::text, ARRAY[v_count]);
  v_scopes text[] := array_fill(NULL::text, ARRAY[v_count]);
  v_tiers text[] := array_fill(NULL::text, ARRAY[v_count]);
  v_limits bigint[] := array_fill(NULL::bigint, ARRAY[v_count]);
  v_issued integer[] := '{}';
  v_crossed integer[] := '{}';
  v_crossed_percent integer[] := '{}';
  v_organization uuid;
  v_month integer;
  v_used bigint;
  v_dirty boolean := false;
  r record;
BEGIN
  PERFORM 1 FROM organization_ledgers l
    WHERE l.organization_id = ANY (p_organizations) ORDER BY l.organization_id FOR UPDATE;

  FOR r IN
    SELECT t.i::integer AS i, t.organization, o.status AS organization_status, o.tier,
        coalesce(o.limit_tokens_per_month, ti.tokens_per_month) AS quota, l.quota_month, l.tokens_used,
        a.status AS agent_status, a.scopes,
        c.status = 'revoked' OR c.expires_at <= t.occurred OR c.retires_at <= t.occurred AS credential_spent,
        o.generation || '.' || a.generation || '.' || c.generation AS present
      FROM unnest(p_organizations, p_actors, p_credentials, p_occurred)
        WITH ORDINALITY AS t (organization, agent, credential, occurred, i)
      LEFT JOIN organizations o ON o.organization_id = t.organization
      LEFT JOIN organization_ledgers l ON l.organization_id = t.organization
      LEFT JOIN tiers ti ON ti.name = o.tier
      LEFT JOIN agents a ON a.organization_id = t.organization AND a.agent_id = t.agent
      LEFT JOIN credentials c ON c.organization_id = t.organization AND c.agent_id = t.agent
        AND c.credential_id = t.credential
      ORDER BY t.organization, t.i
  LOOP
    IF v_organization IS DISTINCT FROM r.organization THEN
      IF v_dirty THEN
        UPDATE organization_ledgers l SET quota_month = v_month, tokens_used = v_used
          WHERE l.organization_id = v_organization;
      END IF;
      v_organization := r.organization;
      v_month := r.quota_month;
      v_used := r.tokens_used;
      v_dirty := false;
    END IF;

    IF r.present IS NULL OR r.agent_status = 'decommissioned' OR r.credential_spent THEN
      v_outcomes[r.i] := 'client_invalid';
    ELSIF r.agent_status <> 'active' THEN
      v_outcomes[r.i] := 'agent_suspended';
    ELSIF r.organization_status <> 'active' THEN
      v_outcomes[r.i] := 'organization_suspended';
    ELSIF r.present <> p_generations[r.i] THEN
      v_outcomes[r.i] := 'generation_changed';
      v_generations[r.i] := r.present;
      v_scopes[r.i] := array_to_string(r.scopes, ' ');
    ELSE
      IF p_months[r.i] > v_month THEN
        v_month := p_months[r.i];
        v_used := 0;
        v_dirty := true;
      END IF;
      IF v_used >= r.quota THEN
        v_outcomes[r.i] := 'quota_reached';
        v_tiers[r.i] := r.tier;
        v_limits[r.i] := r.quota;
      ELSE
        v_used := v_used + 1;
        v_dirty := true;
        v_issued := v_issued || r.i;
        IF v_used = r.quota THEN
          v_crossed := v_crossed || r.i;
          v_crossed_percent := v_crossed_percent || 100;
        ELSIF v_used = (r.quota * 8 + 9) / 10 THEN
          v_crossed := v_crossed || r.i;
          v_crossed_percent := v_crossed_percent || 80;
        END IF;
        v_limits[r.i] := r.quota;
      END IF;
    END IF;
  END LOOP;
  IF v_dirty THEN
    UPDATE organization_ledgers l SET quota_month = v_month, tokens_used = v_used
      WHERE l.organization_id = v_organization;
  END IF;

  IF cardinality(v_issued) = v_count THEN
    PERFORM append_audit_events(p_organizations, p_heads, p_tails, p_event_ids, p_actions, p_outcomes, p_actors,
      p_target_types, p_target_ids, p_ips, p_user_agents, p_details, p_occurred);
  ELSIF cardinality(v_issued) > 0 THEN
    PERFORM append_audit_events(
      ARRAY(SELECT p_organizations[i] FROM unnest(v_issued) i), ARRAY(SELECT p_heads[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_tails[i] FROM unnest(v_issued) i), ARRAY(SELECT p_event_ids[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_actions[i] FROM unnest(v_issued) i), ARRAY(SELECT p_outcomes[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_actors[i] FROM unnest(v_issued) i), ARRAY(SELECT p_target_types[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_target_ids[i] FROM unnest(v_issued) i), ARRAY(SELECT p_ips[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_user_agents[i] FROM unnest(v_issued) i), ARRAY(SELECT p_details[i] FROM unnest(v_issued) i),
      ARRAY(SELECT p_occurred[i] FROM unnest(v_issued) i));
  END IF;

  FOR n IN 1 .. cardinality(v_crossed) LOOP
    PERFORM append_quota_threshold(p_organizations[v_crossed[n]], v_crossed_percent[n], v_limits[v_crossed[n]],
      p_occurred[v_crossed[n]]);
  END LOOP;

  RETURN QUERY SELECT * FROM unnest(v_outcomes, v_generations, v_scopes, v_tiers, v_limits);
END
$$;

CREATE FUNCTION append_quota_threshold(
  p_organization uuid, p_percent integer, p_limit bigint, p_occurred timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
  v_event_id uuid := gen_random_uuid();
  v_month integer;
  v_details text;
BEGIN
  SELECT quota_month INTO v_month FROM organization_ledgers WHERE organization_id = p_organization;
  v_details := format('{"limit":%s,"period":"%s-%s","thresholdPercent":%s}', p_limit, v_month / 100,
    lpad((v_month % 100)::text, 2, '0'), p_percent);
  PERFORM append_audit_events(
    ARRAY[p_organization],
    ARRAY[format('{"action":"quota.threshold","actor":null,"details":%s,"eventId":"%s","ip":null,"occurredAt":"%s",'
      '"organizationId":"%s","outcome":"success",', v_details, v_event_id,
      to_char(p_occurred AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), p_organization)],
    ARRAY[format('"target":{"id":"%s","type":"organization"},"userAgent":null}', p_organization)],
    ARRAY[v_event_id], ARRAY['quota.threshold'], ARRAY['success'], ARRAY[NULL::uuid], ARRAY['organization'],
    ARRAY[p_organization::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[v_details::jsonb], ARRAY[p_occurred]);
END
$$;
`;

/**
 * Which tokens are alive, in the order given. A token is, when organization and agent are active, no generation that it
 * was issued under has passed, the agent still has each of its scopes and has had them ever since, and its `jti` is
 * not revoked.
 */
const TOKENS_ALIVE = `
CREATE FUNCTION tokens_alive(
  p_organizations uuid[], p_agents uuid[], p_credentials uuid[], p_jtis uuid[], p_scopes text[],
  p_organization_generations integer[], p_agent_generations integer[], p_credential_generations integer[]
) RETURNS boolean[]
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_alive boolean[];
BEGIN
  SELECT array_agg(coalesce(
        o.status = 'active' AND a.status = 'active'
        AND o.generation = t.organization_generation
        AND t.agent_generation BETWEEN a.valid_from_generation AND a.generation
        AND c.generation = t.credential_generation
        AND string_to_array(t.scope, ' ') <@ a.scopes
        AND (a.scope_removals = '{}' OR NOT EXISTS (
          SELECT 1 FROM unnest(string_to_array(t.scope, ' ')) AS s (name)
            WHERE (a.scope_removals ->> s.name)::integer > t.agent_generation))
        AND r.jti IS NULL, false) ORDER BY t.i) INTO v_alive
    FROM unnest(p_organizations, p_agents, p_credentials, p_jtis, p_scopes, p_organization_generations,
        p_agent_generations, p_credential_generations) WITH ORDINALITY
      AS t (organization, agent, credential, jti, scope, organization_generation, agent_generation,
        credential_generation, i)
    LEFT JOIN organizations o ON o.organization_id = t.organization
    LEFT JOIN agents a ON a.organization_id = t.organization AND a.agent_id = t.agent
    LEFT JOIN credentials c ON c.organization_id = t.organization AND c.agent_id = t.agent
      AND c.credential_id = t.credential
    LEFT JOIN token_revocations r ON r.organization_id = t.organization AND r.jti = t.jti;
  RETURN v_alive;
END
$$;
`;

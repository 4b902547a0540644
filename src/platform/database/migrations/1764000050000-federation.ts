import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Public keys and federated identities as credentials, the partners whose assertions are taken, and used assertions. */
export class Federation1764000050000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(PARTNERS);
    await runner.query(CREDENTIAL_KINDS);
    await runner.query(USED_ASSERTIONS);
    await runner.query(READ_ASSERTION_CLIENTS);
    await runner.query(ISSUE_TOKENS);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/** Where the keys are: in `jwks`, at `jwks_uri`, or, where both are null, where the issuer's discovery document says. */
const PARTNERS = `
CREATE TABLE federation_partners (
  organization_id uuid NOT NULL REFERENCES organizations (organization_id),
  partner_id uuid NOT NULL CONSTRAINT federation_partners_partner_id_key UNIQUE,
  name text NOT NULL,
  issuer text NOT NULL,
  jwks_uri text,
  jwks jsonb,
  audience text,
  algorithms text[],
  single_use boolean NOT NULL,
  status text NOT NULL CHECK (status IN ('active', 'disabled')),
  created_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, partner_id),
  CONSTRAINT federation_partners_issuer_key UNIQUE (organization_id, issuer),
  CHECK (jwks_uri IS NULL OR jwks IS NULL)
);
CREATE INDEX federation_partners_newest_first
  ON federation_partners (organization_id, created_at DESC, partner_id DESC);
`;

/**
 * What a credential has depends on its kind. An identity whose partner was deleted is revoked and names none. The version
 * before knows secrets only and goes on writing them.
 */
const CREDENTIAL_KINDS = `
ALTER TABLE credentials
  DROP CONSTRAINT credentials_kind_check,
  ALTER COLUMN prefix DROP NOT NULL,
  ALTER COLUMN secret_hash DROP NOT NULL,
  ADD COLUMN public_jwk jsonb,
  ADD COLUMN thumbprint text,
  ADD COLUMN partner_id uuid,
  ADD COLUMN subject text,
  ADD COLUMN claims jsonb,
  ADD CONSTRAINT credentials_kind_check CHECK (CASE kind
    WHEN 'secret' THEN prefix IS NOT NULL AND secret_hash IS NOT NULL
    WHEN 'key' THEN public_jwk IS NOT NULL AND thumbprint IS NOT NULL
    WHEN 'federated' THEN subject IS NOT NULL AND claims IS NOT NULL AND (partner_id IS NOT NULL OR status = 'revoked')
    ELSE false END),
  ADD CONSTRAINT credentials_partner_fkey FOREIGN KEY (organization_id, partner_id)
    REFERENCES federation_partners (organization_id, partner_id);
CREATE INDEX credentials_of_partner ON credentials (organization_id, partner_id) WHERE partner_id IS NOT NULL;
CREATE INDEX credentials_for_assertions ON credentials (organization_id, agent_id)
  WHERE kind <> 'secret' AND status <> 'revoked';
CREATE UNIQUE INDEX credentials_one_of_a_key ON credentials (organization_id, agent_id, thumbprint)
  WHERE kind = 'key' AND status <> 'revoked';
`;

/**
 * Assertions that may be used once, until they expire. `issuer_id` is the agent or the partner that made them, `digest`
 * the SHA-256 of the `jti`, or of all that was signed where there is none.
 */
const USED_ASSERTIONS = `
CREATE TABLE used_assertions (
  organization_id uuid NOT NULL,
  issuer_id uuid NOT NULL,
  digest bytea NOT NULL,
  expires_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, issuer_id, digest)
);
CREATE INDEX used_assertions_expiry ON used_assertions (expires_at);
`;

/**
 * Reads what an assertion is checked against, for each pair of agent and issuer: with a null issuer the agent's own
 * public keys, else its federated identities of the partner with that issuer. One row a credential that is not revoked,
 * one row without a credential where there is none, none where there is no such agent. Beside `read_clients`, so that
 * secrets pay nothing for it.
 */
const READ_ASSERTION_CLIENTS = `
CREATE FUNCTION read_assertion_clients(
  p_agents uuid[], p_issuers text[], p_networks text[], p_now timestamptz, p_client_limit integer,
  p_network_limit integer
)
RETURNS TABLE (
  ordinal integer, organization_id uuid, organization_status text, organization_generation integer, tier text,
  agent_id uuid, agent_status text, agent_generation integer, scopes text[], token_ttl_seconds integer,
  credential_id uuid, credential_status text, credential_generation integer,
  expires_at timestamptz, retires_at timestamptz, last_used_at timestamptz, audiences jsonb,
  public_jwk jsonb, subject text, claims jsonb,
  partner_id uuid, partner_jwks_uri text, partner_jwks jsonb, partner_audience text, partner_algorithms text[],
  partner_single_use boolean, partner_status text, waits_until timestamptz
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
    SELECT t.ordinal::integer, o.organization_id, o.status, o.generation, o.tier,
        a.agent_id, a.status, a.generation, a.scopes, a.token_ttl_seconds,
        c.credential_id, c.status, c.generation, c.expires_at, c.retires_at, c.last_used_at,
        (SELECT jsonb_agg(jsonb_build_array(s.name, r.identifier, r.token_ttl_seconds))
          FROM unnest(a.scopes) AS u (name)
          JOIN resource_scopes s ON s.organization_id = a.organization_id AND s.name = u.name
          JOIN resource_servers r ON r.organization_id = s.organization_id AND r.resource_id = s.resource_id),
        c.public_jwk, c.subject, c.claims,
        p.partner_id, p.jwks_uri, p.jwks, p.audience, p.algorithms, p.single_use, p.status,
        CASE WHEN (SELECT 1 FROM authentication_failures f
            WHERE f.network = t.network AND f.client_id = t.agent AND f.failed_at > p_now - interval '1 minute'
            LIMIT 1) = 1
          THEN coalesce(authentication_wait(t.network, t.agent, p_now, p_client_limit),
            authentication_wait(t.network, NULL, p_now, p_network_limit)) END
      FROM unnest(p_agents, p_issuers, p_networks) WITH ORDINALITY AS t (agent, issuer, network, ordinal)
      JOIN agents a ON a.agent_id = t.agent
      JOIN organizations o ON o.organization_id = a.organization_id
      LEFT JOIN federation_partners p ON p.organization_id = a.organization_id AND p.issuer = t.issuer
      LEFT JOIN credentials c ON c.organization_id = a.organization_id AND c.agent_id = a.agent_id
        AND c.kind <> 'secret' AND c.status <> 'revoked'
        AND CASE WHEN t.issuer IS NULL THEN c.kind = 'key' ELSE c.partner_id = p.partner_id END
      ORDER BY t.ordinal, c.created_at, c.credential_id;
END
$$;
`;

/**
 * As it was, and a credential whose partner is not active is spent: a partner that is disabled while a request waits for
 * the lock earns nothing any more.
 */
const ISSUE_TOKENS = `
CREATE OR REPLACE FUNCTION issue_tokens(
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
        c.status = 'revoked' OR c.expires_at <= t.occurred OR c.retires_at <= t.occurred
          OR p.status <> 'active' AS credential_spent,
        o.generation || '.' || a.generation || '.' || c.generation AS present
      FROM unnest(p_organizations, p_actors, p_credentials, p_occurred)
        WITH ORDINALITY AS t (organization, agent, credential, occurred, i)
      LEFT JOIN organizations o ON o.organization_id = t.organization
      LEFT JOIN organization_ledgers l ON l.organization_id = t.organization
      LEFT JOIN tiers ti ON ti.name = o.tier
      LEFT JOIN agents a ON a.organization_id = t.organization AND a.agent_id = t.agent
      LEFT JOIN credentials c ON c.organization_id = t.organization AND c.agent_id = t.agent
        AND c.credential_id = t.credential
      LEFT JOIN federation_partners p ON p.organization_id = t.organization AND p.partner_id = c.partner_id
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
`;

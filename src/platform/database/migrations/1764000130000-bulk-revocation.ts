import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Revocation of tokens that were issued before an instant, in one write. */
export class BulkRevocation1764000130000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(COLUMNS);
    await runner.query(TOKEN_TIERS);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * `revoked_below`: the first `jti` that was kept; a `jti` begins with the instant of its issuance (RFC 9562 §5.7).
 * `revoked_generation`: the generation that this revocation began; tokens of earlier ones are kept from `revoked_below`
 * on, whereas tokens of this one were issued after the revocation and are kept whatever a clock said.
 *
 * Of organizations and credentials, whose generation kills when it moves on, it holds only as long as
 * `revoked_generation` is the present one, and back to `kept_from_generation`. So the version before, which knows none
 * of these and moves the generation on, kills all tokens as it always did.
 */
const COLUMNS = `
ALTER TABLE organizations ADD COLUMN revoked_below uuid, ADD COLUMN revoked_generation integer,
  ADD COLUMN kept_from_generation integer;
ALTER TABLE agents ADD COLUMN revoked_below uuid, ADD COLUMN revoked_generation integer;
ALTER TABLE credentials ADD COLUMN revoked_below uuid, ADD COLUMN revoked_generation integer,
  ADD COLUMN kept_from_generation integer;
`;

/** As it was, and tokens issued before an instant may be dead. The version before calls it too, so it holds there too. */
const TOKEN_TIERS = `
CREATE OR REPLACE FUNCTION token_tiers(
  p_organizations uuid[], p_agents uuid[], p_credentials uuid[], p_jtis uuid[], p_scopes text[],
  p_organization_generations integer[], p_agent_generations integer[], p_credential_generations integer[]
) RETURNS text[]
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  v_tiers text[];
BEGIN
  SELECT array_agg(CASE WHEN
        o.status = 'active' AND a.status = 'active'
        AND (o.generation = t.organization_generation OR o.generation = o.revoked_generation
          AND t.organization_generation >= o.kept_from_generation AND t.jti >= o.revoked_below)
        AND t.agent_generation BETWEEN a.valid_from_generation AND a.generation
        AND (a.revoked_below IS NULL OR t.agent_generation >= a.revoked_generation OR t.jti >= a.revoked_below)
        AND (c.generation = t.credential_generation OR c.generation = c.revoked_generation
          AND t.credential_generation >= c.kept_from_generation AND t.jti >= c.revoked_below)
        AND string_to_array(t.scope, ' ') <@ a.scopes
        AND (a.scope_removals = '{}' OR NOT EXISTS (
          SELECT 1 FROM unnest(string_to_array(t.scope, ' ')) AS s (name)
            WHERE (a.scope_removals ->> s.name)::integer > t.agent_generation))
        AND r.jti IS NULL THEN o.tier END ORDER BY t.i) INTO v_tiers
    FROM unnest(p_organizations, p_agents, p_credentials, p_jtis, p_scopes, p_organization_generations,
        p_agent_generations, p_credential_generations) WITH ORDINALITY
      AS t (organization, agent, credential, jti, scope, organization_generation, agent_generation,
        credential_generation, i)
    LEFT JOIN organizations o ON o.organization_id = t.organization
    LEFT JOIN agents a ON a.organization_id = t.organization AND a.agent_id = t.agent
    LEFT JOIN credentials c ON c.organization_id = t.organization AND c.agent_id = t.agent
      AND c.credential_id = t.credential
    LEFT JOIN token_revocations r ON r.organization_id = t.organization AND r.jti = t.jti;
  RETURN v_tiers;
END
$$;
`;

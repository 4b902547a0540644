import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The check of a token tells the tier of its organization as well, which it has read anyway. */
export class TokenTiers1764000040001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TOKEN_TIERS);
    await runner.query(TOKENS_ALIVE);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/** For each token the tier of its organization where the token is alive, else null: the one place that decides it. */
const TOKEN_TIERS = `
CREATE FUNCTION token_tiers(
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
        AND o.generation = t.organization_generation
        AND t.agent_generation BETWEEN a.valid_from_generation AND a.generation
        AND c.generation = t.credential_generation
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

const TOKENS_ALIVE = `
CREATE OR REPLACE FUNCTION tokens_alive(
  p_organizations uuid[], p_agents uuid[], p_credentials uuid[], p_jtis uuid[], p_scopes text[],
  p_organization_generations integer[], p_agent_generations integer[], p_credential_generations integer[]
) RETURNS boolean[]
LANGUAGE sql STABLE
AS $$
  SELECT array_agg(t.tier IS NOT NULL ORDER BY t.i)
    FROM unnest(token_tiers(p_organizations, p_agents, p_credentials, p_jtis, p_scopes, p_organization_generations,
      p_agent_generations, p_credential_generations)) WITH ORDINALITY AS t (tier, i)
$$;
`;

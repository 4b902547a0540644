import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Failed client authentications of the last minute, counted for client and network together. */
export class FailedAuthentications1764000040000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TABLE);
    await runner.query(WAIT);
    await runner.query(RECORD);
    await runner.query(READ_CLIENTS);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * A row a failure, deleted once it counts no longer; tries that had to wait leave none, so a network has few. There is
 * one index only: of several, a plan made while the table was empty may take one that reads all rows once it is not.
 */
const TABLE = `
CREATE TABLE authentication_failures (
  network text NOT NULL,
  client_id uuid NOT NULL,
  failed_at timestamptz(3) NOT NULL
);
CREATE INDEX authentication_failures_of_source ON authentication_failures (network, client_id, failed_at);
`;

/**
 * Until when a client from a network, or (null) the network as a whole, has to wait; null where it does not. It waits
 * while there are as many failures as the limit within a minute: until the oldest of them is a minute old. Failures that
 * lie ahead are those of a replica whose clock is fast; more than 5 seconds ahead they are of a clock that was set back.
 */
const WAIT = `
CREATE FUNCTION authentication_wait(p_network text, p_client uuid, p_now timestamptz, p_limit integer)
RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_oldest timestamptz;
BEGIN
  IF p_client IS NULL THEN
    SELECT f.failed_at INTO v_oldest FROM authentication_failures f
      WHERE f.network = p_network
        AND f.failed_at > p_now - interval '1 minute' AND f.failed_at <= p_now + interval '5 seconds'
      ORDER BY f.failed_at DESC OFFSET p_limit - 1 LIMIT 1;
  ELSE
    SELECT f.failed_at INTO v_oldest FROM authentication_failures f
      WHERE f.network = p_network AND f.client_id = p_client
        AND f.failed_at > p_now - interval '1 minute' AND f.failed_at <= p_now + interval '5 seconds'
      ORDER BY f.failed_at DESC OFFSET p_limit - 1 LIMIT 1;
  END IF;
  RETURN v_oldest + interval '1 minute';
END
$$;
`;

/**
 * Counts failures, in the order given: for each, until when its client and until when its network had to wait before
 * it; both null: it was counted. The first failure of a known client is counted behind a waiting network as well, since
 * clients that failed wait there. Networks are locked in sorted order, and read afterwards.
 */
const RECORD = `
CREATE FUNCTION record_authentication_failures(
  p_networks text[], p_clients uuid[], p_known boolean[], p_failed_at timestamptz[],
  p_client_limit integer, p_network_limit integer
) RETURNS TABLE (client_waits_until timestamptz, network_waits_until timestamptz)
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '1s'
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  v_network text;
  v_counts boolean;
BEGIN
  FOR v_network IN SELECT DISTINCT n FROM unnest(p_networks) AS n ORDER BY n LOOP
    PERFORM pg_advisory_xact_lock(7301100, hashtext(v_network));
  END LOOP;
  FOR i IN 1 .. cardinality(p_networks) LOOP
    client_waits_until := authentication_wait(p_networks[i], p_clients[i], p_failed_at[i], p_client_limit);
    network_waits_until := authentication_wait(p_networks[i], NULL, p_failed_at[i], p_network_limit);
    v_counts := client_waits_until IS NULL AND network_waits_until IS NULL;
    IF NOT v_counts AND p_known[i] THEN
      v_counts := NOT EXISTS (SELECT FROM authentication_failures f
        WHERE f.network = p_networks[i] AND f.client_id = p_clients[i]
          AND f.failed_at > p_failed_at[i] - interval '1 minute');
    END IF;
    IF v_counts THEN
      INSERT INTO authentication_failures (network, client_id, failed_at)
        VALUES (p_networks[i], p_clients[i], p_failed_at[i]);
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;
`;

/**
 * The same as before, which the version before still calls, and with it the tier and until when the client has to wait
 * in its network: for a client without a failure there, one look into an index. (Not by EXISTS: the planner may answer
 * that from a hash of the whole table.)
 */
const READ_CLIENTS = `
CREATE FUNCTION read_clients(
  p_agents uuid[], p_prefixes text[], p_networks text[], p_now timestamptz, p_client_limit integer,
  p_network_limit integer
)
RETURNS TABLE (
  ordinal integer, organization_id uuid, organization_status text, organization_generation integer, tier text,
  agent_id uuid, agent_status text, agent_generation integer, scopes text[], token_ttl_seconds integer,
  credential_id uuid, credential_status text, credential_generation integer, secret_hash bytea,
  expires_at timestamptz, retires_at timestamptz, last_used_at timestamptz, audiences jsonb, waits_until timestamptz
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
        c.credential_id, c.status, c.generation, c.secret_hash, c.expires_at, c.retires_at, c.last_used_at,
        (SELECT jsonb_agg(jsonb_build_array(s.name, r.identifier, r.token_ttl_seconds))
          FROM unnest(a.scopes) AS u (name)
          JOIN resource_scopes s ON s.organization_id = a.organization_id AND s.name = u.name
          JOIN resource_servers r ON r.organization_id = s.organization_id AND r.resource_id = s.resource_id),
        CASE WHEN (SELECT 1 FROM authentication_failures f
            WHERE f.network = t.network AND f.client_id = t.agent AND f.failed_at > p_now - interval '1 minute'
            LIMIT 1) = 1
          THEN coalesce(authentication_wait(t.network, t.agent, p_now, p_client_limit),
            authentication_wait(t.network, NULL, p_now, p_network_limit)) END
      FROM unnest(p_agents, p_prefixes, p_networks) WITH ORDINALITY AS t (agent, prefix, network, ordinal)
      JOIN agents a ON a.agent_id = t.agent
      JOIN organizations o ON o.organization_id = a.organization_id
      LEFT JOIN credentials c ON c.agent_id = t.agent AND c.prefix = t.prefix AND c.kind = 'secret';
END
$$;
`;

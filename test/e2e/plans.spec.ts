import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { StatementPool, type NamedStatement } from '../../src/platform/database/statement-pool.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/**
 * What a request of the hot path reads, it finds by an index, however many rows there are: statements as the service
 * sent them are run again on full tables, and PostgreSQL counts the sequential scans of the transaction.
 */
describe('no table is scanned by', () => {
  const sent = new Map<string, { statement: NamedStatement; values: readonly unknown[] }>();
  let service: TestApp;
  let connection: pg.Client;

  beforeAll(async () => {
    service = await startTestApp();
    const query = jest.spyOn(service.app.get(StatementPool), 'query');
    const { api, database } = service;
    const operator = await api.token(service.operator);
    const agent = await api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
    const token = await api.token(agent);
    await api.introspect(token, token);
    await api.call('GET', `/agents/${agent.agentId}`, token);
    for (const [statement, values] of query.mock.calls) sent.set(statement.name, { statement, values });
    query.mockRestore();
    await fill(database);
    connection = new pg.Client({ connectionString: database.servingUrl });
    await connection.connect();
  });
  afterAll(async () => {
    await connection.end();
    await service.close();
  });

  /** Rows enough for a scan to be dearer than an index, in every table that the hot path reads. */
  async function fill({ query }: TestApp['database']): Promise<void> {
    for (const text of [
      `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
        SELECT gen_random_uuid(), 'full', 'full-' || n, 'free', 'active', now(), now() FROM generate_series(1, 3000) n`,
      `INSERT INTO organization_ledgers (organization_id, head_hash)
        SELECT organization_id, '' FROM organizations ON CONFLICT DO NOTHING`,
      `INSERT INTO agents (organization_id, agent_id, name, status, created_at, updated_at)
        SELECT organization_id, gen_random_uuid(), 'full', 'active', now(), now() FROM organizations`,
      `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, created_at)
        SELECT organization_id, agent_id, gen_random_uuid(), 'secret', 'active', 'sas_full', '', now() FROM agents`,
      `INSERT INTO token_revocations (organization_id, jti, expires_at)
        SELECT organization_id, gen_random_uuid(), now() FROM organizations`,
      'ANALYZE',
    ]) {
      await query(text);
    }
  }

  it.each(['read_clients', 'issue_tokens', 'token_tiers', 'read_agents'])('%s', async (name) => {
    const { statement, values } = sent.get(name) as NonNullable<ReturnType<typeof sent.get>>;
    await connection.query('BEGIN');
    // An event has an id of its own.
    const again = values.map((value, at) => (name === 'issue_tokens' && at === 5 ? `{${randomUUID()}}` : value));
    await connection.query({ ...statement, values: again });
    const { rows } = await connection.query<{ relname: string; seq_scan: string }>(
      // That one has a single row.
      `SELECT relname, seq_scan FROM pg_stat_xact_user_tables
        WHERE seq_scan > 0 AND relname <> 'signing_key_set' ORDER BY relname`,
    );
    await connection.query('ROLLBACK');
    expect(rows).toEqual([]);
  });
});

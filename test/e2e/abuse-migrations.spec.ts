import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { FailedAuthentications1764000040000 } from '../../src/platform/database/migrations/1764000040000-failed-authentications.js';
import { createEmptyDatabase, type TestDatabase } from '../support/test-database.js';
import { addOrganization } from '../support/organization.js';

describe('the migrations of failed authentications and tiers, from the schema before them', () => {
  let database: TestDatabase;
  let organizationId: string;
  const [agentId, credentialId] = [randomUUID(), randomUUID()];

  beforeAll(async () => {
    database = await createEmptyDatabase();
    const before = MIGRATIONS.slice(0, MIGRATIONS.indexOf(FailedAuthentications1764000040000));
    const source = new DataSource({ ...dataSourceOptions(database.owningUrl, 1), migrations: before });
    await source.initialize();
    await source.runMigrations({ transaction: 'each' });
    await source.destroy();
    organizationId = await addOrganization(database, 'pro');
    await database.query(
      `INSERT INTO agents (organization_id, agent_id, name, status, scopes, created_at, updated_at)
        VALUES ($1, $2, 'before', 'active', '{agents:read}', now(), now())`,
      [organizationId, agentId],
    );
    await database.query(
      `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, created_at)
        VALUES ($1, $2, $3, 'secret', 'active', 'sas_12345678', '\\x00', now())`,
      [organizationId, agentId, credentialId],
    );
  });
  afterAll(() => database.drop());

  async function aliveAndTier(): Promise<{ alive: boolean[]; tiers?: (string | null)[] } | undefined> {
    const parameters = `ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::uuid], ARRAY[gen_random_uuid()], ARRAY['agents:read'],
      ARRAY[1], ARRAY[1], ARRAY[1]`;
    const [exists] = await database.query<{ found: boolean }>(
      "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'token_tiers') AS found",
    );
    const tiers = exists?.found === true ? `, token_tiers(${parameters}) AS tiers` : '';
    const [row] = await database.query<{ alive: boolean[] }>(`SELECT tokens_alive(${parameters}) AS alive${tiers}`, [
      organizationId,
      agentId,
      credentialId,
    ]);
    return row;
  }

  it('keep what the version before calls, with the same answers, and add what this one calls', async () => {
    const older = 'SELECT * FROM read_clients($1::uuid[], $2::text[])';
    const values = [
      [agentId, randomUUID()],
      ['sas_12345678', 'sas_12345678'],
    ];
    const known = await database.query(older, values);
    expect(known).toMatchObject([{ ordinal: 1, agent_id: agentId, credential_id: credentialId }]);
    expect(await aliveAndTier()).toEqual({ alive: [true] });

    expect((await migrate(database.owningUrl, database.servingUrl)).length).toBeGreaterThan(1);

    expect(await database.query(older, values)).toEqual(known);
    expect(await aliveAndTier()).toEqual({ alive: [true], tiers: ['pro'] });
    const newer = `SELECT * FROM read_clients($1::uuid[], $2::text[], ARRAY['192.0.2.1', '192.0.2.1'], now(), 10, 100)`;
    expect(await database.query(newer, values)).toEqual([{ ...known[0], tier: 'pro', waits_until: null }]);
    await database.query("UPDATE organizations SET status = 'suspended' WHERE organization_id = $1", [organizationId]);
    expect(await aliveAndTier()).toEqual({ alive: [false], tiers: [null] });
  });
});

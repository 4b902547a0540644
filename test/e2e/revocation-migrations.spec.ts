import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { BulkRevocation1764000130000 } from '../../src/platform/database/migrations/1764000130000-bulk-revocation.js';
import { firstUuidAt } from '../../src/platform/kernel/uuid.js';
import { addOrganization } from '../support/organization.js';
import { createEmptyDatabase, type TestDatabase } from '../support/test-database.js';

const CREDENTIALS = 2000;

describe('the migrations of bulk revocation', () => {
  let database: TestDatabase;
  let organization: string;
  let agent: string;
  let credential: string;

  /** A database as the version before left it, with rows in it. */
  beforeEach(async () => {
    database = await createEmptyDatabase();
    const before = new DataSource({
      ...dataSourceOptions(database.owningUrl, 3),
      migrations: MIGRATIONS.slice(0, MIGRATIONS.indexOf(BulkRevocation1764000130000)),
    });
    await before.initialize();
    await before.runMigrations({ transaction: 'each' });
    await before.destroy();
    organization = await addOrganization(database);
    agent = randomUUID();
    credential = randomUUID();
    await database.query(
      `INSERT INTO agents (organization_id, agent_id, name, status, scopes, generation, created_at, updated_at)
        VALUES ($1, $2, 'old', 'active', '{agents:read}', 3, now(), now())`,
      [organization, agent],
    );
    await database.query(
      `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, generation, created_at)
        SELECT $1, $2, CASE n WHEN 1 THEN $3::uuid ELSE gen_random_uuid() END, 'secret', 'active', 'sas_' || n, '\\x00', 4, now()
          FROM generate_series(1, ${CREDENTIALS}) n`,
      [organization, agent, credential],
    );
  });
  afterEach(() => database.drop());

  /** What the version before asks of a token; `tokens_alive` is what the one before that asks. */
  async function alive(generations: [number, number, number], jti: string): Promise<boolean> {
    const [row] = await database.query<{ tier: string | null; alive: boolean }>(
      `SELECT (token_tiers(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::uuid], ARRAY[$4::uuid], ARRAY['agents:read'],
          ARRAY[$5::integer], ARRAY[$6::integer], ARRAY[$7::integer]))[1] AS tier,
        (tokens_alive(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::uuid], ARRAY[$4::uuid], ARRAY['agents:read'],
          ARRAY[$5::integer], ARRAY[$6::integer], ARRAY[$7::integer]))[1] AS alive`,
      [organization, agent, credential, jti, ...generations],
    );
    expect(row?.alive).toBe(row?.tier !== null);
    return row?.alive === true;
  }

  const early = firstUuidAt(new Date('2026-11-01T00:00:00Z'));
  const late = firstUuidAt(new Date('2026-11-02T00:00:00Z'));

  it('leave every token as it was, and find a credential by its id', async () => {
    expect(await alive([1, 3, 4], early)).toBe(true);
    await migrate(database.owningUrl, database.servingUrl);
    for (const jti of [early, late, randomUUID()]) {
      expect(await alive([1, 3, 4], jti)).toBe(true);
      expect(await alive([2, 3, 4], jti)).toBe(false);
      expect(await alive([1, 4, 4], jti)).toBe(false);
      expect(await alive([1, 3, 3], jti)).toBe(false);
    }
    const [plan] = await database.query<{ 'QUERY PLAN': string }>(
      `EXPLAIN SELECT * FROM credentials WHERE credential_id = '${credential}'`,
    );
    expect(plan?.['QUERY PLAN']).toContain('credentials_credential_id');
  });

  it('have the version before enforce what a newer one revokes, and kill as it always did behind that', async () => {
    await migrate(database.owningUrl, database.servingUrl);
    for (const [table, generations] of [
      ['organizations', [2, 3, 4]],
      ['credentials', [1, 3, 5]],
    ] as const) {
      await database.query(
        `UPDATE ${table} SET generation = generation + 1, revoked_generation = generation + 1,
          kept_from_generation = generation, revoked_below = $1`,
        [late],
      );
      expect(await alive([1, 3, 4], early)).toBe(false);
      expect(await alive([1, 3, 4], late)).toBe(true);
      expect(await alive([...generations], early)).toBe(true);
      // A suspension, a revoked credential: what the version before writes.
      await database.query(`UPDATE ${table} SET generation = generation + 1`);
      expect(await alive([1, 3, 4], late)).toBe(false);
      expect(await alive([...generations], late)).toBe(false);
      await database.query(`UPDATE ${table} SET generation = generation - 2, revoked_generation = NULL`);
    }
    await database.query('UPDATE agents SET generation = 4, revoked_generation = 4, revoked_below = $1', [late]);
    expect([await alive([1, 3, 4], early), await alive([1, 3, 4], late), await alive([1, 4, 4], early)]).toEqual([
      false,
      true,
      true,
    ]);
    await database.query('UPDATE agents SET generation = 5, valid_from_generation = 5');
    expect([await alive([1, 3, 4], late), await alive([1, 4, 4], late), await alive([1, 5, 4], early)]).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('make the index anew where an attempt broke off', async () => {
    await database.query('CREATE UNIQUE INDEX credentials_credential_id ON credentials (credential_id)');
    await database.query(
      "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'credentials_credential_id'::regclass",
    );
    await migrate(database.owningUrl, database.servingUrl);
    const rows = await database.query(
      "SELECT indisvalid, indisunique FROM pg_index WHERE indexrelid = 'credentials_credential_id'::regclass",
    );
    expect(rows).toEqual([{ indisvalid: true, indisunique: true }]);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { exportPrivateKey, generateSigningKey } from '../../src/keys/signing-key.js';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { KeyRotation1764000120000 } from '../../src/platform/database/migrations/1764000120000-key-rotation.js';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { headerOf } from '../support/forge.js';
import { advance, jwksKids, kidsOf } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createEmptyDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';

/** Writes a key as the version before rotations did. */
async function insertAsBefore(
  query: (text: string, values: unknown[]) => Promise<unknown>,
  purpose: string,
  phase: string,
  algorithm: 'RS256' | 'ES256' = 'ES256',
): Promise<string> {
  const key = await generateSigningKey(algorithm);
  const sealed = new Sealer(TEST_MASTER_KEY).seal(exportPrivateKey(key), `signing-key:${key.kid}`);
  await query(
    `INSERT INTO signing_keys (kid, purpose, algorithm, phase, public_jwk, sealed_private_key, created_at, retired_at)
      VALUES ($1, $2, $3, $4, $5, $6, now() - interval '200 days', CASE WHEN $4 = 'retired' THEN now() END)`,
    [key.kid, purpose, algorithm, phase, key.publicJwk, sealed],
  );
  return key.kid;
}

describe('keys from before rotations', () => {
  let database: TestDatabase;
  let serving: pg.Client;
  let service: TestApp;
  let signing: string;
  let retired: string;
  let audit: string;

  beforeAll(async () => {
    database = await createEmptyDatabase();
    const before = new DataSource({
      ...dataSourceOptions(database.owningUrl, 3),
      migrations: MIGRATIONS.slice(0, MIGRATIONS.indexOf(KeyRotation1764000120000)),
    });
    await before.initialize();
    await before.runMigrations({ transaction: 'each' });
    await before.destroy();
    signing = await insertAsBefore(database.query, 'access_token', 'active', 'RS256');
    retired = await insertAsBefore(database.query, 'access_token', 'retired');
    audit = await insertAsBefore(database.query, 'audit', 'active');
    await migrate(database.owningUrl, database.servingUrl);
    service = await startTestApp({ database });
    serving = new pg.Client({ connectionString: database.servingUrl });
    await serving.connect();
  });
  afterAll(async () => {
    await service.close();
    await serving.end();
    await database.drop();
  });

  it('go on signing, with one published ahead of each', async () => {
    expect(headerOf(await service.api.token(service.operator))['kid']).toBe(signing);
    expect(await kidsOf(database, 'active', 'audit')).toEqual([audit]);
    expect(await kidsOf(database, 'next')).toHaveLength(1);
    expect(await kidsOf(database, 'next', 'audit')).toHaveLength(1);
  });

  it('are not replaced by the schedule while the version before may serve, however old they are', async () => {
    await database.query("UPDATE signing_keys SET published_at = published_at - interval '200 days'");
    await advance(service);
    expect(await kidsOf(database, 'active')).toEqual([signing]);
  });

  it('stay published for the longest lifetime that there is', async () => {
    await database.query("UPDATE signing_keys SET retired_at = now() - interval '1 day' WHERE kid = $1", [retired]);
    await advance(service);
    expect(await jwksKids(service)).toContain(retired);
    await database.query("UPDATE signing_keys SET retired_at = now() - interval '1 day 3 minutes' WHERE kid = $1", [
      retired,
    ]);
    await advance(service);
    expect(await jwksKids(service)).not.toContain(retired);
  });

  it('are replaced at a start of the version before, and this one follows at once', async () => {
    await serving.query('BEGIN');
    await serving.query("UPDATE signing_keys SET phase = 'retired', retired_at = now() WHERE kid = $1", [signing]);
    const made = await insertAsBefore((text, values) => serving.query(text, values), 'access_token', 'active', 'RS256');
    await serving.query('COMMIT');
    const token = await service.api.token(service.operator);
    expect(headerOf(token)['kid']).toBe(made);
    expect(await service.api.introspect(token, token)).toMatchObject({ active: true });
  });

  it('are deleted by the serving role only where nothing needs them', async () => {
    const [active, next] = [await kidsOf(database, 'active'), await kidsOf(database, 'next')];
    const remove = async (kid = ''): Promise<unknown> =>
      (await serving.query<{ removed: boolean }>('SELECT remove_signing_key($1) AS removed', [kid])).rows[0]?.removed;
    expect(await remove(active[0])).toBe(false);
    expect(await remove(signing)).toBe(false);
    expect(await remove(audit)).toBe(false);
    expect(await remove('unknown')).toBe(false);
    await database.query("UPDATE signing_keys SET phase = 'revoked', revoked_at = now() WHERE kid = $1", [signing]);
    expect(await remove(signing)).toBe(false);
    expect(await remove(next[0])).toBe(true);
    await expect(serving.query('DELETE FROM signing_keys')).rejects.toMatchObject({ code: '42501' });
    await expect(serving.query('DELETE FROM signing_key_set')).rejects.toMatchObject({ code: '42501' });
    // It is made anew.
    await advance(service);
    expect(await kidsOf(database, 'next')).toHaveLength(1);
  });
});

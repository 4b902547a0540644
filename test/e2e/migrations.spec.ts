import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { DataSource, type MigrationInterface, type QueryRunner } from 'typeorm';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { DELIVERY_SLOTS, deliverySlotTable } from '../../src/platform/database/delivery-slots.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { Federation1764000050000 } from '../../src/platform/database/migrations/1764000050000-federation.js';
import { lockWaiters, until } from '../faults/conditions.js';
import { cleanUpProcesses, environmentOf, runCommand } from '../support/service-process.js';
import { addOrganization } from '../support/organization.js';
import { startTestApp } from '../support/test-app.js';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/test-database.js';

const NAMES = MIGRATIONS.map(({ name }) => name);
const INSUFFICIENT_PRIVILEGE = '42501';

/** A migration that wants a table for itself, as one of a later version may. */
class Later1999000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE credentials ADD COLUMN later integer');
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}
const LATER = [...MIGRATIONS, Later1999000000000];

/** A session of somebody who has read a table in a transaction that stays open: a backup, or a forgotten terminal. */
async function reader(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.owningUrl });
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT 1 FROM credentials');
  return client;
}

/** What the database says that was run, oldest first. */
async function recorded(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ name: string }>('SELECT name FROM schema_migrations ORDER BY id');
  return rows.map(({ name }) => name);
}

describe('migrating', () => {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await createEmptyDatabase();
  });
  afterEach(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  it('runs every migration on an empty database, oldest first, and nothing the second time', async () => {
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual(NAMES);
    expect(await recorded(database)).toEqual(NAMES);
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual([]);
    expect(await recorded(database)).toEqual(NAMES);
  });

  it('runs each migration once where five replicas begin at once', async () => {
    const runs = await Promise.all([1, 2, 3, 4, 5].map(() => migrate(database.owningUrl, database.servingUrl)));
    expect(runs.filter((names) => names.length > 0)).toEqual([NAMES]);
    expect(await recorded(database)).toEqual(NAMES);
  });

  it('runs each migration once where several processes begin at once', async () => {
    const env = environmentOf(database);
    const endings = await Promise.all([1, 2, 3].map(() => runCommand(['migrate'], env)));
    for (const { code } of endings) expect(code).toBe(0);
    expect(await recorded(database)).toEqual(NAMES);
  });

  it('lets the application serve where one role does both', async () => {
    await migrate(database.owningUrl, database.owningUrl);
    const service = await startTestApp({ database: { ...database, servingUrl: database.owningUrl } });
    expect((await service.api.requestToken(service.operator)).status).toBe(200);
    await service.close();
  });

  it('takes no privilege away from a replica that serves meanwhile', async () => {
    await migrate(database.owningUrl, database.servingUrl);
    const service = await startTestApp({ database });
    let migrated = false;
    const migrating = (async () => {
      for (let run = 1; run <= 5; run += 1) await migrate(database.owningUrl, database.servingUrl);
      migrated = true;
    })();
    while (!migrated) expect((await service.api.requestToken(service.operator)).status).toBe(200);
    await migrating;
    await service.close();
  });

  it('grants the serving role what a migration makes with the migration, not after the last', async () => {
    // Stops the run at the migration that makes an index of this name.
    await database.query('CREATE TABLE public.credentials_of_partner ()');
    await expect(migrate(database.owningUrl, database.servingUrl)).rejects.toThrow('"credentials_of_partner" already');
    const made = await database.query<{ name: string; granted: boolean }>(
      `SELECT relname AS name, has_table_privilege('agentidp_test_serving', oid, 'SELECT, TRUNCATE') AS granted
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
          AND relname <> 'credentials_of_partner'`,
    );
    expect(made.map(({ name }) => name)).toEqual(expect.arrayContaining(['agents', 'audit_trees', 'audit_refusals']));
    expect(made.filter(({ granted }) => !granted)).toEqual([]);
  });

  it('takes the secrets of the version before for secrets, and lets that version go on making them', async () => {
    // As `migrate` does, but up to the migration before the one that knows keys and identities.
    const before = new DataSource({
      ...dataSourceOptions(database.owningUrl, 3),
      migrations: MIGRATIONS.slice(0, MIGRATIONS.indexOf(Federation1764000050000)),
    });
    await before.initialize();
    await before.runMigrations({ transaction: 'each' });
    await before.destroy();
    const organizationId = await addOrganization(database);
    const insertSecret = async (): Promise<void> => {
      const agentId = randomUUID();
      await database.query(
        `INSERT INTO agents (organization_id, agent_id, name, status, created_at, updated_at)
          VALUES ($1, $2, 'old', 'active', now(), now())`,
        [organizationId, agentId],
      );
      await database.query(
        `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, created_at)
          VALUES ($1, $2, gen_random_uuid(), 'secret', 'active', 'sas_12345678', '\\x00', now())`,
        [organizationId, agentId],
      );
    };
    for (let count = 0; count < 3; count += 1) await insertSecret();
    await migrate(database.owningUrl, database.servingUrl);
    await insertSecret();
    const rows = await database.query(
      `SELECT kind, prefix, public_jwk, thumbprint, partner_id, subject, claims, count(*)::integer AS count
        FROM credentials GROUP BY 1, 2, 3, 4, 5, 6, 7`,
    );
    const others = { public_jwk: null, thumbprint: null, partner_id: null, subject: null, claims: null };
    expect(rows).toEqual([{ kind: 'secret', prefix: 'sas_12345678', ...others, count: 4 }]);
    // What the version before asks of a client.
    const [client] = await database.query(
      `SELECT (read_clients(ARRAY[agent_id], ARRAY['sas_12345678'])).credential_status AS status FROM agents LIMIT 1`,
    );
    expect(client).toEqual({ status: 'active' });
    for (const wrong of [
      "kind = 'other'",
      "kind = 'key'",
      "kind = 'federated'",
      "kind = 'secret', secret_hash = NULL",
      "kind = 'secret', prefix = NULL",
      'partner_id = gen_random_uuid()',
    ]) {
      await expect(database.query(`UPDATE credentials SET ${wrong}`)).rejects.toThrow(/constraint/);
    }
  });

  it('refuses a server that is older than PostgreSQL 14, and changes nothing there', async () => {
    // A function in front of the catalogue's own makes the server say that it is older.
    await database.query(`
      CREATE SCHEMA older;
      CREATE FUNCTION older.current_setting(text) RETURNS text LANGUAGE sql AS $$
        SELECT CASE $1 WHEN 'server_version_num' THEN '130022' ELSE pg_catalog.current_setting($1) END $$;
      GRANT USAGE ON SCHEMA older TO PUBLIC;
      ALTER DATABASE ${database.name} SET search_path = older, pg_catalog, public`);
    await expect(migrate(database.owningUrl, database.servingUrl)).rejects.toThrow(
      'PostgreSQL 14 or later is required',
    );
    expect(await database.query("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")).toEqual([]);
  });

  it('lets replicas serve while a migration waits for a table, and goes on when it gets it', async () => {
    await migrate(database.owningUrl, database.servingUrl);
    const service = await startTestApp({ database });
    const reading = await reader(database);
    const told: string[] = [];
    const announce = (line: string) => void told.push(line);
    const migrating = migrate(database.owningUrl, database.servingUrl, { migrations: LATER, announce });
    for (let wait = 0; wait < 2; wait += 1) {
      await lockWaiters(database, 'ALTER TABLE credentials ADD COLUMN later');
      const began = performance.now();
      // It stands behind the migration, which stands behind the reader.
      expect((await service.api.requestToken(service.operator)).status).toBe(200);
      expect(performance.now() - began).toBeLessThan(1000);
    }
    expect(told).toEqual([expect.stringContaining('Later1999000000000 waits for a lock')]);
    await reading.end();
    expect(await migrating).toEqual(['Later1999000000000']);
    expect(await recorded(database)).toEqual(LATER.map(({ name }) => name));
    await service.close();
  });

  it('gives up, with the name of the migration and nothing done, where a table is never to be had', async () => {
    await migrate(database.owningUrl, database.servingUrl);
    const reading = await reader(database);
    const migrating = migrate(database.owningUrl, database.servingUrl, { migrations: LATER, patienceMs: 300 });
    await expect(migrating).rejects.toThrow(/Later1999000000000 got no lock within 0.3 s/);
    await reading.end();
    expect(await recorded(database)).toEqual(NAMES);
    expect(await migrate(database.owningUrl, database.servingUrl, { migrations: LATER })).toEqual([
      'Later1999000000000',
    ]);
  });

  it('goes on when another run that holds the lock of the migrations dies', async () => {
    const dying = new pg.Client({ connectionString: database.owningUrl });
    dying.on('error', () => undefined);
    await dying.connect();
    const { rows } = await dying.query<{ pid: number }>(
      'SELECT pg_backend_pid() AS pid, pg_advisory_lock(7301100101)::text',
    );
    const waiting = migrate(database.owningUrl, database.servingUrl);
    // It asks for the lock, is refused, and asks again.
    await until('a run that wants the lock', async () => {
      const asking = await database.query(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'`,
      );
      return asking.length > 0;
    });
    await database.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
    expect(await waiting).toEqual(NAMES);
  });
});

describe('the serving role', () => {
  let database: TestDatabase;
  let serving: pg.Client;

  beforeAll(async () => {
    database = await createTestDatabase();
    serving = new pg.Client({ connectionString: database.servingUrl });
    serving.on('error', () => undefined);
    await serving.connect();
  });
  afterAll(async () => {
    await serving.end();
    await database.drop();
  });

  async function refused(statement: string): Promise<void> {
    const answer = await serving.query(statement).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code,
    );
    expect([statement, answer]).toEqual([statement, INSUFFICIENT_PRIVILEGE]);
  }

  it('appends to the audit log and reads it, and cannot change it in any way', async () => {
    expect((await serving.query('SELECT count(*) FROM audit_events')).rowCount).toBe(1);
    for (const statement of [
      "UPDATE audit_events SET outcome = 'failure'",
      'UPDATE audit_events SET details = details',
      'DELETE FROM audit_events',
      'TRUNCATE audit_events',
      'SELECT 1 FROM audit_events FOR UPDATE',
      'DROP TABLE audit_events',
      'ALTER TABLE audit_events DISABLE TRIGGER ALL',
      'ALTER TABLE audit_events ALTER COLUMN ip DROP NOT NULL',
      'CREATE RULE r AS ON INSERT TO audit_events DO INSTEAD NOTHING',
      'CREATE TRIGGER t BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
    ]) {
      await refused(statement);
    }
  });

  it.each([
    'DELETE FROM organizations',
    'DELETE FROM organization_ledgers',
    'DELETE FROM agents',
    'DELETE FROM credentials',
    'UPDATE used_assertions SET expires_at = now()',
    'DELETE FROM signing_keys',
    'DELETE FROM sealed_secrets',
    "UPDATE sealed_secrets SET name = 'another'",
    'UPDATE token_revocations SET expires_at = now()',
    'TRUNCATE webhook_deliveries',
    'DELETE FROM webhook_deliveries',
    'TRUNCATE webhooks CASCADE',
    "INSERT INTO tiers (name) VALUES ('own')",
    'UPDATE tiers SET agents = 0',
    "INSERT INTO schema_migrations (timestamp, name) VALUES (1, 'x')",
    'DELETE FROM schema_migrations',
    'CREATE TABLE public.mine ()',
    'CREATE SCHEMA mine',
    'CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$',
    'SET ROLE agentidp_test_owner',
    "COPY agents TO PROGRAM 'cat'",
    'SELECT * FROM pg_authid',
    'CREATE ROLE another',
  ])('may not: %s', async (statement) => {
    await refused(statement);
  });

  it('may not replace the functions of the owner', async () => {
    const answer = await serving.query('DROP FUNCTION issue_tokens').catch((error: pg.DatabaseError) => error.code);
    expect(answer).toBe(INSUFFICIENT_PRIVILEGE);
  });

  it('has something granted on every table, owns none, may trigger on none, and truncates days of webhook deliveries only', async () => {
    // A day of the history is dropped at once; what is read and written goes by the partitioned table.
    const days = DELIVERY_SLOTS.map(deliverySlotTable);
    const tables = await database.query<Record<string, unknown>>(
      `SELECT tablename, tableowner, has_table_privilege($1, format('%I', tablename), 'SELECT') AS reads,
          has_table_privilege($1, format('%I', tablename), 'TRUNCATE') AS truncates,
          has_table_privilege($1, format('%I', tablename), 'INSERT, UPDATE, DELETE') AS writes,
          has_table_privilege($1, format('%I', tablename), 'TRIGGER, REFERENCES') AS more
        FROM pg_tables WHERE schemaname = 'public'`,
      ['agentidp_test_serving'],
    );
    expect(tables.length).toBeGreaterThan(9);
    for (const table of tables) {
      const isDay = days.includes(String(table['tablename']));
      const granted = isDay ? { reads: false, writes: false, truncates: true } : { reads: true, truncates: false };
      expect(table).toMatchObject({ tableowner: 'agentidp_test_owner', ...granted, more: false });
    }
    expect(tables.map(({ tablename }) => tablename)).toEqual(expect.arrayContaining(days));
  });
});

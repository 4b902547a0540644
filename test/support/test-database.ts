import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { createApp } from '../../src/app.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { SystemClock } from '../../src/platform/kernel/clock.js';

/** Seals the secrets of every test database, so that all can share one template. */
export const TEST_MASTER_KEY = createHash('sha256').update('the master key of the tests').digest();

const OWNER = 'agentidp_test_owner';
const SERVING = 'agentidp_test_serving';
const PASSWORD = 'for-tests-only';
/** Held while the roles and the template are made. */
const TEMPLATE_LOCK = 7_301_100_199;

/** A database of a test's own: migrated, empty but for keys. */
export interface TestDatabase {
  readonly name: string;
  /** The role that serves: no more rights than in production. */
  readonly servingUrl: string;
  /** The role that owns the tables. */
  readonly owningUrl: string;
  /** A superuser of this very database, for looking and for tampering. */
  readonly superuserUrl: string;
  /** Runs SQL as the superuser. */
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
  /** Drops the database, ending every session on it. */
  drop(): Promise<void>;
}

/** Makes a database of a test's own from a migrated template; the template is made by whichever test comes first. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const database = await copyOf(await ensureTemplate());
  // As if its keys had just been made: the template's grow older while the tests run.
  await database.query('UPDATE signing_keys SET published_at = now()');
  return database;
}

/** Makes an empty database, not migrated, for tests of migrations. */
export async function createEmptyDatabase(): Promise<TestDatabase> {
  await ensureTemplate();
  return copyOf('template1');
}

async function copyOf(template: string): Promise<TestDatabase> {
  const name = `t_${randomBytes(8).toString('hex')}`;
  await asSuperuser('postgres', async (client) => {
    const { rows } = await client.query<{ version: number }>(
      "SELECT current_setting('server_version_num')::integer AS version",
    );
    // Copied file by file, as every server before PostgreSQL 15 does: by way of the log it takes several times as long.
    const strategy = (rows[0]?.version ?? 0) >= 150_000 ? 'STRATEGY FILE_COPY' : '';
    await client.query(`CREATE DATABASE ${name} OWNER ${OWNER} TEMPLATE ${template} ${strategy}`);
  });
  return openDatabase(name);
}

function openDatabase(name: string): TestDatabase {
  const pool = new pg.Pool({ connectionString: superuserUrl(name), max: 4 });
  pool.on('error', () => undefined);
  return {
    name,
    servingUrl: roleUrl(name, SERVING),
    owningUrl: roleUrl(name, OWNER),
    superuserUrl: superuserUrl(name),
    query: async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) =>
      (await pool.query<Row>(text, values)).rows,
    drop: async () => {
      await pool.end();
      await asSuperuser('postgres', (client) => client.query(`DROP DATABASE ${name} WITH (FORCE)`));
    },
  };
}

let template: Promise<string> | undefined;

/** Makes the roles and the template where they are missing; asked once by each file of tests. */
function ensureTemplate(): Promise<string> {
  template ??= makeTemplate();
  return template;
}

async function makeTemplate(): Promise<string> {
  const template = templateName();
  await asSuperuser('postgres', async (client) => {
    await client.query('SELECT pg_advisory_lock($1)', [TEMPLATE_LOCK]);
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [template]);
    if (rowCount === 0) {
      await makeRole(client, OWNER);
      await makeRole(client, SERVING);
      // Built under another name, so that a run that dies leaves no half-made template behind.
      const building = `${template}_building`;
      await client.query(`DROP DATABASE IF EXISTS ${building} WITH (FORCE)`);
      await client.query(`CREATE DATABASE ${building} OWNER ${OWNER}`);
      await migrate(roleUrl(building, OWNER), roleUrl(building, SERVING));
      await makeKeys(roleUrl(building, SERVING));
      await client.query(`ALTER DATABASE ${building} RENAME TO ${template}`);
    }
    await client.query('SELECT pg_advisory_unlock($1)', [TEMPLATE_LOCK]);
  });
  return template;
}

/** One template for each state of the schema: a server that outlives the run may hold older ones. */
function templateName(): string {
  const folder = join(import.meta.dirname, '../../src/platform/database');
  const hash = createHash('sha256').update(readFileSync(join(folder, 'serving-role.ts')));
  for (const file of readdirSync(join(folder, 'migrations')).sort()) {
    hash.update(readFileSync(join(folder, 'migrations', file)));
  }
  return `agentidp_template_${hash.digest('hex').slice(0, 16)}`;
}

async function makeRole(client: pg.Client, role: string): Promise<void> {
  const { rowCount } = await client.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [role]);
  if (rowCount === 0) await client.query(`CREATE ROLE ${role} LOGIN PASSWORD '${PASSWORD}'`);
}

/** Starts the application once on the template, so that tests do not each make an RSA key. */
async function makeKeys(servingUrl: string): Promise<void> {
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent' });
  const app = await createApp({ config, clock: new SystemClock(), masterKey: TEST_MASTER_KEY, servingUrl });
  await app.close();
}

async function asSuperuser<T>(database: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: superuserUrl(database) });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function superuserUrl(database: string): string {
  const given = process.env['TEST_SUPERUSER_URL'];
  if (given === undefined) throw new Error('TEST_SUPERUSER_URL is not set: run the tests with npm test');
  return withDatabase(given, database);
}

function roleUrl(database: string, role: string): string {
  return superuserUrl(database).replace(/\/\/[^@]*@/, `//${role}:${PASSWORD}@`);
}

/** The URL with another database; by hand, because URLs of sockets have no host. */
function withDatabase(url: string, database: string): string {
  return url.replace(/^([^/]+\/\/[^/]*)\/[^?]*/, `$1/${database}`);
}

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import type { Api } from '../support/api.js';
import { Receiver } from '../support/receiver.js';
import {
  cleanUpProcesses,
  dataFolder,
  environmentOf,
  runCommand,
  startService,
  type ServiceProcess,
} from '../support/service-process.js';
import { createEmptyDatabase, type TestDatabase } from '../support/test-database.js';
import { buildEarlierVersion, BUILD_LIMIT_MS, type EarlierVersion } from './earlier-version.js';
import { Inventory } from './inventory.js';
import { Load } from './load.js';
import { missingRows, readRows } from './rows.js';

const NAMES = MIGRATIONS.map(({ name }) => name);
/** So many requests are answered in each phase. */
const REQUESTS = 300;

const bootstrap = {
  BOOTSTRAP_CLIENT_ID: randomUUID(),
  BOOTSTRAP_CLIENT_SECRET: 'this-is-the-secret-that-upgrade-tests-fix',
};
const operator = { clientId: bootstrap.BOOTSTRAP_CLIENT_ID, clientSecret: bootstrap.BOOTSTRAP_CLIENT_SECRET };

let database: TestDatabase;
let receiver: Receiver;
let env: Readonly<Record<string, string>>;
let earlier: EarlierVersion;

beforeEach(async () => {
  database = await createEmptyDatabase();
  receiver = await Receiver.start();
  env = {
    ...environmentOf(database),
    ...bootstrap,
    WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1',
    // Credentials that were revoked are tried on purpose, and often.
    AUTHENTICATION_FAILURES_PER_CLIENT: '1000',
    RATE_LIMIT_ENTERPRISE: '0',
    RATE_LIMIT_ORGANIZATION_FACTOR: '1000',
  };
});
afterEach(async () => {
  await cleanUpProcesses();
  await receiver.close();
  await database.drop();
});

const startEarlier = (): Promise<ServiceProcess> => startService(env, join(earlier.folder, 'dist/src/main.js'));

async function fill({ api }: ServiceProcess): Promise<Inventory> {
  const inventory = await Inventory.fill(api, operator, String(env['ISSUER']), receiver);
  await inventory.check(api);
  return inventory;
}

/** Every chain of the installation verifies. */
async function verifyChains(api: Api): Promise<void> {
  const token = await api.token(operator);
  const organizations = await database.query<{ id: string }>('SELECT organization_id AS id FROM organizations');
  expect(organizations.length).toBeGreaterThan(2);
  for (const { id } of organizations) {
    const { body } = await api.call('GET', `/audit/verify?organizationId=${id}`, token);
    expect(body).toMatchObject({ valid: true, brokenAt: null });
  }
}

async function recorded(): Promise<string[]> {
  const rows = await database.query<{ name: string }>('SELECT name FROM schema_migrations ORDER BY timestamp');
  return rows.map(({ name }) => name);
}

describe('the version before', () => {
  beforeAll(async () => {
    earlier = await buildEarlierVersion('before');
  }, BUILD_LIMIT_MS);
  afterAll(() => earlier?.remove());

  it('serves on while this one migrates and starts, and beside it, without a failed request', async () => {
    const old = await startEarlier();
    const inventory = await fill(old);
    expect(inventory.size).toBeGreaterThan(30);
    expect(await recorded()).toEqual([...earlier.migrations]);
    const rows = await readRows(database);

    const worker = await old.api.agent(await old.api.token(operator), {
      scopes: ['agents:read', 'agents:write', 'tokens:read'],
    });
    const load = new Load(worker, [old.api]);
    await load.more(REQUESTS);
    // Two replicas of this version start together.
    const [one, two] = await Promise.all([startService(env), startService(env)]);
    expect(await recorded()).toEqual(NAMES);
    await inventory.check(old.api);
    await inventory.check(one.api);
    // Each request of a client now goes to another version than the one before.
    load.use(old.api, one.api, two.api);
    await load.more(REQUESTS);
    load.use(one.api, two.api);
    const ended = await old.stop();
    await load.more(REQUESTS);
    await load.stop();
    process.stderr.write(`upgrade: ${load.answered} answers, ${load.repeated} after a 503 before them\n`);
    expect(load.failures).toEqual([]);
    expect(ended).toMatchObject({ code: 0 });

    await inventory.check(one.api);
    await inventory.check(two.api);
    expect(missingRows(rows, await readRows(database, rows))).toEqual([]);
    const caller = await one.api.token(operator);
    for (const token of load.revoked) expect(await two.api.introspect(caller, token)).toEqual({ active: false });
    await verifyChains(one.api);
    const [counted] = await database.query<{ used: number; issued: number }>(
      `SELECT sum(tokens_used)::integer AS used,
        (SELECT count(*)::integer FROM audit_events WHERE action = 'token.issued') AS issued FROM organization_ledgers`,
    );
    expect(counted?.used).toBe(counted?.issued);
  }, 120_000);
});

describe('the oldest version', () => {
  beforeAll(async () => {
    earlier = await buildEarlierVersion('oldest');
  }, BUILD_LIMIT_MS);
  afterAll(() => earlier?.remove());

  it('leaves a database that every migration takes along, and whose tokens, secrets and revocations hold', async () => {
    const old = await startEarlier();
    const inventory = await fill(old);
    expect(inventory.size).toBeGreaterThan(20);
    expect(await recorded()).toEqual([...earlier.migrations]);
    const rows = await readRows(database);
    expect(await old.stop()).toMatchObject({ code: 0 });

    const now = await startService(env);
    expect(await recorded()).toEqual(NAMES);
    await inventory.check(now.api);
    expect(missingRows(rows, await readRows(database, rows))).toEqual([]);
    await verifyChains(now.api);
  }, 120_000);

  it('is restored by this one from a backup, with all that it knew', async () => {
    const old = await startEarlier();
    const inventory = await fill(old);
    expect(await old.stop()).toMatchObject({ code: 0 });
    const rows = await readRows(database);
    const folder = await dataFolder();
    const file = join(folder, 'of-the-oldest.backup');
    const taken = { code: 0, output: expect.stringContaining('rows as of') };
    expect(await runCommand(['backup', file], env)).toMatchObject(taken);
    expect(await recorded()).toEqual([...earlier.migrations]);

    const backedUp = database;
    database = await createEmptyDatabase();
    await backedUp.drop();
    env = { ...env, ...environmentOf(database) };
    const restored = await runCommand(['restore', file, '--keep-tokens'], env);
    expect(restored).toMatchObject({ code: 0, output: expect.stringContaining('Brought to the newest version') });
    expect(await recorded()).toEqual(NAMES);
    const now = await startService(env);
    await inventory.check(now.api);
    expect(missingRows(rows, await readRows(database, rows))).toEqual([]);
    await verifyChains(now.api);
  }, 120_000);
});

describe('an earlier version that is not in this copy', () => {
  it('fails the test of upgrades, and says how to get it', async () => {
    await expect(buildEarlierVersion('nothing' as 'before')).rejects.toThrow(/is not here\. Run the test in a clone/);
  });
});

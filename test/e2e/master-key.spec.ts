import { afterAll, afterEach, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import { createApp } from '../../src/app.js';
import { Resealing } from '../../src/platform/database/resealing.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import { SystemClock } from '../../src/platform/kernel/clock.js';
import { SealBroken, Sealer } from '../../src/platform/kernel/sealer.js';
import { Receiver } from '../support/receiver.js';
import {
  cleanUpProcesses,
  dataFolder,
  environmentOf,
  runCommand,
  runService,
  startService,
  type ServiceEnvironment,
} from '../support/service-process.js';
import { kidsOf, publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp } from '../support/test-app.js';
import { createTestDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const NEW_KEY = randomBytes(32);
const LOOPBACK = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };
const DONE = /secrets were sealed anew\. None is left/;

const databases: TestDatabase[] = [];
async function ownDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  databases.push(database);
  return database;
}
afterEach(cleanUpProcesses);
afterAll(async () => {
  for (const database of databases) await database.drop();
});

const environment = (database: TestDatabase, key: Buffer, previous?: Buffer): ServiceEnvironment => ({
  ...environmentOf(database),
  ...LOOPBACK,
  MASTER_KEY: key.toString('base64'),
  ...(previous === undefined ? {} : { MASTER_KEY_PREVIOUS: previous.toString('base64') }),
});

/** Every secret that the database holds, opened, by what it was sealed for. */
async function openAll(database: TestDatabase, sealer: Sealer): Promise<Map<string, string>> {
  const rows = await database.query<{ purpose: string; sealed: Buffer }>(
    `SELECT 'signing-key:' || kid AS purpose, sealed_private_key AS sealed FROM signing_keys
      UNION ALL SELECT name, sealed FROM sealed_secrets
      UNION ALL SELECT 'webhook:' || webhook_id, sealed_secret FROM webhooks
      UNION ALL SELECT 'webhook:' || webhook_id, sealed_previous_secret FROM webhooks
        WHERE sealed_previous_secret IS NOT NULL`,
  );
  return new Map(
    rows.map(({ purpose, sealed }, at) => [`${purpose} ${at}`, sealer.open(sealed, purpose).toString('hex')]),
  );
}

/** How many secrets name a key. */
async function countUnder(database: TestDatabase, key: Buffer): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `SELECT count(*)::integer AS count FROM (
      SELECT sealed_private_key AS sealed FROM signing_keys UNION ALL SELECT sealed FROM sealed_secrets
      UNION ALL SELECT sealed_secret FROM webhooks UNION ALL SELECT sealed_previous_secret FROM webhooks) s
      WHERE substring(sealed FROM 2 FOR 4) = $1`,
    [new Sealer(key).presentId],
  );
  return row?.count ?? 0;
}

/** Adds webhooks with a present and a previous secret, as they are stored. */
async function plantWebhooks(database: TestDatabase, count: number): Promise<void> {
  const sealer = new Sealer(TEST_MASTER_KEY);
  const ids = Array.from({ length: count }, () => randomUUID());
  const sealed = ids.map((id) => sealer.seal(randomBytes(32), `webhook:${id}`));
  await database.query(
    `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, disabled_reason, sealed_secret,
        sealed_previous_secret, created_at, updated_at)
      SELECT (SELECT organization_id FROM organizations LIMIT 1), id, 'https://receiver.example', '{*}', 'disabled',
          'requested', sealed, sealed, now(), now()
        FROM unnest($1::uuid[], $2::bytea[]) AS n (id, sealed)`,
    [ids, sealed],
  );
}

describe('a change of the master key', () => {
  it('keeps every secret, signature and token; the key before opens nothing any more', async () => {
    const database = await ownDatabase();
    const before = await startService(environment(database, TEST_MASTER_KEY));
    await until('the operator', () => before.output().includes('CLIENT_SECRET='));
    const operator = before.printedOperator();
    const token = await before.api.token(operator);
    const receiver = await Receiver.start();
    const made = await before.api.call('POST', '/webhooks', token, { url: receiver.url, events: ['agent.created'] });
    const rotated = await before.api.call('POST', `/webhooks/${String(made.body['webhookId'])}/rotate-secret`, token, {
      overlapSeconds: 600,
    });
    const secrets = [made, rotated].map(({ body }) => String(body['signingSecret']));
    await plantWebhooks(database, 450);
    const known = await openAll(database, new Sealer(TEST_MASTER_KEY));
    await before.stop();

    const after = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('all is sealed anew', () => DONE.test(after.output()));
    expect(await countUnder(database, TEST_MASTER_KEY)).toBe(0);
    expect(new Set((await openAll(database, new Sealer(NEW_KEY))).values())).toEqual(new Set(known.values()));
    await after.stop();

    const only = await startService(environment(database, NEW_KEY));
    const renewed = await only.api.token(operator);
    for (const each of [token, renewed])
      expect(await only.api.introspect(renewed, each)).toMatchObject({ active: true });
    await only.api.agent(renewed);
    await until('the webhook', () => receiver.received.length > 0);
    const [message] = receiver.received;
    for (const secret of secrets) {
      expect(() => new Webhook(secret).verify(message?.text ?? '', message?.headers ?? {})).not.toThrow();
    }
    await only.stop();
    await receiver.close();
    for (const env of [
      environment(database, TEST_MASTER_KEY),
      environment(database, randomBytes(32), TEST_MASTER_KEY),
    ]) {
      const { code, output } = await runService(env);
      expect([code, output]).toEqual([78, expect.stringContaining('cannot be opened with this MASTER_KEY')]);
    }
  });

  it('that is killed in the middle goes on at the next start', async () => {
    const database = await ownDatabase();
    const first = await startService(environment(database, TEST_MASTER_KEY));
    await until('the operator', () => first.output().includes('CLIENT_SECRET='));
    const operator = first.printedOperator();
    await first.stop();
    await plantWebhooks(database, 600);
    const known = await openAll(database, new Sealer(TEST_MASTER_KEY));
    // The first batches pass; the secret of one webhook is held by somebody else.
    const [held] = await database.query<{ webhook_id: string }>('SELECT webhook_id FROM webhooks OFFSET 500 LIMIT 1');
    await database.query(
      `CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$`,
    );
    await database.query(
      `CREATE TRIGGER held BEFORE UPDATE ON webhooks FOR EACH ROW WHEN (OLD.webhook_id = '${held?.webhook_id}')
        EXECUTE FUNCTION wait_for_the_test()`,
    );
    const hold = await database.query('SELECT pg_advisory_lock(4711), pg_backend_pid() AS pid');
    const killed = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('it is in the middle', async () => {
      const waiting = await database.query(
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 4711",
      );
      return waiting.length > 0;
    });
    const left = await countUnder(database, TEST_MASTER_KEY);
    killed.kill('SIGKILL');
    await killed.ended;
    expect(left).toBeGreaterThan(0);
    expect(await countUnder(database, NEW_KEY)).toBeGreaterThan(0);
    // Half done, with one key only: nothing starts, whichever it is.
    for (const key of [TEST_MASTER_KEY, NEW_KEY]) {
      expect((await runService(environment(database, key))).code).toBe(78);
    }
    await database.query('SELECT pg_terminate_backend($1)', [hold[0]?.['pid']]).catch(() => undefined);
    await database.query('DROP TRIGGER held ON webhooks');
    const resumed = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('all is sealed anew', () => DONE.test(resumed.output()));
    expect(new Set((await openAll(database, new Sealer(NEW_KEY))).values())).toEqual(new Set(known.values()));
    expect((await resumed.api.requestToken(operator)).status).toBe(200);
  });

  it('goes on under replicas that serve, when both keys are rolled out first', async () => {
    const database = await ownDatabase();
    const step1 = await startService(environment(database, TEST_MASTER_KEY, NEW_KEY));
    await until('the operator', () => step1.output().includes('CLIENT_SECRET='));
    const operator = step1.printedOperator();
    const receiver = await Receiver.start();
    const token = await step1.api.token(operator);
    const made = await step1.api.call('POST', '/webhooks', token, { url: receiver.url, events: ['agent.created'] });
    const step2 = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('all is sealed anew', () => DONE.test(step2.output()));
    // A key that the one replica made is used by the other.
    await publishedLongAgo(database);
    expect((await step2.api.call('POST', '/keys/rotate', token)).status).toBe(200);
    for (const { api } of [step1, step2]) {
      const fresh = await api.token(operator);
      for (const replica of [step1, step2]) {
        expect(await replica.api.introspect(token, fresh)).toMatchObject({ active: true });
      }
      await api.agent(fresh);
    }
    await until('the webhooks', () => receiver.once.length === 2);
    for (const { text, headers } of receiver.received) {
      expect(() => new Webhook(String(made.body['signingSecret'])).verify(text, headers)).not.toThrow();
    }
    // What a replica of the first step sealed meanwhile is left, until the command has looked.
    await step1.api.call('POST', '/webhooks', token, { url: receiver.url, events: ['agent.created'] });
    await step1.stop();
    expect(await countUnder(database, TEST_MASTER_KEY)).toBe(1);
    expect((await runService(environment(database, NEW_KEY))).code).toBe(78);
    const command = await runCommand(['master-key:reseal'], environment(database, NEW_KEY, TEST_MASTER_KEY));
    expect(command).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^1 secrets were sealed anew\. None is left/m),
    });
    const again = await runCommand(['master-key:reseal'], environment(database, NEW_KEY));
    expect(again).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^0 secrets were sealed anew\. None is left/m),
    });
    await receiver.close();
  });

  it('of an installation that keeps its own is a file that is renamed', async () => {
    const DATA_DIR = await dataFolder();
    const before = await startService({ DATA_DIR });
    await until('the operator', () => before.output().includes('CLIENT_SECRET='));
    const operator = before.printedOperator();
    await before.stop();
    const [file, previous] = [join(DATA_DIR, 'master.key'), join(DATA_DIR, 'master.key.previous')];
    const old = await readFile(file, 'utf8');
    await rename(file, previous);
    const after = await startService({ DATA_DIR });
    await until('all is sealed anew', () => DONE.test(after.output()));
    expect((await after.api.requestToken(operator)).status).toBe(200);
    await after.stop();
    expect(await readFile(file, 'utf8')).not.toBe(old);
    await rm(previous);
    const only = await startService({ DATA_DIR });
    expect((await only.api.requestToken(operator)).status).toBe(200);
    await only.stop();
    await rename(file, previous);
    await rm(previous);
    // A key that is lost is not replaced by another one in silence.
    expect((await runService({ DATA_DIR })).code).toBe(78);
  });

  it('knows of every column that holds sealed secrets', async () => {
    const service = await startTestApp();
    const known = service.app.get(Resealing)['columns'].map(({ table, column }) => `${table}.${column}`);
    const sealed = await service.database.query<{ name: string }>(
      `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'bytea' AND column_name LIKE '%sealed%'`,
    );
    expect(sealed.map(({ name }) => name).sort()).toEqual([...known].sort());
    await service.close();
  });

  it('never undoes what others change meanwhile, and two may do it at once', async () => {
    const service = await startTestApp({ env: LOOPBACK });
    const { database } = service;
    await plantWebhooks(database, 50);
    const known = await openAll(database, new Sealer(TEST_MASTER_KEY));
    const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', ISSUER: service.issuer });
    const parts = { config, clock: new SystemClock(), servingUrl: database.servingUrl };
    const changed = { ...parts, masterKey: NEW_KEY, previousMasterKey: TEST_MASTER_KEY };
    const [one, other] = await Promise.all([createApp(changed, 'command'), createApp(changed, 'command')]);
    const counts = await Promise.all([one, other].map((app) => app.get(Resealing).resealAll()));
    expect(counts.reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(known.size);
    expect(new Set((await openAll(database, new Sealer(NEW_KEY))).values())).toEqual(new Set(known.values()));
    expect(await one.get(Resealing).count()).toEqual({ present: known.size, previous: 0, unknown: 0 });
    await expect(service.app.get(Resealing).requireKnown()).rejects.toThrow(SealBroken);
    expect(await kidsOf(database, 'active')).toHaveLength(1);
    for (const app of [one, other]) await app.close();
    await service.close();
  });

  it('is not undone by a change of a webhook that began before', async () => {
    const service = await startTestApp({ env: LOOPBACK });
    const { api, database } = service;
    const token = await api.token(service.operator);
    const made = await api.call('POST', '/webhooks', token, { url: 'http://127.0.0.1:1/', events: ['*'] });
    const id = String(made.body['webhookId']);
    const fresh = new Sealer(NEW_KEY).seal(randomBytes(32), `webhook:${id}`);
    const resealing = new pg.Client({ connectionString: database.superuserUrl });
    await resealing.connect();
    await resealing.query('BEGIN');
    await resealing.query('UPDATE webhooks SET sealed_secret = $2 WHERE webhook_id = $1', [id, fresh]);
    const change = api.call('PATCH', `/webhooks/${id}`, token, { description: 'changed' });
    await until('the change waits', async () => {
      const waiting = await database.query(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
      );
      return waiting.length > 0;
    });
    await resealing.query('COMMIT');
    await resealing.end();
    expect((await change).status).toBe(200);
    const [row] = await database.query<{ sealed: Buffer }>(
      'SELECT sealed_secret AS sealed FROM webhooks WHERE webhook_id = $1',
      [id],
    );
    expect(row?.sealed.equals(fresh)).toBe(true);
    await service.close();
  });
});

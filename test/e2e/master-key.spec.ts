import { describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import { createApp } from '../../src/app.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import { Resealing } from '../../src/platform/database/resealing.js';
import { SystemClock } from '../../src/platform/kernel/clock.js';
import { SealBroken, Sealer } from '../../src/platform/kernel/sealer.js';
import { Receiver } from '../support/receiver.js';
import { countUnder, openAll, plantWebhooks } from '../support/sealed-secrets.js';
import { kidsOf, publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const NEW_KEY = randomBytes(32);
const LOOPBACK = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };
const ISSUER = 'https://issuer.example';

/** A replica with a master key, and with another one before it. */
function replica(database: TestDatabase, key: Buffer, previous?: Buffer): Promise<TestApp> {
  const keys = { MASTER_KEY: key.toString('base64'), MASTER_KEY_PREVIOUS: previous?.toString('base64') ?? '' };
  return startTestApp({ database, env: { ISSUER, ...LOOPBACK, ...keys } });
}

/** Waits until nothing names a key any more. */
function sealedAnew(database: TestDatabase, key: Buffer): Promise<void> {
  return until('all is sealed anew', async () => (await countUnder(database, key)) === 0);
}

describe('a change of the master key', () => {
  it('keeps every secret, signature and token; the key before opens nothing any more', async () => {
    const database = await createTestDatabase();
    const before = await replica(database, TEST_MASTER_KEY);
    const { operator } = before;
    const token = await before.api.token(operator);
    const receiver = await Receiver.start();
    const made = await before.api.call('POST', '/webhooks', token, { url: receiver.url, events: ['agent.created'] });
    const rotated = await before.api.call('POST', `/webhooks/${String(made.body['webhookId'])}/rotate-secret`, token, {
      overlapSeconds: 600,
    });
    const secrets = [made, rotated].map(({ body }) => String(body['signingSecret']));
    await plantWebhooks(database, 450);
    const known = await openAll(database, new Sealer(TEST_MASTER_KEY));
    await before.close();

    const after = await replica(database, NEW_KEY, TEST_MASTER_KEY);
    await sealedAnew(database, TEST_MASTER_KEY);
    expect(new Set((await openAll(database, new Sealer(NEW_KEY))).values())).toEqual(new Set(known.values()));
    await after.close();

    const only = await replica(database, NEW_KEY);
    const renewed = await only.api.token(operator);
    for (const each of [token, renewed]) {
      expect(await only.api.introspect(renewed, each)).toMatchObject({ active: true });
    }
    await only.api.agent(renewed);
    await until('the webhook', () => receiver.received.length > 0);
    const [message] = receiver.received;
    for (const secret of secrets) {
      expect(() => new Webhook(secret).verify(message?.text ?? '', message?.headers ?? {})).not.toThrow();
    }
    await only.close();
    await receiver.close();
    await expect(replica(database, TEST_MASTER_KEY)).rejects.toThrow(SealBroken);
    await expect(replica(database, randomBytes(32), TEST_MASTER_KEY)).rejects.toThrow(SealBroken);
    await database.drop();
  });

  it('goes on under replicas that serve, when both keys are rolled out first', async () => {
    const database = await createTestDatabase();
    const step1 = await replica(database, TEST_MASTER_KEY, NEW_KEY);
    const { operator } = step1;
    const receiver = await Receiver.start();
    const subscription = { url: receiver.url, events: ['agent.created'] };
    const token = await step1.api.token(operator);
    const made = await step1.api.call('POST', '/webhooks', token, subscription);
    const step2 = await replica(database, NEW_KEY, TEST_MASTER_KEY);
    await sealedAnew(database, TEST_MASTER_KEY);
    // A key that the one replica made is used by the other.
    await publishedLongAgo(database);
    expect((await step2.api.call('POST', '/keys/rotate', token)).status).toBe(200);
    for (const { api } of [step1, step2]) {
      const fresh = await api.token(operator);
      for (const each of [step1, step2]) {
        expect(await each.api.introspect(token, fresh)).toMatchObject({ active: true });
      }
      await api.agent(fresh);
    }
    await until('the webhooks', () => receiver.once.length === 2);
    for (const { text, headers } of receiver.received) {
      expect(() => new Webhook(String(made.body['signingSecret'])).verify(text, headers)).not.toThrow();
    }
    // What a replica of the first step sealed meanwhile is left: a start without its key refuses to go on.
    await step1.api.call('POST', '/webhooks', token, subscription);
    await step1.close();
    expect(await countUnder(database, TEST_MASTER_KEY)).toBe(1);
    await expect(replica(database, NEW_KEY)).rejects.toThrow(SealBroken);
    expect(await step2.app.get(Resealing).resealAll()).toBe(1);
    await (await replica(database, NEW_KEY)).close();
    await step2.close();
    await receiver.close();
    await database.drop();
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

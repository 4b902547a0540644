import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Api } from '../support/api.js';
import { Receiver } from '../support/receiver.js';
import { freePort, startTestApp, type TestApp } from '../support/test-app.js';
import { TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const LOOPBACK = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };
const MAIN = join(import.meta.dirname, '../../dist/src/main.js');

/** What becomes of events while receivers and replicas fail: nothing is lost, order holds, nobody waits for another. */
describe('webhooks under faults', () => {
  let service: TestApp;
  let token: string;
  let receiver: Receiver;
  /** The database of the last test, which outlives the app that made it. */
  let left: TestDatabase | undefined;
  const children: ChildProcess[] = [];
  const others: { close(): Promise<void> }[] = [];

  beforeAll(async () => {
    service = await startTestApp({ env: LOOPBACK });
  });
  afterAll(async () => {
    await service.close();
    await left?.drop();
  });
  beforeEach(async () => {
    token = await service.api.token(service.operator);
    receiver = await Receiver.start();
  });
  afterEach(async () => {
    await service.database.query('DELETE FROM webhooks');
    for (const child of children.splice(0)) child.kill('SIGKILL');
    for (const other of others.splice(0)) await other.close();
    await receiver.close();
  });

  async function subscribe(url = receiver.url): Promise<string> {
    const { status, body, text } = await service.api.call('POST', '/webhooks', token, {
      url,
      events: ['agent.created'],
    });
    if (status !== 201) throw new Error(`no subscription: ${status} ${text}`);
    return body['webhookId'] as string;
  }

  /** Registers agents, which is one event each; gives their ids in order. */
  async function events(count: number, api = service.api): Promise<string[]> {
    const ids: string[] = [];
    for (let index = 0; index < count; index += 1) {
      const { status, body, text } = await api.call('POST', '/agents', token, { name: `agent ${index}` });
      if (status !== 201) throw new Error(`no agent: ${status} ${text}`);
      ids.push(body['agentId'] as string);
    }
    return ids;
  }

  /** Starts another replica on the database of the test: a process of its own, which is killed after the test. */
  async function replica(port: number): Promise<ChildProcess> {
    const { database, issuer } = service;
    const env = {
      ...process.env,
      ...LOOPBACK,
      ...{ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: String(port), ISSUER: issuer },
      ...{ DATABASE_URL: database.servingUrl, MIGRATION_DATABASE_URL: database.owningUrl },
      MASTER_KEY: TEST_MASTER_KEY.toString('base64'),
    };
    const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'ignore', 'inherit'] });
    children.push(child);
    const isUp = () =>
      fetch(`http://127.0.0.1:${port}/health/live`).then(
        ({ ok }) => ok,
        () => false,
      );
    await until('the app listens', isUp, 20_000);
    return child;
  }

  const subjects = (one: Receiver) => one.once.map(({ body }) => (body.data['target'] as { id: string }).id);
  const sorted = (ids: readonly string[]) => [...ids].sort((a, b) => a.localeCompare(b));

  it('through answers of 500: every event arrives, those after a failed one at once', async () => {
    await subscribe();
    // Every third event fails the first two times.
    const order: string[] = [];
    const accepted: string[] = [];
    receiver.answering = ({ id }, response, count) => {
      if (count === 1) order.push(id);
      const fails = order.indexOf(id) % 3 === 0 && count <= 2;
      if (!fails) accepted.push(id);
      response.writeHead(fails ? 500 : 200).end();
    };
    const ids = await events(30);
    await until('all were tried once, in order', () => subjects(receiver).length === 30);
    expect(subjects(receiver)).toEqual(ids);
    for (const seconds of [6, 331]) {
      const before = receiver.received.length;
      service.clock.advance(seconds);
      await until('the failed are tried again', () => receiver.received.length === before + 10);
    }
    expect(new Set(accepted).size).toBe(30);
    expect(accepted).toHaveLength(30);
  });

  it('through refused connections: what happened meanwhile arrives when the receiver is back', async () => {
    await subscribe();
    const ids = [...(await events(3))];
    await until('it arrives', () => subjects(receiver).length === 3);
    await receiver.close();
    ids.push(...(await events(5)));
    await until('all were refused', async () => {
      const rows = await service.database.query('SELECT 1 FROM webhook_queue');
      return rows.length === 5;
    });
    await receiver.listen();
    service.clock.advance(6);
    await until('all arrive', () => subjects(receiver).length === 8);
    expect(sorted(subjects(receiver))).toEqual(sorted(ids));
    expect(receiver.received).toHaveLength(8);
  });

  it('through a receiver that hangs: it is left after 10 s, and others notice nothing', async () => {
    const hanging = await Receiver.start((_message, response, count) => void (count > 1 && response.end()));
    others.push(hanging);
    const webhookId = await subscribe(hanging.url);
    await subscribe();
    const [first] = await events(1);
    await until('the quick one has it at once', () => subjects(receiver).includes(first ?? ''), 3000);
    await until('the other one hangs', () => hanging.received.length === 1);
    const asked = performance.now();
    for (let count = 0; count < 20; count += 1) token = await service.api.token(service.operator);
    // The token path waits for no receiver: these take some milliseconds each, on a busy machine too.
    expect(performance.now() - asked).toBeLessThan(5000);
    expect(hanging.received).toHaveLength(1);
    const path = `/webhooks/${webhookId}/deliveries`;
    const history = async () => (await service.api.call<{ data: Delivery[] }>('GET', path, token)).body.data;
    await until('the attempt is given up', async () => (await history())[0]?.attempts.length === 1, 20_000);
    const [delivery] = await history();
    expect(delivery?.status).toBe('pending');
    expect(delivery?.attempts[0]).toMatchObject({ statusCode: null, error: 'there was no complete answer in time' });
    expect(delivery?.attempts[0]?.durationMs).toBeGreaterThanOrEqual(9900);
    expect(delivery?.attempts[0]?.durationMs).toBeLessThan(13_000);
    service.clock.advance(6);
    await until('it arrives the second time', async () => (await history())[0]?.status === 'delivered');
  }, 60_000);

  it('by two replicas: each event once, in order', async () => {
    const port = await freePort();
    await replica(port);
    const receivers = [receiver, await Receiver.start(), await Receiver.start(), await Receiver.start()];
    others.push(...receivers.slice(1));
    for (const one of receivers) await subscribe(one.url);
    const api = new Api(`http://127.0.0.1:${port}`);
    const ids: string[] = [];
    for (let round = 0; round < 10; round += 1) {
      ids.push(...(await events(2)), ...(await events(2, api)));
    }
    for (const one of receivers) {
      await until('all arrive', () => one.received.length >= ids.length);
      expect(subjects(one)).toEqual(ids);
      expect(one.received).toHaveLength(ids.length);
    }
  }, 60_000);

  it('to a receiver that is slower than the load: all arrive, in order, once', async () => {
    await subscribe();
    receiver.answering = (_message, response) => void setTimeout(() => response.writeHead(200).end(), 150);
    const ids = await events(60);
    expect(receiver.received.length).toBeLessThan(60);
    await until('all arrive', () => receiver.received.length >= 60, 40_000);
    expect(subjects(receiver)).toEqual(ids);
    expect(receiver.received).toHaveLength(60);
  }, 60_000);

  it('through an app that is killed in mid-delivery and started again: nothing is lost', async () => {
    await service.close();
    service = await startTestApp({ env: LOOPBACK });
    const { database, operator } = service;
    left = database;
    token = await service.api.token(operator);
    await subscribe();
    // The app of the test takes no part.
    await service.app.close();
    const port = await freePort();
    let child = await replica(port);
    const api = new Api(`http://127.0.0.1:${port}`);
    token = await api.token(operator);
    receiver.answering = (_message, response) => void setTimeout(() => response.writeHead(200).end(), 40);
    const ids: string[] = [];
    for (let round = 0; round < 2; round += 1) {
      ids.push(...(await events(25, api)));
      await until('it is in mid-delivery', () => receiver.received.length > round * 25);
      child.kill('SIGKILL');
      await once(child, 'exit');
      child = await replica(port);
    }
    await until('all arrive', () => receiver.once.length >= ids.length, 40_000);
    expect(subjects(receiver)).toEqual(ids);
    // What was sent and not recorded was sent again: no more than a few events a kill.
    expect(receiver.received.length - ids.length).toBeLessThanOrEqual(2 * 50);
    child.kill('SIGTERM');
    await once(child, 'exit');
    service = await startTestApp({ database, env: LOOPBACK });
  }, 120_000);
});

interface Delivery {
  readonly status: string;
  readonly attempts: { statusCode: number | null; error: string | null; durationMs: number }[];
}

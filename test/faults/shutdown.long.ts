import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { claimsOf, type ClientCredentials } from '../support/api.js';
import { ConnectionLost, RawConnection, rawTokenRequest } from '../support/raw-connection.js';
import {
  cleanUpProcesses,
  dataFolder,
  environmentOf,
  startService,
  type ServiceEnvironment,
  type ServiceProcess,
} from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { TinyBalancer } from '../support/tiny-balancer.js';
import { underLoad } from '../support/under-load.js';
import { ledgerOf, until } from './conditions.js';

/** What clients saw that keep their connections, ask again on them, and open new ones where they were told to. */
interface Seen {
  readonly tokens: string[];
  readonly statuses: Set<number>;
  readonly failures: string[];
  /** Connections that could not be opened: the service had ended. */
  refused: number;
}

/**
 * Asks for tokens until `over` says so.
 *
 * @param pauseMs between an answer and the next request
 */
async function ask(
  url: () => string,
  request: string,
  pauseMs: number,
  over: () => boolean,
  seen: Seen,
): Promise<void> {
  let connection: RawConnection | null = null;
  while (!over()) {
    try {
      if (connection === null || !connection.open) {
        connection?.close();
        connection = await RawConnection.open(url());
      }
      const { status, body } = await connection.ask(request);
      seen.statuses.add(status);
      if (status === 200) seen.tokens.push((JSON.parse(body) as { access_token: string }).access_token);
    } catch (error) {
      if (error instanceof ConnectionLost && !error.sent) continue;
      if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') {
        seen.refused += 1;
        break;
      }
      seen.failures.push(String(error));
      break;
    }
    await delay(randomInt(pauseMs + 1));
  }
  connection?.close();
}

/** What a service logged that is told warnings only. */
/** What it logged at the level of warnings or above, but for its readiness, which is to go down. */
const warningsIn = (output: string): string[] =>
  output.split('\n').filter((line) => line.startsWith('{') && !line.includes('"path":"/health/ready"'));

const nothingSeen = (): Seen => ({ tokens: [], statuses: new Set(), failures: [], refused: 0 });

describe('a service that is asked to end under load', () => {
  let database: TestDatabase;
  let env: ServiceEnvironment;
  let operator: ClientCredentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    env = { ...environmentOf(database), SHUTDOWN_DELAY_SECONDS: '1' };
    const first = await startService(env);
    await until('the secret', () => first.output().includes('CLIENT_SECRET='));
    operator = first.printedOperator();
    await first.stop();
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  it.each([['1'], ['2']])('answers all, resets nobody, and ends with 0, with %s worker(s)', async (workers) => {
    const service = await startService({ ...env, WEB_CONCURRENCY: workers });
    if (workers === '2') await until('the workers', () => service.output().includes('with 2 workers'));
    const before = await ledgerOf(database);
    const seen = nothingSeen();
    let isReady: number | null = null;
    const clients = (isOver: () => boolean) => {
      // What a client does that sees the readiness of the only replica: it asks no more on new connections.
      const over = () => isOver() || isReady === 503;
      return Promise.all(
        Array.from({ length: 24 }, (_, number) =>
          ask(() => service.url, rawTokenRequest(operator), number % 3 === 0 ? 100 : 0, over, seen),
        ),
      );
    };
    await underLoad(clients, async () => {
      await until('load', () => seen.tokens.length > 200);
      service.kill('SIGTERM');
      const killedAt = performance.now();
      await until('that readiness is down', async () => {
        isReady = (await service.api.send('GET', '/health/ready')).status;
        return isReady === 503;
      });
      const { code, output } = await service.ended;
      expect(code).toBe(0);
      expect(warningsIn(output)).toEqual([]);
      expect(performance.now() - killedAt).toBeLessThan(10_000);
    });
    expect(seen).toMatchObject({ failures: [], refused: 0, statuses: new Set([200]) });
    const after = await ledgerOf(database);
    expect(after.issued - before.issued).toBe(seen.tokens.length);
    expect(after.used).toBe(after.issued);
  });

  it('ends its own PostgreSQL as well, without a warning', async () => {
    const service = await startService({ DATA_DIR: await dataFolder(), LOG_LEVEL: 'warn' });
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
    const seen = nothingSeen();
    const request = rawTokenRequest(service.printedOperator());
    const clients = (isOver: () => boolean) =>
      Promise.all(Array.from({ length: 24 }, () => ask(() => service.url, request, 0, isOver, seen)));
    await underLoad(clients, async () => {
      await until('load', () => seen.tokens.length > 200);
      const { code, output } = await service.stop();
      expect([code, warningsIn(output)]).toEqual([0, []]);
    });
    // Nobody tells these clients that it ends, so they may open a connection too late; what is answered is a token.
    expect(seen.statuses).toEqual(new Set([200]));
  });

  it('says on every answer from then on that it ends the connection', async () => {
    const service = await startService(env);
    const connection = await RawConnection.open(service.url);
    const kept = await connection.ask(rawTokenRequest(operator));
    expect(kept.headers['connection']).toBe('keep-alive');
    service.kill('SIGTERM');
    await until('the shutdown', () => service.output().includes('shutting down'));
    const last = await connection.ask(rawTokenRequest(operator));
    expect([last.status, last.headers['connection']]).toEqual([200, 'close']);
    expect(await service.ended).toMatchObject({ code: 0 });
  });

  it('is not held up by connections that never ask, nor by requests that never end', async () => {
    const service = await startService({ ...env, SHUTDOWN_DELAY_SECONDS: '' });
    const unused = await RawConnection.open(service.url);
    const begun = await RawConnection.open(service.url);
    const unfinished = begun.ask(rawTokenRequest(operator).slice(0, -1));
    unfinished.catch(() => undefined);
    await service.api.send('GET', '/health/live');
    const startedAt = performance.now();
    expect(await service.stop()).toMatchObject({ code: 0, signal: null });
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    await expect(unfinished).rejects.toThrow(ConnectionLost);
    unused.close();
  });

  it('is replaced, replica by replica, without a failed request', async () => {
    const replicas: ServiceProcess[] = await Promise.all([startService(env), startService(env)]);
    const balancer = new TinyBalancer();
    await balancer.start(replicas.map(({ url }) => url));
    await until('both', () => replicas.every(({ url }) => balancer.uses(url)));
    const before = await ledgerOf(database);
    const seen = nothingSeen();
    const clients = (isOver: () => boolean) =>
      Promise.all(
        Array.from({ length: 16 }, (_, number) =>
          ask(() => balancer.url, rawTokenRequest(operator), number % 2 === 0 ? 100 : 0, isOver, seen),
        ),
      );
    await underLoad(clients, async () => {
      await until('load', () => seen.tokens.length > 50);
      for (const index of [0, 1]) {
        const old = replicas[index] as ServiceProcess;
        expect(await old.stop()).toMatchObject({ code: 0, signal: null });
        const replacement = await startService(env);
        replicas[index] = replacement;
        balancer.setReplicas(replicas.map(({ url }) => url));
        await until('the new one', () => balancer.uses(replacement.url));
      }
      const count = seen.tokens.length;
      await until('tokens of the new ones', () => seen.tokens.length > count + 50);
    });
    expect(seen).toMatchObject({ failures: [], refused: 0, statuses: new Set([200]) });
    expect(new Set(seen.tokens.map((token) => claimsOf(token)['jti'])).size).toBe(seen.tokens.length);
    const after = await ledgerOf(database);
    expect(after.issued - before.issued).toBe(seen.tokens.length);
    await balancer.close();
    for (const replica of replicas) await replica.stop();
  });
});

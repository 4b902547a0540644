import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { ClientCredentials } from '../support/api.js';
import { rawIntrospection, rawTokenRequest } from '../support/raw-connection.js';
import { cleanUpProcesses, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from './conditions.js';
import { loadWith } from './overload-load.js';

const CONNECTIONS = 2000;
const LIVE_HEAP = pathToFileURL(join(import.meta.dirname, '../support/live-heap.mjs')).href;
/** How long the overload lasts in which the heap is looked at, and how often. */
const FLAT_SECONDS = 30;
const LOOK_EVERY_MS = 3000;

/** As overload.spec.ts, with the times that are promised: this test has the machine to itself. */
describe(`${CONNECTIONS} connections that ask at once, on a machine that does nothing else`, () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let operator: ClientCredentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startService({ ...environmentOf(database), NODE_OPTIONS: `--import=${LIVE_HEAP}` });
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
    operator = service.printedOperator();
    await loadWith(service, rawTokenRequest(operator), 32, 3);
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  it.each(['tokens', 'introspections'])('%s: within half a second, or refused within one', async (kind) => {
    const report = await loadWith(service, await requestFor(kind), CONNECTIONS, 8);
    process.stderr.write(`overload, ${kind}: ${JSON.stringify(report)}\n`);
    expect(report).toMatchObject({ others: [], refusedWithoutRetryAfter: 0 });
    expect(report.refused).toBeGreaterThan(1000);
    expect(report.acceptedP99).toBeLessThan(500);
    expect(report.refusedMax).toBeLessThan(1000);
    expect(report.heapMostMb).toBeLessThan(400);
  });

  it.each(['tokens', 'introspections'])(
    '%s: what lives in the heap does not grow while it goes on, and goes when it is over',
    async (kind) => {
      const request = await requestFor(kind);
      const before = await liveHeapMb();
      const load = loadWith(service, request, CONNECTIONS, FLAT_SECONDS);
      await until('overload', async () => {
        const { body } = await service.api.send('GET', '/health/ready');
        return JSON.stringify(body).includes('overloaded');
      });
      let isOver = false;
      const over = () => (isOver = true);
      load.then(over, over);
      const during: number[] = [];
      for (;;) {
        await delay(LOOK_EVERY_MS);
        if (isOver) break;
        during.push(await liveHeapMb());
      }
      const { accepted, refused, others, residentMostMb } = await load;
      await delay(2000);
      const after = await liveHeapMb();
      const rounded = [before, ...during, after].map((each) => each.toFixed(1)).join(' ');
      process.stderr.write(
        `overload, ${kind}, MB alive before, meanwhile, after: ${rounded}; resident ${residentMostMb}\n`,
      );
      expect(others).toEqual([]);
      expect(Math.min(accepted, refused)).toBeGreaterThan(1000);
      expect(during.length).toBeGreaterThanOrEqual(4);
      const half = Math.floor(during.length / 2);
      const [early, late] = [during.slice(0, half), during.slice(half)];
      expect(Math.max(...late) - Math.max(...early)).toBeLessThan(8);
      expect(after - before).toBeLessThan(5);
    },
    (FLAT_SECONDS + 60) * 1000,
  );

  async function requestFor(kind: string): Promise<string> {
    if (kind === 'tokens') return rawTokenRequest(operator);
    const token = await service.api.token(operator);
    return rawIntrospection(token, token);
  }

  /** What is left of the heap once all garbage is collected. */
  async function liveHeapMb(): Promise<number> {
    const told = (): string[] => [...service.output().matchAll(/^live heap: (\d+)$/gm)].map(([, bytes]) => bytes ?? '');
    const count = told().length;
    service.kill('SIGUSR2');
    await until('the live heap', () => told().length > count);
    return Number(told().at(-1)) / 1_048_576;
  }
});

import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ClientCredentials } from '../support/api.js';
import { RawConnection, rawTokenRequest } from '../support/raw-connection.js';
import {
  cleanUpProcesses,
  environmentOf,
  startService,
  type ServiceEnvironment,
  type ServiceProcess,
} from '../support/service-process.js';
import { createTestDatabase } from '../support/test-database.js';
import { until } from './conditions.js';

/** What many connections at once saw. */
export interface LoadReport {
  readonly accepted: number;
  readonly refused: number;
  /** Statuses other than 200 and 503. */
  readonly others: readonly number[];
  readonly refusedWithoutRetryAfter: number;
  /** Milliseconds of what was accepted, and of what was refused. */
  readonly acceptedP50: number;
  readonly acceptedP99: number;
  readonly refusedMax: number;
  readonly heapBeforeMb: number;
  readonly heapMostMb: number;
  readonly residentMostMb: number;
  /** What readiness answered in the middle of it. */
  readonly ready: unknown;
}

const LIVE = RawConnection.request('GET', '/health/live', {});

/** A service on a database of its own, with its first operator. */
export interface LoadedService {
  readonly service: ServiceProcess;
  readonly operator: ClientCredentials;
  close(): Promise<void>;
}

/**
 * Starts the service, and asks it for two seconds: a process that has just started is slower than it will be.
 *
 * @param more variables of its environment besides those of a replica
 */
export async function startWarm(more: ServiceEnvironment = {}): Promise<LoadedService> {
  const database = await createTestDatabase();
  const service = await startService({ ...environmentOf(database), ...more });
  await until('the secret', () => service.output().includes('CLIENT_SECRET='));
  const operator = service.printedOperator();
  await loadWith(service, rawTokenRequest(operator), 32, 2);
  return {
    service,
    operator,
    close: async () => {
      await cleanUpProcesses();
      await database.drop();
    },
  };
}

/**
 * Asks with so many connections at once, each again as soon as it has its answer, or after the seconds of Retry-After
 * where it was refused.
 *
 * @param seconds how long
 */
export async function loadWith(
  service: ServiceProcess,
  request: string,
  connections: number,
  seconds: number,
): Promise<LoadReport> {
  const heapBeforeMb = await megabytes(service, 'nodejs_heap_size_used_bytes');
  const opened = await Promise.all(Array.from({ length: connections }, () => RawConnection.open(service.url)));
  // Node takes one new connection for each turn of its event loop, so those that come under full load wait for theirs. Who
  // keeps connections, as every client that asks a lot does, has been taken before.
  await Promise.all(opened.map((connection) => connection.ask(LIVE)));
  const accepted: number[] = [];
  const refused: number[] = [];
  const others: number[] = [];
  let refusedWithoutRetryAfter = 0;
  const endsAt = performance.now() + seconds * 1000;
  const client = async (connection: RawConnection): Promise<void> => {
    while (performance.now() < endsAt) {
      const { status, headers, ms } = await connection.ask(request);
      if (status === 200) accepted.push(ms);
      else if (status === 503) {
        refused.push(ms);
        if (headers['retry-after'] !== '1') refusedWithoutRetryAfter += 1;
        await delay(1000 + randomInt(500));
      } else others.push(status);
    }
  };
  const clients = Promise.all(opened.map(client));
  let heapMostMb = 0;
  let residentMostMb = 0;
  let ready: unknown = null;
  while (performance.now() < endsAt - 300) {
    await delay(250);
    ready = (await service.api.send('GET', '/health/ready')).body;
    heapMostMb = Math.max(heapMostMb, await megabytes(service, 'nodejs_heap_size_used_bytes'));
    residentMostMb = Math.max(residentMostMb, await megabytes(service, 'process_resident_memory_bytes'));
  }
  await clients;
  for (const connection of opened) connection.close();
  return {
    accepted: accepted.length,
    refused: refused.length,
    others,
    refusedWithoutRetryAfter,
    acceptedP50: quantile(accepted, 0.5),
    acceptedP99: quantile(accepted, 0.99),
    refusedMax: quantile(refused, 1),
    heapBeforeMb,
    heapMostMb,
    residentMostMb,
    ready,
  };
}

async function megabytes(service: ServiceProcess, metric: string): Promise<number> {
  const { text } = await service.api.send('GET', '/metrics');
  return Number(new RegExp(`^agentidp_${metric} (\\S+)$`, 'm').exec(text)?.[1]) / 1_048_576;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { cleanUpProcesses, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { underLoad } from '../support/under-load.js';
import { until } from './conditions.js';
import { soakLoad, type SoakCounts } from './soak-load.js';

const MINUTES = Number(process.env['TEST_MINUTES'] ?? 1);
const SAMPLE_EVERY_MS = 2000;
/** The clock of the service: what is kept for an hour goes after a minute. */
const SPEED = 60;
const TOKEN_TTL_SECONDS = 300;
/** What is cleaned away. The audit log, its tree and its checkpoints grow: they are what is kept. */
const TABLES = ['token_revocations', 'used_assertions', 'authentication_failures', 'audit_refusals'] as const;

interface Sample {
  readonly minute: number;
  readonly heapMb: number;
  readonly residentMb: number;
  readonly handles: number;
  readonly connections: number;
  readonly rows: Readonly<Record<(typeof TABLES)[number], number>>;
  readonly tableMb: number;
  readonly asked: number;
}

describe(`${MINUTES} minute(s) of full load`, () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  const anchorMs = Date.now();

  beforeAll(async () => {
    database = await createTestDatabase();
    const clock = pathToFileURL(join(import.meta.dirname, '../support/shifted-clock.mjs')).href;
    service = await startService({
      ...environmentOf(database),
      TOKEN_TTL_SECONDS: String(TOKEN_TTL_SECONDS),
      AUTHENTICATION_FAILURES_PER_ADDRESS: '1000000',
      RATE_LIMIT_ENTERPRISE: '0',
      NODE_OPTIONS: `--import=${clock}`,
      CLOCK_ANCHOR_MS: String(anchorMs),
      CLOCK_SPEED: String(SPEED),
    });
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  async function sample(beganMs: number, counts: SoakCounts): Promise<Sample> {
    const { text } = await service.api.send('GET', '/metrics');
    const metric = (name: string): number => Number(new RegExp(`^agentidp_${name} (\\S+)$`, 'm').exec(text)?.[1]);
    const [rows] = await database.query<Record<(typeof TABLES)[number], string>>(
      `SELECT ${TABLES.map((table) => `(SELECT count(*) FROM ${table}) AS ${table}`).join(', ')}`,
    );
    const [size] = await database.query<{ bytes: string }>(
      `SELECT sum(pg_total_relation_size(name::regclass)) AS bytes FROM unnest($1::text[]) AS name`,
      [[...TABLES, 'agents', 'credentials', 'organization_ledgers', 'organizations']],
    );
    const { tokens, introspections, revocations, assertions, refusals, changes } = counts;
    return {
      minute: (performance.now() - beganMs) / 60_000,
      heapMb: metric('nodejs_heap_size_used_bytes') / 1_048_576,
      residentMb: metric('process_resident_memory_bytes') / 1_048_576,
      handles: (await readdir(`/proc/${service.pid}/fd`)).length,
      connections: metric('pg_pool_connections{state="total"}'.replace(/[{}]/g, '\\$&')),
      rows: Object.fromEntries(TABLES.map((table) => [table, Number(rows?.[table])])) as Sample['rows'],
      tableMb: Number(size?.bytes) / 1_048_576,
      asked: tokens + introspections + revocations + assertions + refusals + changes,
    };
  }

  it(
    'leaves heap, memory, handles and tables as they were',
    async () => {
      const counts: SoakCounts = {
        ...{ tokens: 0, introspections: 0, revocations: 0, assertions: 0, refusals: 0, changes: 0, unavailable: 0 },
        others: new Map(),
      };
      const beganMs = performance.now();
      const nowSeconds = (): number => Math.floor((anchorMs + (Date.now() - anchorMs) * SPEED) / 1000);
      const parties = { operator: service.printedOperator(), issuer: 'https://issuer.example', nowSeconds };
      const samples: Sample[] = [];
      await underLoad(
        (isOver) => soakLoad(service, parties, isOver, counts),
        async () => {
          while (performance.now() - beganMs < MINUTES * 60_000) {
            await delay(SAMPLE_EVERY_MS);
            samples.push(await sample(beganMs, counts));
          }
        },
      );
      tell(samples, counts);

      expect([...counts.others]).toEqual([]);
      expect(counts.unavailable).toBe(0);
      // The first third is the warming up: code is compiled, caches fill.
      const settled = samples.slice(Math.floor(samples.length / 3));
      const early = settled.slice(0, Math.floor(settled.length / 2));
      const late = settled.slice(Math.floor(settled.length / 2));
      // The heap after collections: its low points.
      expect(least(late, 'heapMb') - least(early, 'heapMb')).toBeLessThan(15);
      expect(most(late, 'residentMb') - most(early, 'residentMb')).toBeLessThan(60);
      expect(most(late, 'handles') - most(early, 'handles')).toBeLessThanOrEqual(3);
      expect(most(late, 'connections')).toBeLessThanOrEqual(20);
      if (MINUTES < 5) return;
      // Each is cleaned once a minute at the latest and keeps what is not older than an hour of its clock, a minute of ours.
      for (const table of TABLES) {
        const peak = (part: readonly Sample[]) => Math.max(...part.map(({ rows }) => rows[table]));
        expect([table, peak(late) <= peak(early) * 1.5 + 1000]).toEqual([table, true]);
      }
      expect(most(late, 'tableMb') / most(early, 'tableMb')).toBeLessThan(1.5);
    },
    (MINUTES + 1) * 60_000,
  );

  function least(part: readonly Sample[], what: 'heapMb'): number {
    return Math.min(...part.map((each) => each[what]));
  }

  function most(part: readonly Sample[], what: 'residentMb' | 'handles' | 'connections' | 'tableMb'): number {
    return Math.max(...part.map((each) => each[what]));
  }

  /** Some lines for people: what was measured, ten times over the run. */
  function tell(samples: readonly Sample[], counts: SoakCounts): void {
    const every = Math.max(1, Math.floor(samples.length / 10));
    const rows = samples.filter((_sample, index) => index % every === every - 1);
    const lines = rows.map(({ minute, heapMb, residentMb, handles, connections, rows: of, tableMb, asked }) =>
      [minute.toFixed(1), heapMb.toFixed(0), residentMb.toFixed(0), handles, connections, ...Object.values(of)]
        .concat(tableMb.toFixed(1), asked)
        .join('\t'),
    );
    const head = ['minute', 'heap', 'resident', 'handles', 'connections', ...TABLES, 'table MB', 'asked'].join('\t');
    process.stderr.write(`${[head, ...lines, JSON.stringify(counts)].join('\n')}\n`);
  }
});

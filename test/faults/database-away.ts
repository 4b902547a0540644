import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DataSource } from 'typeorm';
import { poolOf } from '../../src/platform/database/statement-pool.js';
import { claimsOf, type Answer } from '../support/api.js';
import { DatabaseLine } from '../support/database-line.js';
import { startOwnPostgres, startStandby, type OwnPostgres } from '../support/own-postgres.js';
import { cleanUpProcesses, dataFolder } from '../support/service-process.js';
import { limitedDisk, refusalsForRoom, type FillableDisk } from '../support/small-disk.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { underLoad } from '../support/under-load.js';
import { ledgerOf, until } from './conditions.js';

/** What somebody saw that asks for tokens and registers agents all the time. */
interface Seen {
  readonly tokens: string[];
  readonly agents: string[];
  readonly statuses: Set<number>;
  slowestMs: number;
  /** Answers of 503. */
  unavailable: number;
}

/** What can happen to the database. */
type AwayCase = 'refused' | 'silent' | 'stopped' | 'cut' | 'full' | 'failover';

/**
 * Declares the tests of a service whose PostgreSQL goes away in these ways.
 *
 * @param withinMs how soon it answers 503, and how soon after the return it answers again; 2 s are promised, on a machine
 *   that is not busy with other tests
 */
export function describeDatabaseAway(cases: readonly AwayCase[], withinMs: number): void {
  describe('a service whose PostgreSQL', () => {
    let postgres: OwnPostgres;
    let line: DatabaseLine;
    let service: TestApp;
    let operatorToken: string;
    let disk: FillableDisk | null = null;

    beforeAll(async () => {
      postgres = await startOwnPostgres(await dataFolder());
      const over = await DatabaseLine.to(postgres.database);
      line = over.line;
      service = await startTestApp({ database: over.database });
      operatorToken = await service.api.token(service.operator);
      if (cases.includes('full')) disk = await limitedDisk(postgres);
    });
    afterAll(async () => {
      await service.close();
      await line.close();
      await postgres.stop();
      await cleanUpProcesses();
    });

    async function askUntil(over: () => boolean, seen: Seen): Promise<void> {
      const timed = async <T extends { status: number }>(asked: Promise<T>): Promise<T> => {
        const startedAt = performance.now();
        const answer = await asked;
        seen.slowestMs = Math.max(seen.slowestMs, performance.now() - startedAt);
        seen.statuses.add(answer.status);
        if (answer.status === 503) seen.unavailable += 1;
        return answer;
      };
      const issuer = async (): Promise<void> => {
        while (!over()) {
          const { status, body } = await timed(service.api.requestToken(service.operator));
          if (status === 200) seen.tokens.push(body['access_token'] as string);
        }
      };
      const manager = async (): Promise<void> => {
        while (!over()) {
          const { status, body } = await timed(service.api.call('POST', '/agents', operatorToken, { name: 'made' }));
          if (status === 201) seen.agents.push(body['agentId'] as string);
          if (status === 403) return;
        }
      };
      await Promise.all([...Array.from({ length: 8 }, issuer), manager(), manager()]);
    }

    /** Everything that was answered is there, and nothing is half there. */
    async function expectNothingLost({ tokens, agents }: Seen): Promise<void> {
      const { database } = postgres;
      const events = await database.query<{ action: string; target_id: string }>(
        "SELECT action, target_id FROM audit_events WHERE action IN ('token.issued', 'agent.created')",
      );
      const targets = new Set(events.map(({ target_id: id }) => id));
      for (const token of tokens) expect(targets).toContain(claimsOf(token)['jti']);
      for (const agent of agents) expect(targets).toContain(agent);
      const [half] = await database.query<{ rows: string; told: string }>(
        `SELECT (SELECT count(*) FROM agents) AS rows,
        (SELECT count(*) FROM audit_events WHERE action = 'agent.created') AS told`,
      );
      expect(half?.rows).toBe(half?.told);
      const ledger = await ledgerOf(database);
      expect(ledger.used).toBe(ledger.issued);
      const { body } = await service.api.call('GET', '/audit/verify', await service.api.token(service.operator));
      expect(body).toMatchObject({ valid: true, brokenAt: null });
    }

    const ways: Readonly<Record<Exclude<AwayCase, 'failover'>, [string, () => unknown, () => unknown]>> = {
      refused: ['cannot be reached', () => line.refuse(), () => line.listen()],
      silent: ['is behind a network that lets nothing through', () => line.hold(), () => line.release()],
      stopped: ['stands still', () => postgres.signalAll('SIGSTOP'), () => postgres.signalAll('SIGCONT')],
      cut: ['is cut off again and again', () => cutOften(), () => undefined],
      full: ['has no room left on its disk', () => disk?.fill(), () => disk?.free()],
    };

    it.each(cases.filter((way) => way !== 'failover').map((way) => ways[way]))(
      '%s answers 503 soon, and goes on by itself',
      async (name, fail, mend) => {
        const seen: Seen = { tokens: [], agents: [], statuses: new Set(), slowestMs: 0, unavailable: 0 };
        // It is there and answers; what it cannot do is write.
        const isReached = /^is cut|^has no room/.test(name);
        const refusalsBefore = await refusalsForRoom(postgres);
        await underLoad(
          (isOver) => askUntil(isOver, seen),
          async () => {
            await delay(300);
            await fail();
            let down: Answer;
            try {
              await delay(2500);
              // Not only those that wait get an answer: whoever comes is refused at once.
              if (!name.startsWith('is cut')) await until('answers of 503', () => seen.unavailable > 100);
              down = await service.api.send('GET', '/health/ready');
            } finally {
              await mend();
            }
            const mendedAt = performance.now();
            await until('a token', async () => (await service.api.requestToken(service.operator)).status === 200);
            const againMs = performance.now() - mendedAt;
            await delay(300);
            tell(name, { slowestMs: seen.slowestMs, againMs });
            expect(againMs).toBeLessThan(withinMs);
            if (isReached) expect([200, 503]).toContain(down.status);
            else expect(down.status).toBe(503);
          },
        );
        if (name.startsWith('has no room')) expect(await refusalsForRoom(postgres)).toBeGreaterThan(refusalsBefore);
        expect(seen.slowestMs).toBeLessThan(withinMs);
        for (const status of seen.statuses) expect([200, 201, 403, 503]).toContain(status);
        expect(seen.statuses).toContain(503);
        await expectNothingLost(seen);
        await expectNoLeak();
      },
    );

    /** A line for people. */
    function tell(name: string, { slowestMs, againMs }: { slowestMs: number; againMs: number }): void {
      const figures = `slowest answer ${slowestMs.toFixed(0)} ms, answers again after ${againMs.toFixed(0)} ms`;
      process.stderr.write(`a PostgreSQL that ${name}: ${figures}\n`);
    }

    async function cutOften(): Promise<void> {
      for (let time = 0; time < 20; time += 1) {
        line.cut();
        await delay(50);
      }
    }

    /** The pool holds no more than it may, nobody waits for it, and the server knows no others. */
    async function expectNoLeak(): Promise<void> {
      const pool = poolOf(service.app.get(DataSource));
      await until('an idle pool', () => pool.waitingCount === 0 && pool.totalCount === pool.idleCount);
      await until('no other sessions', async () => {
        const [row] = await postgres.database.query<{ sessions: string }>(
          "SELECT count(*) AS sessions FROM pg_stat_activity WHERE application_name IN ('agentidp', 'agentidp watch')",
        );
        return Number(row?.sessions) <= pool.totalCount + 1;
      });
    }

    if (!cases.includes('failover')) return;
    it('has failed over answers 503 while the new one is a standby, and goes on once that is promoted', async () => {
      const copied = await dataFolder();
      // A copy of a server that stands still would do for a crash; a clean one begins at once.
      const source = await startOwnPostgres(copied);
      const other = await DatabaseLine.to(source.database);
      const own = await startTestApp({ database: other.database });
      expect((await own.api.requestToken(own.operator)).status).toBe(200);
      await other.line.refuse();
      await source.stop();
      const copy = await dataFolder(source.dataDirectory);
      await writeFile(join(copy, 'postgres/cluster/standby.signal'), '', { mode: 0o666 });
      const standby = await startStandby(copy, source.database);
      await until('the standby', () =>
        standby.database.query('SELECT 1').then(
          () => true,
          () => false,
        ),
      );
      other.line.leadTo(standby.database.servingUrl);
      await other.line.listen();
      const startedAt = performance.now();
      const meanwhile: number[] = [];
      let slowestMs = 0;
      while (performance.now() - startedAt < 1500) {
        const askedAt = performance.now();
        meanwhile.push((await own.api.requestToken(own.operator)).status);
        slowestMs = Math.max(slowestMs, performance.now() - askedAt);
      }
      expect(slowestMs).toBeLessThan(withinMs);
      expect(new Set(meanwhile)).toEqual(new Set([503]));
      expect((await own.api.send('GET', '/health/ready')).status).toBe(503);
      await standby.promote();
      const promotedAt = performance.now();
      await until('a token', async () => (await own.api.requestToken(own.operator)).status === 200);
      const againMs = performance.now() - promotedAt;
      tell('has failed over', { slowestMs, againMs });
      expect(againMs).toBeLessThan(withinMs);
      expect((await ledgerOf(standby.database)).issued).toBeGreaterThanOrEqual(2);
      await own.app.close();
      await other.line.close();
      await standby.stop();
    });
  });
}

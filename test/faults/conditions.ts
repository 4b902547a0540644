import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { poolOf } from '../../src/platform/database/statement-pool.js';
import { Metrics } from '../../src/platform/http/metrics.js';
import type { TestApp } from '../support/test-app.js';
import type { TestDatabase } from '../support/test-database.js';

const PATIENCE_MS = 15_000;
const POLL_MS = 5;

/**
 * Waits until `check` gives something other than false, null or undefined.
 *
 * @param what what is waited for, told where it does not come
 */
export async function until<T>(what: string, check: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const found = await check();
    if (found !== false && found !== null && found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await delay(POLL_MS);
  }
}

/** A transaction of the superuser that holds the ledger rows, so that whatever changes a chain waits. */
export interface LedgerHold {
  /** Runs SQL in the holding transaction. */
  query(text: string, values?: unknown[]): Promise<void>;
  /** Commits; whoever waits goes on. */
  release(): Promise<void>;
}

/** Locks every ledger row; resolves once they are held, which may be after others have let go. */
export async function holdLedgers(database: Pick<TestDatabase, 'superuserUrl'>): Promise<LedgerHold> {
  const client = new pg.Client({ connectionString: database.superuserUrl, application_name: 'holds the ledgers' });
  // A test that fails drops its database with the hold in place.
  client.on('error', () => undefined);
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT 1 FROM organization_ledgers ORDER BY organization_id FOR UPDATE');
  return {
    query: async (text, values = []) => void (await client.query(text, values)),
    release: async () => {
      await client.query('COMMIT');
      await client.end();
    },
  };
}

/**
 * Gives the statements of an application a minute instead of two and five seconds, so that a slow machine does not end
 * the waits that a test arranges.
 */
export async function withPatientStatements(service: TestApp): Promise<TestApp> {
  const pool = poolOf(service.app.get(DataSource));
  Object.assign(pool.options, { lock_timeout: 60_000, statement_timeout: 60_000 });
  // The connections that are open already.
  const open = await Promise.all(Array.from({ length: pool.totalCount }, () => pool.connect()));
  for (const client of open) {
    await client.query("SET lock_timeout = '60s'; SET statement_timeout = '60s'");
    client.release();
  }
  return service;
}

/** Waits until `count` sessions wait for a lock with a statement that contains `text`; gives their process ids. */
export function lockWaiters(database: Pick<TestDatabase, 'query'>, text: string, count = 1): Promise<number[]> {
  return until(`${count} sessions that wait with ${text}`, async () => {
    const rows = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'`,
      [text],
    );
    return rows.length === count ? rows.map(({ pid }) => pid) : null;
  });
}

/** Waits until so many entries wait in a queue of the application. */
export function queueDepth({ app }: TestApp, queue: string, depth: number): Promise<boolean> {
  const line = `agentidp_queue_depth{queue="${queue}"} ${depth}\n`;
  return until(line.trim(), async () => (await app.get(Metrics).render()).includes(line));
}

/** What the database holds of an organization's tokens, read in one statement. */
export async function ledgerOf(
  database: Pick<TestDatabase, 'query'>,
): Promise<{ used: number; issued: number; sequence: number }> {
  const [row] = await database.query<{ used: string; issued: string; sequence: string }>(
    `SELECT l.tokens_used AS used, l.sequence,
        (SELECT count(*) FROM audit_events e
          WHERE e.organization_id = l.organization_id AND e.action = 'token.issued') AS issued
      FROM organization_ledgers l`,
  );
  if (row === undefined) throw new Error('there is no ledger');
  return { used: Number(row.used), issued: Number(row.issued), sequence: Number(row.sequence) };
}

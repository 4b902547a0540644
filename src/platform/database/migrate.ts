import { setTimeout as delay } from 'node:timers/promises';
import { DataSource, type MigrationInterface, type QueryRunner } from 'typeorm';
import { RestoreUnfinished, UNFINISHED_RESTORE } from './unfinished-restore.js';
import { dataSourceOptions } from './data-source-options.js';
import { MIGRATIONS } from './migration-list.js';
import { grantServingRole, grantWhatIsThere } from './serving-role.js';
import { isLockRefusal } from './sql-errors.js';

/** Held while migrations run, so that replicas that start together run them once. An arbitrary constant. */
const MIGRATION_LOCK = 7_301_100_101;

/** How often a replica that waits for the lock asks for it, in milliseconds. */
const LOCK_POLL_MS = 100;

/**
 * How long a migration waits for a lock on a table, in milliseconds. Whoever asks for the table after it waits behind
 * it, so this is well below the second after which a flush of tokens gives up.
 */
const TABLE_LOCK_MS = 250;

/** How long a migration that did not get a lock leaves the table to others before it asks again, in milliseconds. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 4000;

/** How long a run goes on asking for the locks of one migration, in milliseconds. */
const PATIENCE_MS = 600_000;

/** The oldest PostgreSQL that the schema works on, as `server_version_num`. */
const OLDEST_POSTGRES = 140_000;

/** What a run of migrations may be told. */
export interface MigrateOptions {
  /** Told in a line for people that a migration waits for others. */
  readonly announce?: (line: string) => void;
  /** How far the schema is brought; to the newest version unless given. */
  readonly migrations?: readonly (new () => MigrationInterface)[];
  /** How long to go on asking for the locks of one migration, in milliseconds. */
  readonly patienceMs?: number;
  /** Whether this is the restore of a backup, which nobody else may disturb. */
  readonly restoring?: boolean;
}

/**
 * Brings the schema to the newest version and grants the serving role what it needs. Safe to run from any number of
 * replicas at once, and while replicas of the version before serve: a migration that does not get a lock soon rolls back,
 * lets those pass that wait behind it, and begins anew.
 *
 * @param owningUrl the role that owns the tables
 * @param servingUrl the role that serves; the same URL where one role does both
 * @returns the names of the migrations that were run
 * @throws Error where the server is older than PostgreSQL 14, or a migration got no lock within the patience
 * @throws RestoreUnfinished where a backup is being restored, or that was interrupted
 */
export async function migrate(owningUrl: string, servingUrl: string, options: MigrateOptions = {}): Promise<string[]> {
  const { announce = () => undefined, migrations = MIGRATIONS, patienceMs = PATIENCE_MS } = options;
  const dataSource = new DataSource({
    ...dataSourceOptions(owningUrl, 3),
    migrations: [...migrations],
    // A migration may take longer than a request may, once it has its locks.
    extra: { keepAlive: true, lock_timeout: TABLE_LOCK_MS },
  });
  await dataSource.initialize();
  try {
    const runner = dataSource.createQueryRunner();
    try {
      await requireSupportedServer(runner);
      await waitForLock(runner);
      if (options.restoring !== true) await requireNoRestore(runner);
      const begun = new Set<string>();
      for (const migration of dataSource.migrations) prepare(migration, servingUrl, begun);
      await patiently(patienceMs, announce, begun, async () => {
        await dataSource.runMigrations({ transaction: 'each' });
      });
      // Of an earlier version there is less to grant, and its migrations have done so.
      if (migrations.length === MIGRATIONS.length) {
        await patiently(patienceMs, announce, begun, () => grantServingRole(runner, servingUrl));
      }
      await runner.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]);
      return [...begun];
    } finally {
      await runner.release();
    }
  } finally {
    await dataSource.destroy();
  }
}

/**
 * Runs `work` until it gets its locks. Migrations that are through are recorded, so that it goes on behind them.
 *
 * @param begun the migrations that were begun: the last of them is the one that waits
 */
async function patiently(
  patienceMs: number,
  announce: (line: string) => void,
  begun: ReadonlySet<string>,
  work: () => Promise<void>,
): Promise<void> {
  let waitsFor = '';
  let since = 0;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (!isLockRefusal(error)) throw error;
      const name = [...begun].at(-1) ?? 'of the grants';
      if (name !== waitsFor) {
        waitsFor = name;
        since = performance.now();
        pauseMs = FIRST_PAUSE_MS;
        announce(`The migration ${name} waits for a lock on a table that a long transaction holds.`);
      }
      if (performance.now() - since > patienceMs) {
        throw new Error(
          `The migration ${name} got no lock within ${patienceMs / 1000} s: a transaction (a backup, a session that was left open) holds it. Nothing of it was done; start again once that has ended.`,
          { cause: error },
        );
      }
      await delay(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}

/**
 * Has a migration note that it was begun, and grant the serving role what it made in the transaction that made it. One
 * that runs in no transaction holds nobody up while it waits (an index that is built concurrently), so it waits as long
 * as it takes.
 */
function prepare(migration: MigrationInterface, servingUrl: string, begun: Set<string>): void {
  const up = migration.up.bind(migration);
  migration.up = async (runner) => {
    begun.add(migration.name ?? migration.constructor.name);
    if (!runner.isTransactionActive) await runner.query('SET lock_timeout = 0');
    await up(runner);
    if (!runner.isTransactionActive) await runner.query('RESET lock_timeout');
    await grantWhatIsThere(runner, servingUrl);
  };
}

/**
 * Takes the lock of the migrations. Asks for it again and again instead of waiting in one statement: that would hold a
 * snapshot, which an index that is built concurrently under the lock waits for, and both would wait for ever.
 */
async function waitForLock(runner: QueryRunner): Promise<void> {
  for (;;) {
    const [row] = await runner.manager.query<{ taken: boolean }[]>('SELECT pg_try_advisory_lock($1) AS taken', [
      MIGRATION_LOCK,
    ]);
    if (row?.taken === true) return;
    await delay(LOCK_POLL_MS);
  }
}

async function requireSupportedServer(runner: QueryRunner): Promise<void> {
  const [row] = await runner.manager.query<{ version: number }[]>(
    `SELECT current_setting('server_version_num')::integer AS version`,
  );
  if (row === undefined || row.version < OLDEST_POSTGRES) throw new Error('PostgreSQL 14 or later is required');
}

async function requireNoRestore(runner: QueryRunner): Promise<void> {
  const [row] = await runner.manager.query<{ unfinished: boolean }[]>(
    `SELECT to_regclass('public.${UNFINISHED_RESTORE}') IS NOT NULL AS unfinished`,
  );
  if (row?.unfinished === true) throw new RestoreUnfinished();
}

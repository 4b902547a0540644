import { setTimeout as delay } from 'node:timers/promises';
import { DataSource, type MigrationInterface, type QueryRunner } from 'typeorm';
import { dataSourceOptions } from './data-source-options.js';
import { grantServingRole, grantWhatIsThere } from './serving-role.js';

/** Held while migrations run, so that replicas that start together run them once. An arbitrary constant. */
const MIGRATION_LOCK = 7_301_100_101;

/** How often a replica that waits for the lock asks for it, in milliseconds. */
const LOCK_POLL_MS = 100;

/** The oldest PostgreSQL that the schema works on, as `server_version_num`. */
const OLDEST_POSTGRES = 140_000;

/**
 * Brings the schema to the newest version and grants the serving role what it needs. Safe to run from any number of
 * replicas at once.
 *
 * @param owningUrl the role that owns the tables
 * @param servingUrl the role that serves; the same URL where one role does both
 * @returns the names of the migrations that were run
 * @throws Error where the server is older than PostgreSQL 14
 */
export async function migrate(owningUrl: string, servingUrl: string): Promise<string[]> {
  const options = dataSourceOptions(owningUrl, 3);
  const dataSource = new DataSource({
    ...options,
    // A migration may take longer than a request may.
    extra: { keepAlive: true },
  });
  await dataSource.initialize();
  try {
    const runner = dataSource.createQueryRunner();
    try {
      await requireSupportedServer(runner);
      await waitForLock(runner);
      for (const migration of dataSource.migrations) grantAlong(migration, servingUrl);
      const applied = await dataSource.runMigrations({ transaction: 'each' });
      await grantServingRole(runner, servingUrl);
      await runner.query('SELECT pg_advisory_unlock($1)', [MIGRATION_LOCK]);
      return applied.map(({ name }) => name);
    } finally {
      await runner.release();
    }
  } finally {
    await dataSource.destroy();
  }
}

/** Has a migration grant the serving role what it made, in the transaction that made it. */
function grantAlong(migration: MigrationInterface, servingUrl: string): void {
  const up = migration.up.bind(migration);
  migration.up = async (runner) => {
    await up(runner);
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

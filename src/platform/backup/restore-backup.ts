import pg from 'pg';
import { migrate } from '../database/migrate.js';
import { MIGRATIONS } from '../database/migration-list.js';
import { UNFINISHED_RESTORE } from '../database/unfinished-restore.js';
import { Sealer } from '../kernel/sealer.js';
import { BackupRefused, type BackupHeader, type BackupTable } from './backup-format.js';
import { readBackup } from './backup-reader.js';
import { tablesOf } from './backup-tables.js';
import { copyIn } from './copy.js';

/** Where a backup goes. */
export interface RestoreTarget {
  /** The role that owns the tables. */
  readonly owningUrl: string;
  /** The role that serves. */
  readonly servingUrl: string;
  /** 32 bytes. */
  readonly masterKey: Buffer;
  /** The one before, where the backup was made while it was changed. */
  readonly previousMasterKey: Buffer | null;
  /** Told in lines for people what is being done. */
  readonly announce: (line: string) => void;
}

/**
 * Reads a backup to its end, and whether this release can restore it.
 *
 * @returns what it is of
 * @throws BackupRefused where it is none, was interrupted, is damaged, or is of a later release
 */
export async function checkBackup(file: string): Promise<BackupHeader> {
  return readBackup(
    file,
    (header) => {
      const unknown = header.migrations.filter((name) => !MIGRATIONS.some((migration) => migration.name === name));
      if (unknown.length > 0) {
        throw new BackupRefused(
          `The backup was made by a later release (${header.release}): this one does not know ${unknown.join(', ')}. Restore it with that release or a later one.`,
        );
      }
      // Migrations are only ever added behind the newest: what a release had is a beginning of the list.
      if (header.migrations.some((name, index) => MIGRATIONS[index]?.name !== name)) {
        throw new BackupRefused('The file is damaged: its migrations are those of no release.');
      }
      return Promise.resolve();
    },
    async (_table, rows) => {
      for await (const piece of rows) void piece;
    },
  );
}

/**
 * Restores a backup into an empty database: makes the schema that it was taken from, loads all rows in one transaction,
 * and brings the schema to the newest version. From the beginning until `finish` is done nobody else can serve the
 * database; interrupted, the same call begins anew.
 *
 * @param file was found whole by `checkBackup`
 * @param finish what has to be done before anybody may serve
 * @throws BackupRefused where the database is not empty or in use
 * @throws SealBroken where the master key is not the one of the backup; nothing was restored then
 */
export async function restoreBackup(
  file: string,
  target: RestoreTarget,
  finish: (header: BackupHeader) => Promise<void>,
): Promise<void> {
  const { owningUrl, servingUrl, announce } = target;
  const client = new pg.Client({ connectionString: owningUrl, application_name: 'agentidp restore' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await requireEmpty(client);
    await client.query(`CREATE TABLE ${UNFINISHED_RESTORE} (begun_at timestamptz NOT NULL DEFAULT now())`);
    const header = await load(client, file, target, async ({ migrations }) => {
      const level = MIGRATIONS.filter(({ name }) => migrations.includes(name));
      await migrate(owningUrl, servingUrl, { migrations: level, restoring: true });
    });
    const applied = await migrate(owningUrl, servingUrl, { announce, restoring: true });
    if (applied.length > 0) announce(`Brought to the newest version: ${applied.join(', ')}.`);
    await finish(header);
    await client.query(`DROP TABLE ${UNFINISHED_RESTORE}`);
  } finally {
    await client.end();
  }
}

/**
 * Expects a database without tables of anybody. What an interrupted restore has left is removed.
 */
async function requireEmpty(client: pg.Client): Promise<void> {
  const { rows: sessions } = await client.query(
    `SELECT 1 FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'agentidp' AND pid <> pg_backend_pid()`,
  );
  if (sessions.length > 0)
    throw new BackupRefused('The service is connected to this database. Stop every replica first.');
  const { rows: tables } = await client.query<{ name: string }>(
    `SELECT relname::text AS name FROM pg_class
      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`,
  );
  if (tables.length === 0) return;
  if (!tables.some(({ name }) => name === UNFINISHED_RESTORE)) {
    throw new BackupRefused(
      `The database is not empty: it holds ${tables.length} tables. Restore into an empty one; nothing was changed.`,
    );
  }
  await removeUnfinished(client);
}

/** Removes what an interrupted restore has made, in one transaction. */
async function removeUnfinished(client: pg.Client): Promise<void> {
  await client.query(`DO $remove$
    DECLARE
      r record;
    BEGIN
      FOR r IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
          AND relkind IN ('r', 'p') AND NOT relispartition AND pg_get_userbyid(relowner) = current_user
      LOOP
        EXECUTE format('DROP TABLE IF EXISTS %s CASCADE', r.name);
      END LOOP;
      FOR r IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'public'::regnamespace
          AND pg_get_userbyid(proowner) = current_user
      LOOP
        EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', r.name);
      END LOOP;
    END $remove$`);
}

/** Loads all rows in one transaction, and sees whether the master key opens what is sealed. */
async function load(
  client: pg.Client,
  file: string,
  { masterKey, previousMasterKey, announce }: RestoreTarget,
  makeSchema: (header: BackupHeader) => Promise<void>,
): Promise<BackupHeader> {
  const expected = new Map<string, BackupTable>();
  const header = await readBackup(
    file,
    async (found) => {
      await makeSchema(found);
      for (const table of await tablesOf(client)) expected.set(table.table, table);
      announce(`Restoring what release ${found.release} held at ${found.takenAt}.`);
      await client.query('BEGIN');
      await client.query(`SET LOCAL search_path = public; SET LOCAL datestyle = 'ISO'; SET LOCAL timezone = 'UTC'`);
    },
    async (table, rows) => {
      const { columns } = expected.get(table.table) ?? {};
      if (columns === undefined || !isSame(columns, table.columns)) throw new DoesNotFit(table.table);
      expected.delete(table.table);
      await empty(client, table);
      await copyIn(
        client,
        `COPY public."${table.table}" (${table.columns.map((name) => `"${name}"`).join(', ')}) FROM STDIN`,
        rows,
      );
    },
  );
  const [missing] = expected.keys();
  if (missing !== undefined) throw new DoesNotFit(missing);
  const sealer = new Sealer(masterKey, previousMasterKey);
  const { rows: sealed } = await client.query<{ name: string; sealed: Buffer }>(
    'SELECT name, sealed FROM sealed_secrets',
  );
  for (const { name, sealed: secret } of sealed) sealer.open(secret, name);
  await client.query('COMMIT');
  await client.query('ANALYZE');
  return header;
}

/** The file's tables are not those that the migrations make which it names. */
class DoesNotFit extends BackupRefused {
  constructor(table: string) {
    super(`The file is damaged: ${table} is not as the migrations make it that the file names. Nothing was restored.`);
  }
}

function isSame(columns: readonly string[], others: readonly string[]): boolean {
  return columns.toSorted().join() === others.toSorted().join();
}

/** Removes the rows that migrations have put into a table. */
async function empty(client: pg.Client, { table }: BackupTable): Promise<void> {
  const { rows } = await client.query(`SELECT 1 FROM public."${table}" LIMIT 1`);
  if (rows.length > 0) await client.query(`DELETE FROM public."${table}"`);
}

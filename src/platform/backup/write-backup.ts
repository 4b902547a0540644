import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { link, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip, type Gzip } from 'node:zlib';
import pg from 'pg';
import { hasCode } from '../database/embedded/error-code.js';
import { RestoreUnfinished, UNFINISHED_RESTORE } from '../database/unfinished-restore.js';
import { FORMAT, FORMAT_VERSION, type BackupHeader, type BackupTable } from './backup-format.js';
import { tablesOf } from './backup-tables.js';
import { copyOut } from './copy.js';

/** How long one table may be locked against reading by somebody else, in milliseconds: by a migration. */
const LOCK_TIMEOUT_MS = 10_000;

/** A backup that was written. */
export interface WrittenBackup {
  /** Its absolute path. */
  readonly file: string;
  readonly bytes: number;
  readonly header: BackupHeader;
  /** The number of rows of all tables together. */
  readonly rows: number;
}

/**
 * Writes a backup of a database that others use meanwhile: one snapshot, in memory that does not grow. The file appears
 * under its name when it is whole and on the disk; until then its name ends in `.unfinished-` and some letters.
 *
 * @param url a role that may read every table: the owning one
 * @param target a file that does not exist, or a folder, in which the file is named after the instant
 * @param release the release that writes it
 * @throws Error where the file exists, or the database holds no installation; the unfinished file is removed
 */
export async function writeBackup(url: string, target: string, release: string): Promise<WrittenBackup> {
  const wanted = path.resolve(target);
  const isFolder = await isDirectory(wanted);
  if (!isFolder && (await exists(wanted))) throw nameTaken(wanted);
  const client = new pg.Client({
    connectionString: url,
    application_name: 'agentidp backup',
    lock_timeout: LOCK_TIMEOUT_MS,
  });
  // What breaks the connection fails the statement that runs.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    await client.query(`SET LOCAL search_path = public; SET LOCAL datestyle = 'ISO'; SET LOCAL timezone = 'UTC'`);
    const header = await describe(client, release);
    const file = isFolder ? path.join(wanted, nameOf(header)) : wanted;
    const unfinished = `${file}.unfinished-${randomBytes(4).toString('hex')}`;
    try {
      const rows = await writeFile(client, unfinished, header);
      await sync(unfinished);
      await giveName(unfinished, file);
      await sync(path.dirname(file));
      return { file, bytes: (await stat(file)).size, header, rows };
    } finally {
      await rm(unfinished, { force: true });
    }
  } finally {
    await client.end();
  }
}

async function describe(client: pg.Client, release: string): Promise<BackupHeader> {
  const { rows } = await client.query<{ installed: boolean; unfinished: boolean; server: number; taken_at: string }>(
    `SELECT to_regclass('public.schema_migrations') IS NOT NULL AS installed,
        to_regclass('public.${UNFINISHED_RESTORE}') IS NOT NULL AS unfinished,
        current_setting('server_version_num')::integer AS server,
        to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS taken_at`,
  );
  const [found] = rows;
  if (found?.installed !== true) throw new Error('The database holds no installation: there is nothing to back up.');
  if (found.unfinished) throw new RestoreUnfinished();
  const migrations = await client.query<{ name: string }>('SELECT name FROM schema_migrations ORDER BY timestamp');
  const operator = await client.query<{ id: string }>(
    'SELECT organization_id AS id FROM organizations WHERE is_operator',
  );
  return {
    format: FORMAT,
    version: FORMAT_VERSION,
    release,
    takenAt: found.taken_at,
    server: found.server,
    migrations: migrations.rows.map(({ name }) => name),
    operatorOrganization: operator.rows[0]?.id ?? null,
  };
}

async function writeFile(client: pg.Client, file: string, header: BackupHeader): Promise<number> {
  const gzip = createGzip();
  const written = pipeline(gzip, createWriteStream(file, { flags: 'wx', mode: 0o600 }));
  // Told below; until then nobody waits for it.
  written.catch(() => undefined);
  try {
    const counted: Record<string, number> = {};
    await writeLine(gzip, header);
    for (const { table, columns } of await tablesOf(client)) {
      await writeLine(gzip, { table, columns } satisfies BackupTable);
      const names = columns.map((name) => `"${name}"`).join(', ');
      // A partitioned table is copied by a query only.
      counted[table] = await copyOut(client, `COPY (SELECT ${names} FROM "${table}") TO STDOUT`, gzip);
      await write(gzip, '\\.\n');
    }
    await writeLine(gzip, { end: true, rows: counted });
    gzip.end();
    await written;
    return Object.values(counted).reduce((sum, count) => sum + count, 0);
  } catch (error) {
    gzip.destroy();
    await finished(gzip).catch(() => undefined);
    // Where the file failed (a full disk), that is the reason; the rest are consequences.
    await written.catch((reason: unknown) => {
      if (typeof reason === 'object' && reason !== null && 'errno' in reason) throw reason;
    });
    throw error;
  }
}

function writeLine(gzip: Gzip, value: object): Promise<void> {
  return write(gzip, `${JSON.stringify(value)}\n`);
}

function write(gzip: Gzip, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    gzip.write(text, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/** `agentidp-20261128T151500Z.backup` */
function nameOf({ takenAt }: BackupHeader): string {
  return `agentidp-${takenAt.replaceAll(/[-:]|\.\d+/g, '')}.backup`;
}

/**
 * Gives a whole file its name, which another backup may have taken meanwhile. A rename would replace that one.
 *
 * @throws Error where the name is taken
 */
async function giveName(unfinished: string, file: string): Promise<void> {
  try {
    await link(unfinished, file);
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw nameTaken(file);
    if (!hasCode(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS')) throw error;
    // A file system without links: the name is taken by an empty file first, which is ours to replace.
    const claim = await open(file, 'wx', 0o600).catch((cause: unknown) => {
      throw hasCode(cause, 'EEXIST') ? nameTaken(file) : cause;
    });
    await claim.close();
    await rename(unfinished, file);
  }
}

function nameTaken(file: string): Error {
  return new Error(`${file} exists. A backup replaces no file.`);
}

async function isDirectory(place: string): Promise<boolean> {
  return (await stat(place).catch(() => null))?.isDirectory() === true;
}

async function exists(place: string): Promise<boolean> {
  return (await stat(place).catch(() => null)) !== null;
}

/** Makes a file, or the names in a folder, durable. Windows has no such call for folders and needs none. */
async function sync(place: string): Promise<void> {
  if (process.platform === 'win32' && (await isDirectory(place))) return;
  const handle = await open(place, 'r+').catch(() => open(place, 'r'));
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

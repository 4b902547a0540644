import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { OwnPostgres } from './own-postgres.js';

const run = promisify(execFile);

/** What PostgreSQL writes into its log where the disk takes no more, and where a file may not grow any more. */
const NO_ROOM = /No space left on device|File too large/g;

/** As large as a segment of the log of what is written, which has to stay writable: the server ends itself without. */
const LARGEST_FILE_BYTES = 16 * 1024 * 1024;
/** Rows that take more than that, as small as an event can be: what they leave on a page has room for no other. */
const ROWS_PAST_IT = 75_000;

/** How often a disk is filled before whoever fills has to come again: what is asked for may be taken by then. */
const FILLS = 10;

/** A disk for the data of a PostgreSQL that can be made full. */
export interface FillableDisk {
  /** Leaves no room to grow; called again it takes what has become free since. */
  fill(): Promise<void>;
  /** Gives it back. */
  free(): Promise<void>;
  remove(): Promise<void>;
}

/** One that is mounted. */
export interface MountedDisk extends FillableDisk {
  readonly folder: string;
}

/**
 * Mounts a disk in memory, which takes root on Linux.
 *
 * @param megabytes its size
 * @returns null where it cannot be mounted, or the environment asks for the limit instead (`TEST_DISK=limited`)
 */
export async function mountSmallDisk(megabytes: number): Promise<MountedDisk | null> {
  if (process.env['TEST_DISK'] === 'limited') return null;
  const folder = await mkdtemp(join(tmpdir(), 'agentidp-disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0711`, 'tmpfs', folder]);
  } catch {
    await rm(folder, { recursive: true });
    return null;
  }
  await chmod(folder, 0o711);
  const ballast: string[] = [];
  return {
    folder,
    fill: async () => {
      for (let tries = 0; tries < FILLS; tries += 1) {
        const { bavail, bsize } = await statfs(folder);
        if (bavail === 0) return;
        const file = join(folder, `ballast-${ballast.length}`);
        ballast.push(file);
        // All or nothing: where the server takes a page meanwhile, nothing is allocated.
        await run('fallocate', ['-l', String(bavail * bsize), file]).catch(() => undefined);
      }
    },
    free: async () => {
      for (const file of ballast.splice(0)) await rm(file, { force: true });
    },
    remove: async () => {
      await run('umount', ['-l', folder]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Does without root what a full disk does: full, no process of the server may write past a size that the audit log has
 * already, so nothing can be appended to it.
 *
 * @param postgres a service has written events to it
 */
export async function limitedDisk(postgres: OwnPostgres): Promise<FillableDisk> {
  const { database } = postgres;
  // What is rolled back leaves its room behind, which nobody uses again until it is vacuumed.
  await database.query('ALTER TABLE audit_events SET (autovacuum_enabled = false)');
  await database.query(`DO $grow$
    BEGIN
      SET LOCAL session_replication_role = replica;
      INSERT INTO audit_events
        SELECT (jsonb_populate_record(one, jsonb_build_object(
            'sequence', 1000000000 + n, 'event_id', gen_random_uuid(), 'user_agent', NULL, 'ip', NULL, 'details', '{}'::jsonb))).*
          FROM (SELECT event AS one FROM audit_events AS event LIMIT 1) AS first, generate_series(1, ${ROWS_PAST_IT}) AS n;
      RAISE EXCEPTION 'grown';
    EXCEPTION WHEN raise_exception THEN NULL;
    END $grow$`);
  const [size] = await database.query<{ bytes: string }>("SELECT pg_relation_size('audit_events') AS bytes");
  if (Number(size?.bytes) <= LARGEST_FILE_BYTES) throw new Error('the audit log did not grow');
  // The server's own log is a file as well.
  await database.query("ALTER SYSTEM SET log_min_error_statement = 'panic'");
  await database.query('SELECT pg_reload_conf()');
  return {
    fill: () => postgres.limitFiles(LARGEST_FILE_BYTES),
    free: () => postgres.limitFiles(null),
    remove: () => Promise.resolve(),
  };
}

/** How often PostgreSQL has told that it found no room. */
export async function refusalsForRoom(postgres: OwnPostgres): Promise<number> {
  return (await readFile(postgres.logFile, 'utf8')).match(NO_ROOM)?.length ?? 0;
}

import { execFile, spawn } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { prepareInstallation } from '../../src/platform/database/embedded/data-directory.js';
import { startEmbeddedPostgres } from '../../src/platform/database/embedded/embedded-postgres.js';
import { spawnedUnder } from '../../src/platform/database/embedded/server-account.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { freePort } from './test-app.js';
import type { TestDatabase } from './test-database.js';
import { runningPostmasterPid } from './service-process.js';

/** A PostgreSQL server that a test has to itself, so that it can be stopped, killed and filled. */
export interface OwnPostgres {
  /** Its one database, migrated. */
  readonly database: TestDatabase;
  readonly dataDirectory: string;
  /** What the server tells of itself. */
  readonly logFile: string;
  /** The server process; it changes when the server was killed, since it is started again. */
  pid(): Promise<number>;
  /** Stops all its processes where they are, or lets them go on. */
  signalAll(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void>;
  /**
   * Lets no process of the server write past a size of any file from now on, by Linux' limit; a server that was killed
   * is started again without.
   *
   * @param bytes null: no limit
   * @throws Error where there is no server at the moment, or the system does not let us
   */
  limitFiles(bytes: number | null): Promise<void>;
  /** Ends it. */
  stop(): Promise<void>;
}

/** Starts a server and migrates its database. Where it is killed it is started again at the same place. */
export async function startOwnPostgres(dataDirectory: string): Promise<OwnPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDirectory, announce: () => undefined });
  await migrate(postgres.owningUrl, postgres.servingUrl);
  const pid = (): Promise<number> => runningPostmasterPid(postgres.dataDirectory);
  return {
    database: databaseOf(
      postgres.servingUrl,
      postgres.owningUrl,
      postgres.superuserUrl.replace('/postgres?', '/agentidp?'),
    ),
    dataDirectory: postgres.dataDirectory,
    logFile: join(postgres.dataDirectory, 'postgres/server.log'),
    pid,
    limitFiles: async (bytes) => {
      const server = await pid();
      const { uid, gid } = await stat(join('/proc', String(server)));
      // Under its own account: not every root may do it to others.
      const limit = (each: number): Promise<unknown> =>
        promisify(execFile)('prlimit', [`--fsize=${bytes ?? 'unlimited'}:`, `--pid=${each}`], { uid, gid });
      await limit(server);
      // Those that it begins from now on have its limit. One of those from before may end meanwhile.
      for (const child of await childrenOf(server)) await limit(child).catch(() => undefined);
    },
    signalAll: async (signal) => {
      const server = await pid();
      for (const each of [server, ...(await childrenOf(server))]) {
        try {
          process.kill(each, signal);
        } catch (error) {
          // One of its sessions may end meanwhile.
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        }
      }
    },
    stop: () => postgres.stop(),
  };
}

/**
 * Starts a standby on a copy of a data directory whose server was stopped: it answers, takes no writes, and follows
 * nobody.
 *
 * @param of the database that it has a copy of
 */
export async function startStandby(
  dataDirectory: string,
  of: TestDatabase,
): Promise<{ database: TestDatabase; promote(): Promise<void>; stop(): Promise<void> }> {
  const { account, binaries, cluster } = await prepareInstallation(dataDirectory, () => undefined);
  const port = await freePort();
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories='];
  const server = spawn(binaries.postgres, ['-D', cluster, ...settings.flatMap((setting) => ['-c', setting])], {
    ...spawnedUnder(account),
    stdio: 'ignore',
  });
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const at = (url: string): string => {
    const changed = new URL(url);
    changed.search = '';
    changed.host = `127.0.0.1:${port}`;
    return changed.href;
  };
  const database = databaseOf(at(of.servingUrl), at(of.owningUrl), at(of.superuserUrl));
  return {
    database,
    promote: async () => void (await database.query('SELECT pg_promote(true, 30)')),
    stop: async () => {
      server.kill('SIGINT');
      await ended;
    },
  };
}

/** The database of a server, looked into on a connection a question. */
function databaseOf(servingUrl: string, owningUrl: string, superuserUrl: string): TestDatabase {
  return {
    name: 'agentidp',
    servingUrl,
    owningUrl,
    superuserUrl,
    query: async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) => {
      const client = new pg.Client({ connectionString: superuserUrl, application_name: 'looks' });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return (await client.query<Row>(text, values)).rows;
      } finally {
        await client.end();
      }
    },
    drop: () => Promise.resolve(),
  };
}

/** The processes that a process has begun, by Linux' own account. */
async function childrenOf(pid: number): Promise<number[]> {
  const numbers = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const parents = await Promise.all(
    numbers.map(async (number) => {
      const stat = await readFile(join('/proc', number, 'stat'), 'utf8').catch(() => '');
      return [Number(number), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])] as const;
    }),
  );
  return parents.filter(([, parent]) => parent === pid).map(([number]) => number);
}

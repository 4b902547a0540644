import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { Api, type ClientCredentials } from './api.js';
import { TEST_MASTER_KEY, type TestDatabase } from './test-database.js';

const ROOT = join(import.meta.dirname, '../..');
const SERVICE = join(ROOT, 'dist/src/main.js');
const CLI = join(ROOT, 'dist/src/cli/main.js');
/** How long a start may take on a slow machine, in milliseconds. */
const START_LIMIT_MS = 25_000;

/** Variables of the environment of a process; it inherits nothing else but the search path. */
export type ServiceEnvironment = Readonly<Record<string, string>>;

/** How a process ended, and all that it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** The built service in a process of its own. */
export interface ServiceProcess {
  readonly url: string;
  readonly api: Api;
  /** Its process; of several workers the first one, which serves nothing. */
  readonly pid: number;
  /** What it wrote so far. */
  output(): string;
  /**
   * The operator whose secret it printed.
   *
   * @throws Error where it has not yet: it listens before it prints one
   */
  printedOperator(): ClientCredentials;
  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void;
  /** Settles when it has ended. */
  readonly ended: Promise<Ended>;
  /** Ends it with SIGTERM, and resolves when it has ended. */
  stop(): Promise<Ended>;
}

const running = new Set<ChildProcess>();
const folders: string[] = [];

/**
 * Starts the service and waits until it listens; on a free port unless `PORT` is given.
 *
 * @param program the built service of another version
 */
export async function startService(env: ServiceEnvironment, program = SERVICE): Promise<ServiceProcess> {
  const { child, output, ended } = run(program, [], { PORT: '0', ...env });
  const url = await new Promise<string>((resolve, reject) => {
    const limit = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`the service does not listen: ${output()}`));
    }, START_LIMIT_MS);
    child.stdout?.on('data', () => {
      const found = /listens on (\S+)/.exec(output());
      if (found?.[1] === undefined) return;
      clearTimeout(limit);
      resolve(found[1]);
    });
    void ended.then(({ code, signal }) => {
      clearTimeout(limit);
      reject(new Error(`the service ended with ${signal ?? code ?? ''}: ${output()}`));
    });
  });
  return {
    url,
    api: new Api(url),
    pid: child.pid ?? 0,
    output,
    printedOperator: () => {
      const [, clientId] = /CLIENT_ID=(\S+)/.exec(output()) ?? [];
      const [, clientSecret] = /CLIENT_SECRET=(\S+)\n/.exec(output()) ?? [];
      if (clientId === undefined || clientSecret === undefined) throw new Error('no operator was printed yet');
      return { clientId, clientSecret };
    },
    kill: (signal) => void child.kill(signal),
    ended,
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

/** Runs the service where it is expected not to start. */
export function runService(env: ServiceEnvironment): Promise<Ended> {
  return run(SERVICE, [], { PORT: '0', ...env }).ended;
}

/** Starts an operator command, for a test that disturbs it. */
export function startCommand(args: readonly string[], env: ServiceEnvironment): Pick<ServiceProcess, 'kill' | 'ended'> {
  const { child, ended } = run(CLI, args, env);
  return { kill: (signal) => void child.kill(signal), ended };
}

/** Runs an operator command. */
export function runCommand(args: readonly string[], env: ServiceEnvironment): Promise<Ended> {
  return run(CLI, args, env).ended;
}

/** Ends what the tests of a file have left running, and removes their folders; for `afterAll`. */
export async function cleanUpProcesses(): Promise<void> {
  await Promise.all(
    [...running].map(
      (child) =>
        new Promise((resolve) => {
          child.once('exit', resolve);
          child.kill('SIGKILL');
        }),
    ),
  );
  // PostgreSQL outlives a service that was killed.
  for (const directory of folders) {
    const pid = await postmasterPid(directory);
    if (pid !== null) process.kill(pid, 'SIGKILL');
  }
  for (const directory of folders) await rm(directory, { recursive: true, force: true });
}

/**
 * A folder for the data of a service; as root one that the account which runs PostgreSQL may enter.
 *
 * @param template a data directory whose service was stopped, to begin with a copy of it
 */
export async function dataFolder(template?: string): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'agentidp-process-'));
  if (process.getuid?.() === 0) await chmod(made, 0o711);
  folders.push(made);
  if (template !== undefined) await promisify(execFile)('cp', ['-a', `${template}/.`, made]);
  return made;
}

/** The process of the PostgreSQL in a data directory; null where it was stopped. */
export async function postmasterPid(dataDirectory: string): Promise<number | null> {
  const text = await readFile(join(dataDirectory, 'postgres/cluster/postmaster.pid'), 'utf8').catch(() => null);
  const pid = Number(text?.split('\n')[0]);
  return pid > 0 ? pid : null;
}

/** The same of a server that has to run: a signal to process 0 would go to this one and all of its group. */
export async function runningPostmasterPid(dataDirectory: string): Promise<number> {
  const pid = await postmasterPid(dataDirectory);
  if (pid === null) throw new Error('PostgreSQL does not run');
  return pid;
}

/** The superuser of the PostgreSQL that runs in a data directory. */
export async function embeddedSuperuser(dataDirectory: string): Promise<Pick<TestDatabase, 'superuserUrl' | 'query'>> {
  const server = join(dataDirectory, 'postgres');
  const port = (await readFile(join(server, 'cluster/postmaster.pid'), 'utf8')).split('\n')[3];
  const { superuser } = JSON.parse(await readFile(join(server, 'passwords.json'), 'utf8')) as { superuser: string };
  const superuserUrl = `postgres://postgres:${superuser}@127.0.0.1:${port}/agentidp`;
  return {
    superuserUrl,
    query: async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> => {
      const client = new pg.Client(superuserUrl);
      await client.connect();
      try {
        return (await client.query<Row>(text, values)).rows;
      } finally {
        await client.end();
      }
    },
  };
}

/** A port that somebody listens on until `free` is called. */
export async function takenPort(): Promise<{ port: string; free: () => Promise<void> }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: String((server.address() as AddressInfo).port),
    free: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** The environment that makes a service serve a test database as a replica in production does. */
export function environmentOf(database: TestDatabase): ServiceEnvironment {
  return {
    DATABASE_URL: database.servingUrl,
    MIGRATION_DATABASE_URL: database.owningUrl,
    MASTER_KEY: TEST_MASTER_KEY.toString('base64'),
    ISSUER: 'https://issuer.example',
    LOG_LEVEL: 'warn',
  };
}

function run(program: string, args: readonly string[], env: ServiceEnvironment) {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => (text += chunk));
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal, output: text });
    });
  });
  return { child, output: () => text, ended };
}

import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { open, rename, stat, type FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { SUPERUSER, type Passwords } from './cluster.js';
import type { Installation } from './data-directory.js';
import { freeEndpoint, hostOf, removeTemporarySocketDirectory, type Endpoint } from './endpoint.js';
import { hasCode, messageOf } from './error-code.js';
import { disownPidFile, isServing, readPidFile } from './pid-file.js';
import { lastLines, runUnder, spawnedUnder } from './server-account.js';

/** How long a server may take until it accepts connections: recovery after a crash replays what was not flushed. */
const START_TIMEOUT_MS = 120_000;
const POLL_MS = 20;
const LARGEST_LOG_BYTES = 10 * 1024 * 1024;
const MAX_CONNECTIONS = 100;

/** What a start fails with when another attempt may succeed: the port was taken, or an old server is still ending. */
const PASSING =
  /could not bind|could not create any TCP\/IP sockets|lock file ".*" already exists|pre-existing shared memory block/;

const WRONG_PASSWORD = ['28P01', '28000'];

/** A server that accepts connections, and a superuser's connection to it that shows so. */
export interface ReachedServer {
  readonly endpoint: Endpoint;
  readonly connection: Client;
  /** Whether the server ran before. */
  readonly adopted: boolean;
}

/**
 * Reaches the server of `installation`: adopts one that runs already, because it outlived the process that started it,
 * else starts one.
 *
 * @param endpoint where a server that is started shall listen; without it on a free port
 * @throws Error with the last lines of the server's log, or where it cannot be reached in two minutes
 */
export async function reachServer(
  installation: Installation,
  passwords: Passwords,
  endpoint?: Endpoint,
): Promise<ReachedServer> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  let obstacle = 'a server runs there but does not accept connections';
  while (performance.now() < deadline) {
    const running = await adopt(installation, passwords, endpoint);
    if (running !== null && running !== 'not yet') return running;
    if (running === null) {
      const wanted = endpoint ?? (await freeEndpoint(installation));
      const started = await launch(installation, passwords, wanted, deadline);
      if (typeof started !== 'string') return { endpoint: wanted, connection: started, adopted: false };
      if (endpoint === undefined) await removeTemporarySocketDirectory(wanted.socketDirectory);
      obstacle = started;
      if (!PASSING.test(started)) break;
    }
    await delay(POLL_MS);
  }
  throw new Error(`The embedded PostgreSQL in ${installation.cluster} did not start: ${obstacle}`);
}

/**
 * Stops the server and waits until it has ended; sessions are cut, what was committed is kept. A server that does not
 * run is stopped.
 *
 * @throws Error where it still runs after a minute
 */
export async function stopServer({ account, binaries, cluster }: Installation, endpoint: Endpoint): Promise<void> {
  try {
    await runUnder(account, binaries.pgCtl, ['stop', '-D', cluster, '-m', 'fast', '-w', '-t', '60', '-s']);
  } catch (error) {
    if (!/PID file .* does not exist|No such process/.test(messageOf(error))) throw error;
  }
  await removeTemporarySocketDirectory(endpoint.socketDirectory);
}

/**
 * Connects to the server that `postmaster.pid` names. Only a connection with our password, to a server that says it
 * serves these very files, counts; the file may be left from a server that was killed, or copied along with the data.
 *
 * @param expected where a server of ours is to be started if none runs; its socket's folder is kept
 * @returns `null`: none runs; `'not yet'`: one is starting or ending
 * @throws Error where one runs that does not take the password
 */
async function adopt(
  installation: Installation,
  passwords: Passwords,
  expected: Endpoint | undefined,
): Promise<ReachedServer | 'not yet' | null> {
  const found = await readPidFile(installation);
  if (found === null) return null;
  const { port, socketDirectory } = found.endpoint;
  let refusal: unknown = null;
  let isAnothers = false;
  // By address as well: what sweeps the folder for temporary files may have taken the socket.
  for (const endpoint of socketDirectory === null
    ? [found.endpoint]
    : [found.endpoint, { port, socketDirectory: null }]) {
    try {
      const connection = await connect(endpoint, passwords);
      if (await servesThese(installation, connection)) return { endpoint, connection, adopted: true };
      isAnothers = true;
      await connection.end();
    } catch (error) {
      refusal = error;
    }
  }
  if (!isAnothers && (await isServing(installation, found.pid))) {
    if (hasCode(refusal, ...WRONG_PASSWORD)) throw new Error(`${installation.passwordFile} does not fit its database.`);
    return 'not yet';
  }
  if (socketDirectory !== expected?.socketDirectory) await removeTemporarySocketDirectory(socketDirectory);
  await disownPidFile(installation, found);
  return null;
}

/** Whether the server behind `connection` serves the files of `installation`. */
async function servesThese({ cluster }: Installation, connection: Client): Promise<boolean> {
  const { rows } = await connection.query<{ directory: string }>(
    "SELECT current_setting('data_directory') AS directory",
  );
  const [theirs, ours] = await Promise.all([stat(rows[0]?.directory ?? '').catch(() => null), stat(cluster)]);
  return theirs !== null && theirs.ino === ours.ino && theirs.dev === ours.dev;
}

/**
 * Starts the server and waits until it accepts connections. It runs in a session of its own, so the Ctrl-C that ends
 * us does not end it before we have drained.
 *
 * @returns the connection; or what the log says of the failure
 */
async function launch(
  installation: Installation,
  passwords: Passwords,
  endpoint: Endpoint,
  deadline: number,
): Promise<Client | string> {
  const log = await openLog(installation.logFile);
  try {
    const logged = (await log.stat()).size;
    const server = spawnServer(installation, endpoint, log);
    let ended: string | null = null;
    server.once('error', (error) => (ended = messageOf(error)));
    server.once('exit', (code, signal) => (ended = `it ended with ${signal ?? `code ${code ?? 0}`}`));
    server.unref();
    for (;;) {
      const connection = await connect(endpoint, passwords).catch((error: unknown) => error);
      if (connection instanceof Client) return connection;
      if (ended !== null && !(process.platform === 'win32' && ended === 'it ended with code 0')) {
        return `${ended as string}\n${await textSince(installation.logFile, logged)}`;
      }
      if (hasCode(connection, ...WRONG_PASSWORD) || performance.now() > deadline) {
        server.kill('SIGINT');
        return `${messageOf(connection)}\n${await textSince(installation.logFile, logged)}`;
      }
      await delay(POLL_MS);
    }
  } finally {
    await log.close();
  }
}

/** Spawns the server; on Windows by way of pg_ctl, which takes the rights of an administrator away from it. */
function spawnServer({ account, binaries, cluster }: Installation, endpoint: Endpoint, log: FileHandle): ChildProcess {
  const sockets = endpoint.socketDirectory === null ? '' : `"${endpoint.socketDirectory.replaceAll('"', '""')}"`;
  const settings = {
    listen_addresses: '127.0.0.1',
    port: endpoint.port,
    unix_socket_directories: sockets,
    max_connections: MAX_CONNECTIONS,
    timezone: 'UTC',
    log_timezone: 'UTC',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const options: SpawnOptions = {
    ...spawnedUnder(account),
    detached: true,
    windowsHide: true,
    stdio: ['ignore', log.fd, log.fd],
  };
  return process.platform === 'win32'
    ? spawn(binaries.pgCtl, ['start', '-D', cluster, '-w', '-s', '-o', flags.join(' ')], options)
    : spawn(binaries.postgres, ['-D', cluster, ...flags], options);
}

/**
 * Connects as the superuser.
 *
 * @throws Error of the network or of PostgreSQL
 */
async function connect(endpoint: Endpoint, passwords: Passwords): Promise<Client> {
  const connection = new Client({
    host: hostOf(endpoint),
    port: endpoint.port,
    user: SUPERUSER,
    password: passwords.superuser,
    database: 'postgres',
    ssl: false,
    connectionTimeoutMillis: 5_000,
    application_name: 'SentryAgent AgentIdP: holds the data directory',
  });
  // A connection that breaks raises 'error' and then 'end'; whoever uses it watches 'end'.
  connection.on('error', () => undefined);
  try {
    await connection.connect();
    return connection;
  } catch (error) {
    await connection.end().catch(() => undefined);
    throw error;
  }
}

/** Opens the server's log to append to it; one that has grown large is kept as `.1` and a new one begun. */
async function openLog(file: string): Promise<FileHandle> {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LARGEST_LOG_BYTES) await rename(file, `${file}.1`);
  return open(file, 'a', 0o600);
}

/** The last lines of what the server wrote after the first `offset` bytes of its log. */
async function textSince(file: string, offset: number): Promise<string> {
  const log = await open(file, 'r');
  try {
    const length = Math.max(0, (await log.stat()).size - offset);
    const { buffer } = await log.read(Buffer.alloc(length), 0, length, offset);
    return lastLines(buffer.toString('utf8'));
  } finally {
    await log.close();
  }
}

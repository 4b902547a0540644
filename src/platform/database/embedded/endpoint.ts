import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Installation } from './data-directory.js';
import { giveTo } from './server-account.js';

/** The longest path of a unix socket that every system takes, in bytes (macOS: 103, Linux: 107). */
const LONGEST_SOCKET_PATH = 100;
const TEMPORARY_PREFIX = path.join(tmpdir(), 'sentryagent-postgres-');

/** Where a PostgreSQL server listens: always on 127.0.0.1, and where it can on a unix socket in a folder. */
export interface Endpoint {
  readonly port: number;
  /** `null`: no unix socket. */
  readonly socketDirectory: string | null;
}

/** A free port and a folder that a socket of that port fits into. */
export async function freeEndpoint(installation: Installation): Promise<Endpoint> {
  const port = await freePort();
  return { port, socketDirectory: await socketDirectoryFor(installation, port) };
}

/** What `pg` takes as the host: the socket's folder, which is faster and no other user can reach, or the address. */
export function hostOf(endpoint: Endpoint): string {
  return endpoint.socketDirectory ?? '127.0.0.1';
}

/**
 * The URL of a database. The address stands in the authority and the socket in the parameter `host`, which `pg`,
 * TypeORM (it hands the whole URL to `pg`) and libpq prefer: so the URL is one that `new URL()` takes, and a program
 * that drops the parameter reaches the same server.
 */
export function urlOf(endpoint: Endpoint, role: string, password: string, database: string): string {
  const url = new URL(`postgres://127.0.0.1:${endpoint.port}`);
  url.username = role;
  url.password = password;
  url.pathname = `/${encodeURIComponent(database)}`;
  if (endpoint.socketDirectory !== null) url.searchParams.set('host', endpoint.socketDirectory);
  return url.href;
}

/** Removes the socket's folder where it is one of the temporary ones. */
export async function removeTemporarySocketDirectory(socketDirectory: string | null): Promise<void> {
  if (socketDirectory?.startsWith(TEMPORARY_PREFIX) === true && path.normalize(socketDirectory) === socketDirectory) {
    await rm(socketDirectory, { recursive: true, force: true });
  }
}

async function socketDirectoryFor(installation: Installation, port: number): Promise<string | null> {
  if (process.platform === 'win32') return null;
  if (fits(installation.socketDirectory, port)) return installation.socketDirectory;
  if (!fits(`${TEMPORARY_PREFIX}XXXXXX`, port)) return null;
  const directory = await mkdtemp(TEMPORARY_PREFIX);
  await giveTo(installation.account, directory);
  return directory;
}

function fits(directory: string, port: number): boolean {
  return Buffer.byteLength(path.join(directory, `.s.PGSQL.${port}`)) <= LONGEST_SOCKET_PATH;
}

/** A port of 127.0.0.1 that nobody listens on now. Another may take it before us; the start is then tried again. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no free port on 127.0.0.1'));
        else resolve(address.port);
      });
    });
  });
}

import { readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import type { Passwords } from './cluster.js';
import { lockDataDirectory } from './data-directory-lock.js';
import { prepareInstallation } from './data-directory.js';
import { startEmbeddedPostgres, type EmbeddedPostgres, type EmbeddedPostgresOptions } from './embedded-postgres.js';
import { urlOf } from './endpoint.js';
import { exists } from './postgres-binaries.js';
import { OWNING_ROLE } from './provisioning.js';
import { reachServer, stopServer } from './server-process.js';

/** An embedded PostgreSQL that somebody else may hold. */
export interface VisitedPostgres {
  readonly owningUrl: string;
  /** Where the data are. */
  readonly dataDirectory: string;
  /** Leaves it as it was found: running, or stopped. */
  leave(): Promise<void>;
}

/**
 * Reaches the embedded PostgreSQL for reading, without taking hold of its data directory: a service that runs on it goes
 * on. Where none runs, it is started until the visit is over.
 *
 * @throws Error where there is no database
 */
export async function visitEmbeddedPostgres(
  wanted: string,
  announce: (line: string) => void,
): Promise<VisitedPostgres> {
  if (!(await holdsDatabase(wanted))) throw new Error(`There is no database in ${path.resolve(wanted)}.`);
  const installation = await prepareInstallation(wanted, announce);
  const passwords = JSON.parse(await readFile(installation.passwordFile, 'utf8')) as Passwords;
  const { endpoint, connection, adopted } = await reachServer(installation, passwords);
  try {
    // What we started is ours until we stop it; a service that starts meanwhile is told so.
    if (!adopted) await lockDataDirectory(connection, installation.dataDirectory);
  } catch (error) {
    await connection.end();
    throw error;
  }
  return {
    owningUrl: urlOf(endpoint, OWNING_ROLE, passwords.owning, 'agentidp'),
    dataDirectory: installation.dataDirectory,
    leave: async () => {
      if (!adopted) await stopServer(installation, endpoint);
      await connection.end().catch(() => undefined);
    },
  };
}

/**
 * Moves the files of an embedded PostgreSQL aside, which this process holds, and starts it on new ones. Nothing is
 * deleted.
 *
 * @returns the new one, and where the old files are
 */
export async function replaceEmbeddedPostgres(
  held: EmbeddedPostgres,
  options: EmbeddedPostgresOptions,
  now: Date,
): Promise<{ postgres: EmbeddedPostgres; aside: string }> {
  await held.stop();
  const place = path.join(held.dataDirectory, 'postgres');
  const aside = `${place}.replaced-${now.toISOString().replaceAll(/[-:]|\.\d+/g, '')}`;
  await rename(place, aside);
  return { postgres: await startEmbeddedPostgres(options), aside };
}

/** Whether there is a database in, or for, a data directory. */
export async function holdsDatabase(wanted: string): Promise<boolean> {
  const directory = path.resolve(wanted);
  return (await exists(path.join(directory, 'postgres'))) || exists(path.join(directory, 'postgres.location'));
}

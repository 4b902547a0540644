import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';

/** Any number that no other program takes in the database `postgres` of an embedded server. */
const LOCK = '7307495830164242';
const PATIENCE_MS = 2_000;
const POLL_MS = 50;

/** Another living application uses the data directory. */
export class DataDirectoryInUse extends Error {
  constructor(readonly dataDirectory: string) {
    super(
      `The data directory ${dataDirectory} is in use by another running instance. Stop that one, or give this one a DATA_DIR of its own; for several instances on one database set DATABASE_URL.`,
    );
    this.name = 'DataDirectoryInUse';
  }
}

/**
 * Makes the session behind `connection` the holder of the data directory, until it ends. A session lock and no lock
 * file: it goes with the process that holds it, however that ends. The session of a killed process takes a moment to
 * vanish, so this waits for up to two seconds.
 *
 * @throws DataDirectoryInUse where another session keeps it
 */
export async function lockDataDirectory(connection: Client, dataDirectory: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const { rows } = await connection.query<{ locked: boolean }>('SELECT pg_try_advisory_lock($1) AS locked', [LOCK]);
    if (rows[0]?.locked === true) return;
    if (performance.now() > deadline) throw new DataDirectoryInUse(dataDirectory);
    await delay(POLL_MS);
  }
}

import type { Config } from '../config/config.js';
import { startEmbeddedPostgres } from './embedded/embedded-postgres.js';
import { readOrCreateMasterKey, readPreviousMasterKey } from './embedded/master-key.js';
import { migrate } from './migrate.js';

/** A database that is ready to serve: reachable, migrated, with the key that seals its secrets. */
export interface OpenDatabase {
  /** The role that serves. */
  readonly servingUrl: string;
  /** 32 bytes. */
  readonly masterKey: Buffer;
  /** The one before, while it is changed. */
  readonly previousMasterKey: Buffer | null;
  /** Stops the embedded PostgreSQL; does nothing where the database is somebody else's. */
  stop(): Promise<void>;
  /** Calls `listener` once where the embedded PostgreSQL is lost for good. */
  onLost(listener: (reason: Error) => void): void;
}

/**
 * Reaches the configured PostgreSQL, or starts the embedded one, and migrates it.
 *
 * @param announce told in lines for people what they may not expect
 * @throws DataDirectoryInUse, or whatever keeps the database from being reached or migrated
 */
export async function openDatabase(config: Config, announce: (line: string) => void): Promise<OpenDatabase> {
  const { url, migrationUrl, dataDirectory } = config.database;
  if (url === null) return openEmbedded(config, announce);
  if (migrationUrl === null) {
    announce('MIGRATION_DATABASE_URL is not set: the role of DATABASE_URL owns the tables and serves as well.');
  }
  await migrate(migrationUrl ?? url, url, { announce });
  return {
    servingUrl: url,
    masterKey: config.keys.masterKey ?? (await developmentKey(dataDirectory, announce)),
    previousMasterKey: await previousKey(config, dataDirectory),
    stop: () => Promise.resolve(),
    onLost: () => undefined,
  };
}

async function openEmbedded(config: Config, announce: (line: string) => void): Promise<OpenDatabase> {
  const postgres = await startEmbeddedPostgres({ dataDirectory: config.database.dataDirectory, announce });
  try {
    await migrate(postgres.owningUrl, postgres.servingUrl, { announce });
    return {
      servingUrl: postgres.servingUrl,
      masterKey: config.keys.masterKey ?? (await readOrCreateMasterKey(postgres.dataDirectory)),
      previousMasterKey: await previousKey(config, postgres.dataDirectory),
      stop: () => postgres.stop(),
      onLost: (listener) => postgres.onExit(listener),
    };
  } catch (error) {
    await postgres.stop();
    throw error;
  }
}

/** Outside production a server may be used without MASTER_KEY: the key is then kept as in embedded mode. */
async function developmentKey(dataDirectory: string, announce: (line: string) => void): Promise<Buffer> {
  announce(`MASTER_KEY is not set: using the one in ${dataDirectory}. Every replica needs the same.`);
  return readOrCreateMasterKey(dataDirectory);
}

/** A previous key in a file goes with a present one in a file. */
async function previousKey({ keys }: Config, dataDirectory: string): Promise<Buffer | null> {
  if (keys.previousMasterKey !== null || keys.masterKey !== null) return keys.previousMasterKey;
  return readPreviousMasterKey(dataDirectory);
}

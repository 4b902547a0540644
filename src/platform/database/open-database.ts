import pg from 'pg';
import type { Config } from '../config/config.js';
import { SealBroken, Sealer } from '../kernel/sealer.js';
import { startEmbeddedPostgres } from './embedded/embedded-postgres.js';
import {
  MasterKeyMissing,
  readMasterKey,
  readOrCreateMasterKey,
  readPreviousMasterKey,
} from './embedded/master-key.js';
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
 * @throws MasterKeyMissing where it kept its key in a file that is not there any more; then nothing was changed
 * @throws DataDirectoryInUse, or whatever keeps the database from being reached or migrated
 */
export async function openDatabase(config: Config, announce: (line: string) => void): Promise<OpenDatabase> {
  const { url, migrationUrl, dataDirectory } = config.database;
  if (url === null) return openEmbedded(config, announce);
  if (migrationUrl === null) {
    announce('MIGRATION_DATABASE_URL is not set: the role of DATABASE_URL owns the tables and serves as well.');
  }
  const owningUrl = migrationUrl ?? url;
  const keys = await keysOf(config, dataDirectory, owningUrl);
  if (config.keys.masterKey === null) {
    // Outside production a server may be used without MASTER_KEY: the key is then kept as in embedded mode.
    announce(`MASTER_KEY is not set: using the one in ${dataDirectory}. Every replica needs the same.`);
  }
  await migrate(owningUrl, url, { announce });
  return {
    servingUrl: url,
    ...keys,
    stop: () => Promise.resolve(),
    onLost: () => undefined,
  };
}

async function openEmbedded(config: Config, announce: (line: string) => void): Promise<OpenDatabase> {
  const postgres = await startEmbeddedPostgres({ dataDirectory: config.database.dataDirectory, announce });
  try {
    const keys = await keysOf(config, postgres.dataDirectory, postgres.owningUrl);
    await migrate(postgres.owningUrl, postgres.servingUrl, { announce });
    return {
      servingUrl: postgres.servingUrl,
      ...keys,
      stop: () => postgres.stop(),
      onLost: (listener) => postgres.onExit(listener),
    };
  } catch (error) {
    await postgres.stop();
    throw error;
  }
}

/** The master keys: those of the environment, else those that are kept under the data directory. */
async function keysOf(
  { keys }: Config,
  dataDirectory: string,
  owningUrl: string,
): Promise<Pick<OpenDatabase, 'masterKey' | 'previousMasterKey'>> {
  if (keys.masterKey !== null) return { masterKey: keys.masterKey, previousMasterKey: keys.previousMasterKey };
  // A previous key in a file goes with a present one in a file.
  const previousMasterKey = keys.previousMasterKey ?? (await readPreviousMasterKey(dataDirectory));
  const isKept = async (): Promise<boolean> => (await readMasterKey(dataDirectory)) !== null;
  // Looked for again behind the database: another replica may have made it meanwhile, and sealed with it.
  if (!(await isKept()) && !(await isReadyForNewKey(owningUrl, previousMasterKey)) && !(await isKept())) {
    throw new MasterKeyMissing(dataDirectory);
  }
  return { masterKey: await readOrCreateMasterKey(dataDirectory), previousMasterKey };
}

/** Whether a database holds nothing sealed yet, or what it holds is opened by the previous key: the key is changed then. */
async function isReadyForNewKey(owningUrl: string, previousMasterKey: Buffer | null): Promise<boolean> {
  const client = new pg.Client({ connectionString: owningUrl, application_name: 'agentidp' });
  // What breaks the connection fails the statement that runs.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows: installed } = await client.query<{ is: boolean }>(
      "SELECT to_regclass('public.sealed_secrets') IS NOT NULL AS is",
    );
    if (installed[0]?.is !== true) return true;
    const { rows } = await client.query<{ name: string; sealed: Buffer }>('SELECT name, sealed FROM sealed_secrets');
    if (rows.length === 0) return (await client.query('SELECT FROM signing_keys LIMIT 1')).rowCount === 0;
    if (previousMasterKey === null) return false;
    const sealer = new Sealer(previousMasterKey);
    for (const { name, sealed } of rows) sealer.open(sealed, name);
    return true;
  } catch (error) {
    if (error instanceof SealBroken) return false;
    throw error;
  } finally {
    await client.end();
  }
}

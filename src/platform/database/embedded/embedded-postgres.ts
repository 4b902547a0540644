import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';
import { ensureCluster, removeLeftovers, SUPERUSER, type Passwords } from './cluster.js';
import { DataDirectoryInUse, lockDataDirectory } from './data-directory-lock.js';
import { prepareInstallation, type Installation } from './data-directory.js';
import { urlOf, type Endpoint } from './endpoint.js';
import { messageOf } from './error-code.js';
import { OWNING_ROLE, provision, SERVING_ROLE } from './provisioning.js';
import { reachServer, stopServer, type ReachedServer } from './server-process.js';

export { DataDirectoryInUse } from './data-directory-lock.js';

const ATTEMPTS = 5;
/** So many times within so long it is tried to start a server again that ended by itself; then it is given up. */
const REVIVALS = 5;
const REVIVALS_WITHIN_MS = 60_000;
/** How long it is waited after a try that failed, in milliseconds; after each further one twice as long. */
const FIRST_PAUSE_MS = 100;

/** A PostgreSQL server that this process holds. */
export interface EmbeddedPostgres {
  /** For the role that serves requests. */
  readonly servingUrl: string;
  /** For the role that owns the database; migrations run as it. */
  readonly owningUrl: string;
  /** For the superuser, on the database `postgres`. For tests. */
  readonly superuserUrl: string;
  /** Where the data are; another folder than was asked for where PostgreSQL cannot enter that. The master key belongs here. */
  readonly dataDirectory: string;

  /** Ends every session, stops the server and waits until it has ended. Calling it again changes nothing. */
  stop(): Promise<void>;

  /**
   * Calls `listener` once if the server is lost for good: it ended and could not be started again at the same place, or
   * another application holds the data directory now. The process cannot serve any more and should end.
   */
  onExit(listener: (reason: Error) => void): void;
}

/** How the embedded PostgreSQL is to be started. */
export interface EmbeddedPostgresOptions {
  /** Made if missing. */
  readonly dataDirectory: string;
  /** `agentidp` unless told. */
  readonly database?: string;
  /** Told, in lines for people, what they may not expect: data elsewhere than asked for, a server that had to be revived. */
  readonly announce: (line: string) => void;
}

/**
 * Starts PostgreSQL on a data directory, or adopts the server that a killed process left there, and makes what is
 * missing: the files, the roles, the database. From then on this process holds the directory until `stop()` or its end.
 * If the server is killed meanwhile it is started again at the same place.
 *
 * @throws DataDirectoryInUse where another living process holds the directory; its server is left alone
 * @throws Error with the last lines of PostgreSQL's log where it does not start
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const installation = await prepareInstallation(options.dataDirectory, options.announce);
  const passwords = await ensureCluster(installation);
  const held = await reachAndHold(installation, passwords);
  try {
    await removeLeftovers(installation, held.endpoint.port);
    await provision(held.connection, passwords, options.database ?? 'agentidp');
  } catch (error) {
    await stopServer(installation, held.endpoint);
    throw error;
  }
  return new HeldServer(installation, passwords, options, held);
}

/**
 * Reaches the server and takes hold of the data directory. A server that its last holder is just stopping ends under
 * our hands; then it is begun again.
 */
async function reachAndHold(
  installation: Installation,
  passwords: Passwords,
  endpoint?: Endpoint,
): Promise<ReachedServer> {
  for (let attempt = 1; ; attempt++) {
    const server = await reachServer(installation, passwords, endpoint);
    try {
      await lockDataDirectory(server.connection, installation.dataDirectory);
      return server;
    } catch (error) {
      await server.connection.end().catch(() => undefined);
      if (error instanceof DataDirectoryInUse || attempt === ATTEMPTS) throw error;
    }
  }
}

/** The server, and the connection by which this process holds its data directory. */
class HeldServer implements EmbeddedPostgres {
  readonly servingUrl: string;
  readonly owningUrl: string;
  readonly superuserUrl: string;
  readonly dataDirectory: string;
  private readonly endpoint: Endpoint;
  private readonly listeners: ((reason: Error) => void)[] = [];
  private readonly revivals: number[] = [];
  private revival: Promise<void> = Promise.resolve();
  private stopping: Promise<void> | null = null;
  private lost: Error | null = null;
  /** Whether this process holds the data directory now: between a cut and a revival another may. */
  private isHeld = true;

  constructor(
    private readonly installation: Installation,
    private readonly passwords: Passwords,
    private readonly options: EmbeddedPostgresOptions,
    { endpoint, connection }: ReachedServer,
  ) {
    const database = options.database ?? 'agentidp';
    this.endpoint = endpoint;
    this.servingUrl = urlOf(endpoint, SERVING_ROLE, passwords.serving, database);
    this.owningUrl = urlOf(endpoint, OWNING_ROLE, passwords.owning, database);
    this.superuserUrl = urlOf(endpoint, SUPERUSER, passwords.superuser, 'postgres');
    this.dataDirectory = installation.dataDirectory;
    this.watch(connection);
  }

  onExit(listener: (reason: Error) => void): void {
    if (this.lost === null) this.listeners.push(listener);
    else listener(this.lost);
  }

  stop(): Promise<void> {
    this.stopping ??= this.stopOnce();
    return this.stopping;
  }

  /**
   * Stops the server while the directory is still held; the server ends the holding session itself. Let go first, the
   * directory could be taken, and the stop would hit its new holder.
   */
  private async stopOnce(): Promise<void> {
    await this.revival;
    if (this.isHeld) await stopServer(this.installation, this.endpoint);
  }

  private watch(connection: Client): void {
    this.isHeld = true;
    connection.once('end', () => {
      this.isHeld = this.stopping !== null;
      if (this.stopping === null) this.revival = this.revive();
    });
  }

  /**
   * Reaches the server again, or starts it again where it listened before, so that the URLs stay true. It may be killed
   * again while it recovers: then it is tried anew after a pause, a few times and for a minute at most, so that whoever
   * supervises this process can start it elsewhere.
   */
  private async revive(): Promise<void> {
    this.options.announce('The connection that holds the embedded PostgreSQL was cut; reaching for it again.');
    let failure: unknown = new Error('it ended too often');
    const beganMs = performance.now();
    for (let attempt = 0; this.stopping === null && this.mayTryAgain(beganMs); attempt += 1) {
      if (attempt > 0) await delay(FIRST_PAUSE_MS * 2 ** (attempt - 1));
      try {
        await this.reachAgain();
        this.options.announce('The embedded PostgreSQL is reached again.');
        return;
      } catch (error) {
        failure = error;
        if (error instanceof DataDirectoryInUse) break;
        this.options.announce(`The embedded PostgreSQL could not be reached: ${messageOf(error)}`);
      }
    }
    if (this.stopping !== null) return;
    this.lost = new Error(`The embedded PostgreSQL is lost: ${messageOf(failure)}`, { cause: failure });
    for (const listener of this.listeners) listener(this.lost);
  }

  /** Whether a server that ended at `beganMs` is tried again: not for long, and not where servers end again and again. */
  private mayTryAgain(beganMs: number): boolean {
    const now = performance.now();
    if (now - beganMs > REVIVALS_WITHIN_MS) return false;
    this.revivals.push(now);
    return this.revivals.filter((time) => time > now - REVIVALS_WITHIN_MS).length <= REVIVALS;
  }

  private async reachAgain(): Promise<void> {
    const { endpoint, connection } = await reachAndHold(this.installation, this.passwords, this.endpoint);
    if (endpoint.port !== this.endpoint.port) {
      await connection.end();
      throw new Error('it listens elsewhere now');
    }
    this.watch(connection);
  }
}

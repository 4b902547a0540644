import { randomUUID } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { DatabaseLine } from '../support/database-line.js';
import { startOwnPostgres, type OwnPostgres } from '../support/own-postgres.js';
import { dataFolder, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { limitedDisk, mountSmallDisk, refusalsForRoom, type FillableDisk } from '../support/small-disk.js';
import { until } from './conditions.js';
import type { SeededRandom } from './random.js';

const CLOCK = pathToFileURL(join(import.meta.dirname, '../support/shifted-clock.mjs')).href;

/** The words for a disk that takes no more. */
export const FULL_DISK = 'a full disk';

/** One of two replicas, with its own line to PostgreSQL and its own clock. */
interface Replica {
  service: ServiceProcess;
  readonly line: DatabaseLine;
  readonly env: Readonly<Record<string, string>>;
  readonly clockFile: string;
}

/** A fault: what is done, in words, and what undoes it. */
export interface Fault {
  readonly what: string;
  readonly mend: () => Promise<void>;
}

type Inject = (random: SeededRandom) => Promise<Fault>;

/** Two replicas and a PostgreSQL, all processes of their own, and everything that can happen to them. */
export class FaultCluster {
  readonly operator = { clientId: randomUUID(), clientSecret: `operator-${randomUUID()}` };
  private readonly restarts: number[] = [];
  private isPostgresStopped = false;

  private constructor(
    readonly postgres: OwnPostgres,
    readonly replicas: readonly Replica[],
    private disk: FillableDisk | null,
  ) {}

  /**
   * Starts it.
   *
   * @param diskMegabytes how large the disk of PostgreSQL is, where one can be mounted; else the size of its files is
   *   limited
   */
  static async start(diskMegabytes: number): Promise<FaultCluster> {
    const mounted = await mountSmallDisk(diskMegabytes);
    const postgres = await startOwnPostgres(mounted === null ? await dataFolder() : join(mounted.folder, 'data'));
    // The log of what is written has to leave room on the disk.
    for (const setting of ["max_wal_size = '96MB'", "min_wal_size = '32MB'", "checkpoint_timeout = '30s'"]) {
      await postgres.database.query(`ALTER SYSTEM SET ${setting}`);
    }
    await postgres.database.query('SELECT pg_reload_conf()');
    const cluster = new FaultCluster(postgres, [], mounted);
    for (const index of [0, 1]) (cluster.replicas as Replica[]).push(await cluster.startReplica(index));
    cluster.disk ??= await limitedDisk(postgres);
    return cluster;
  }

  async stop(): Promise<void> {
    for (const { service, line } of this.replicas) {
      await service.stop();
      await line.close();
    }
    await this.postgres.stop();
    await this.disk?.remove();
  }

  url(index: number): string {
    return this.replicas[index]?.service.url ?? '';
  }

  /** What the replicas logged last: their errors, and nothing that is secret. */
  lastWords(): string {
    return this.replicas.map(({ service }) => service.output().slice(-6000)).join('\n');
  }

  /** Takes what has become free on a disk that was filled: logs that were removed, or what was lost to the server. */
  async fillDiskAgain(): Promise<void> {
    await whereServerRuns(async () => this.disk?.fill());
  }

  /** How often PostgreSQL has found no room on its disk. */
  refusalsForRoom(): Promise<number> {
    return refusalsForRoom(this.postgres);
  }

  /** Sets the clocks of both replicas right. */
  async setClocksRight(): Promise<void> {
    for (const replica of this.replicas) await this.shiftClock(replica, 0);
  }

  /** Does something bad. */
  async hurt(random: SeededRandom): Promise<Fault> {
    return random.of(this.faults())(random);
  }

  private faults(): readonly Inject[] {
    const always: Inject[] = [
      (random) => this.killReplica(random.integer(0, 1)),
      (random) => this.stopReplica(random.integer(0, 1)),
      () => this.stopPostgres(),
      (random) => this.cutLine(this.replica(random), random.integer(3, 12)),
      (random) => this.holdLine(this.replica(random)),
      (random) => this.refuseLine(this.replica(random)),
      (random) => this.jumpClock(this.replica(random), random.integer(-1800, 1800)),
      () => this.fillDisk(),
    ];
    // A server that is killed too often within a minute is given up by whoever restarts it.
    const now = performance.now();
    const recent = this.restarts.filter((time) => now - time < 65_000).length;
    // Nor does one that is stopped tell its sessions.
    if (recent >= 4 || this.isPostgresStopped) return always;
    return [...always, () => this.killPostgres('server'), () => this.killPostgres('session')];
  }

  private replica(random: SeededRandom): Replica {
    return random.of(this.replicas);
  }

  private async killReplica(index: number): Promise<Fault> {
    const replica = this.replicas[index] as Replica;
    replica.service.kill('SIGKILL');
    await replica.service.ended;
    return {
      what: `kill -9 of replica ${index}`,
      mend: async () => {
        replica.service = await startAgain(replica.env);
      },
    };
  }

  private stopReplica(index: number): Promise<Fault> {
    const { service } = this.replicas[index] as Replica;
    service.kill('SIGSTOP');
    const mend = (): Promise<void> => Promise.resolve(service.kill('SIGCONT'));
    return Promise.resolve({ what: `SIGSTOP of replica ${index}`, mend });
  }

  private async stopPostgres(): Promise<Fault> {
    await this.postgres.signalAll('SIGSTOP');
    this.isPostgresStopped = true;
    const mend = async (): Promise<void> => {
      this.isPostgresStopped = false;
      await this.postgres.signalAll('SIGCONT');
    };
    return { what: 'SIGSTOP of PostgreSQL', mend };
  }

  private async killPostgres(which: 'server' | 'session'): Promise<Fault> {
    // One that is killed while it recovers is a test of its own.
    await whereServerRuns(async () => void (await this.postgres.database.query('SELECT 1')));
    this.restarts.push(performance.now());
    if (which === 'server') process.kill(await this.postgres.pid(), 'SIGKILL');
    else {
      const [row] = await this.postgres.database.query<{ pid: number }>(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'agentidp' LIMIT 1",
      );
      if (row !== undefined) process.kill(row.pid, 'SIGKILL');
    }
    return { what: `kill -9 of PostgreSQL, its ${which}`, mend: () => Promise.resolve() };
  }

  private async cutLine({ line }: Replica, times: number): Promise<Fault> {
    for (let time = 0; time < times; time += 1) {
      line.cut();
      await delay(40);
    }
    return { what: `${times} cuts of a line`, mend: () => Promise.resolve() };
  }

  private holdLine({ line }: Replica): Promise<Fault> {
    line.hold();
    return Promise.resolve({ what: 'a line that lets nothing through', mend: () => Promise.resolve(line.release()) });
  }

  private async refuseLine({ line }: Replica): Promise<Fault> {
    await line.refuse();
    return { what: 'a line that is refused', mend: () => line.listen() };
  }

  /** Stays for the round: it is not undone by whoever undoes faults, but before what was promised is looked at. */
  private async jumpClock(replica: Replica, seconds: number): Promise<Fault> {
    await this.shiftClock(replica, seconds);
    return { what: `a clock that jumps by ${seconds} s`, mend: () => Promise.resolve() };
  }

  private async fillDisk(): Promise<Fault> {
    await this.fillDiskAgain();
    return { what: FULL_DISK, mend: () => whereServerRuns(async () => this.disk?.free()) };
  }

  private async shiftClock({ clockFile, service }: Replica, seconds: number): Promise<void> {
    await writeFile(clockFile, String(seconds * 1000));
    service.kill('SIGUSR2');
  }

  private async startReplica(index: number): Promise<Replica> {
    const { line, database } = await DatabaseLine.to(this.postgres.database);
    const clockFile = join(await mkdtemp(join(tmpdir(), 'agentidp-clock-')), `replica-${index}`);
    await writeFile(clockFile, '0');
    const env = {
      ...environmentOf(database),
      ...{ BOOTSTRAP_CLIENT_ID: this.operator.clientId, BOOTSTRAP_CLIENT_SECRET: this.operator.clientSecret },
      ...{ NODE_OPTIONS: `--import=${CLOCK}`, CLOCK_SHIFT_FILE: clockFile },
      ...{ TOKEN_TTL_SECONDS: '86400', LOG_LEVEL: 'error', RATE_LIMIT_ENTERPRISE: '0' },
    };
    return { service: await startService(env), line, env, clockFile };
  }
}

/** Again and again: a server that was killed is being started again. */
async function whereServerRuns(work: () => Promise<void>): Promise<void> {
  await until('the server', () =>
    work().then(
      () => true,
      () => false,
    ),
  );
}

/** As an orchestrator does: again and again, where the database is not there yet. */
async function startAgain(env: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startService(env);
    } catch (error) {
      if (attempt === 10) throw error;
      await delay(500);
    }
  }
}

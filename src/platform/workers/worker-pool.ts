import cluster, { type Worker } from 'node:cluster';
import type { MetricObject } from 'prom-client';
import type { ToPrimary, ToWorker } from './worker-messages.js';

/** How long a worker that ended is not begun again: doubled with each one that did not live long, in milliseconds. */
const LEAST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
/** A worker that lived so long was in order, in milliseconds. */
const LONG_LIFE_MS = 10_000;
/** How long a worker may take to report its metrics, in milliseconds. */
const REPORT_LIMIT_MS = 1000;

/** What the workers are given. */
export interface WorkerPoolOptions {
  readonly size: number;
  readonly servingUrl: string;
  readonly masterKey: Buffer;
  readonly previousMasterKey: Buffer | null;
  /** Told what happens, in lines for people. */
  readonly announce: (line: string) => void;
}

/** The first worker could not start; it has said why. */
export class FirstWorkerFailed extends Error {
  constructor(readonly exitCode: number) {
    super('the first worker could not start');
  }
}

/**
 * Workers on one port, begun again where they end by themselves. They share nothing but the database: this process
 * serves no request and knows no state.
 */
export class WorkerPool {
  private readonly ready = new Set<Worker>();
  private stopping = false;
  private pauseMs = LEAST_PAUSE_MS;
  private reports = 0;
  private worstExitCode = 0;

  constructor(private readonly options: WorkerPoolOptions) {
    cluster.on('message', (worker, message) => this.listen(worker, message as ToPrimary));
  }

  /**
   * Begins the first worker, which makes what is missing, and then the others.
   *
   * @returns their process ids, when all are ready
   * @throws FirstWorkerFailed
   */
  async start(): Promise<readonly number[]> {
    await this.begin(true);
    await Promise.all(Array.from({ length: this.options.size - 1 }, () => this.begin(false)));
    return this.alive().map(({ process: { pid } }) => pid ?? 0);
  }

  /**
   * Asks all workers to end, as this process was asked.
   *
   * @param limitMs after so many milliseconds those that are left are killed
   * @returns the exit code: 0 where all ended as they should
   */
  async stop(signal: NodeJS.Signals, limitMs: number): Promise<number> {
    this.stopping = true;
    const workers = this.alive();
    const ended = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
    for (const worker of workers) worker.process.kill(signal);
    const limit = setTimeout(() => {
      for (const worker of this.alive()) worker.process.kill('SIGKILL');
    }, limitMs);
    await Promise.all(ended);
    clearTimeout(limit);
    return this.worstExitCode;
  }

  private alive(): Worker[] {
    return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
  }

  /** Begins a worker; resolves when it is ready, or has ended and another is on its way. */
  private begin(first: boolean): Promise<void> {
    const worker = cluster.fork();
    const { servingUrl, masterKey, previousMasterKey } = this.options;
    const keys = {
      masterKey: masterKey.toString('base64'),
      previousMasterKey: previousMasterKey?.toString('base64') ?? null,
    };
    const bornAt = performance.now();
    return new Promise((resolve, reject) => {
      worker.on('message', ({ kind }: ToPrimary) => {
        if (kind === 'born') {
          this.tell(worker, { kind: 'begin', servingUrl, ...keys, first });
        }
        if (kind !== 'ready') return;
        this.ready.add(worker);
        resolve();
      });
      worker.once('exit', (code, signal) => {
        const served = this.ready.delete(worker);
        if (this.stopping) {
          if (code !== 0) this.worstExitCode = 1;
          return resolve();
        }
        if (first && !served) return reject(new FirstWorkerFailed(code ?? 1));
        this.replace(worker, signal ?? `code ${code}`, performance.now() - bornAt);
        resolve();
      });
    });
  }

  private replace(worker: Worker, cause: string, livedMs: number): void {
    this.pauseMs = livedMs >= LONG_LIFE_MS ? LEAST_PAUSE_MS : Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
    this.options.announce(
      `Worker ${worker.process.pid} ended by ${cause}; another begins in ${this.pauseMs / 1000} seconds.`,
    );
    setTimeout(() => {
      if (!this.stopping) void this.begin(false).then(() => this.options.announce('A worker serves in its place.'));
    }, this.pauseMs);
  }

  private listen(worker: Worker, message: ToPrimary): void {
    if (message.kind === 'gather') void this.gather(worker, message.request);
  }

  private async gather(asking: Worker, request: number): Promise<void> {
    const reports = await Promise.all([...this.ready].map((worker) => this.reportOf(worker)));
    this.tell(asking, { kind: 'gathered', request, metrics: reports.filter((report) => report !== null) });
  }

  private reportOf(worker: Worker): Promise<MetricObject[] | null> {
    const request = (this.reports += 1);
    return new Promise((resolve) => {
      const settle = (report: MetricObject[] | null): void => {
        clearTimeout(limit);
        worker.off('message', listener);
        resolve(report);
      };
      const listener = (message: ToPrimary): void => {
        if (message.kind === 'report' && message.request === request) settle([...message.metrics]);
      };
      const limit = setTimeout(() => settle(null), REPORT_LIMIT_MS);
      worker.on('message', listener);
      this.tell(worker, { kind: 'report', request });
    });
  }

  private tell(worker: Worker, message: ToWorker): void {
    // One that has just died is replaced anyway.
    worker.send(message, () => undefined);
  }
}

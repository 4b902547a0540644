import { Inject, Injectable, type BeforeApplicationShutdown } from '@nestjs/common';
import { HealthIndicatorService } from '@nestjs/terminus';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { problems } from '../kernel/problem.js';
import { Admission } from './admission.js';

/** How long the database may take to answer, in milliseconds. */
const DATABASE_TIMEOUT_MS = 1_000;

/** What a ready replica answers. */
export interface ReadyReport {
  readonly status: 'ok';
  /** `load` is told while requests are refused for overload. */
  readonly checks: { readonly database: 'up'; readonly load?: 'overloaded' };
}

/** Whether this replica should get requests: the database answers, and nobody has asked it to drain. */
@Injectable()
export class Readiness implements BeforeApplicationShutdown {
  private draining = false;
  private ping: Promise<unknown> | undefined;

  constructor(
    @InjectDataSource() private readonly dataSource: DataSource,
    private readonly indicators: HealthIndicatorService,
    @Inject(Admission) private readonly admission: Pick<Admission, 'isOverloaded'>,
  ) {}

  /** Whether the replica drains. */
  get isDraining(): boolean {
    return this.draining;
  }

  /** From now on the replica is not ready, so that load balancers stop sending before it closes. Cannot be undone. */
  drain(): void {
    this.draining = true;
  }

  /** Drains, for those who close without draining first. */
  beforeApplicationShutdown(): void {
    this.drain();
  }

  /**
   * @returns that the replica is ready
   * @throws Problem `unavailable` while draining, or when the database does not answer within one second
   */
  async check(): Promise<ReadyReport> {
    if (this.draining) throw notReady('The service is shutting down.', { draining: true });
    const { database } = await this.indicators
      .check('database')
      .attempt(async () => {
        await this.askDatabase();
      })
      .withTimeout(DATABASE_TIMEOUT_MS);
    if (database.status === 'up') return { status: 'ok', checks: this.checks() };
    throw notReady('The database does not answer.', { database: 'down' });
  }

  /**
   * An overloaded replica stays ready: taken out of the balance, its load would fall on the others, and fell them too.
   */
  private checks(): ReadyReport['checks'] {
    return this.admission.isOverloaded ? { database: 'up', load: 'overloaded' } : { database: 'up' };
  }

  /** One question at a time, whoever asks: probes must not take the pool's connections while the database hangs. */
  private askDatabase(): Promise<unknown> {
    this.ping ??= this.dataSource.query('SELECT 1').finally(() => {
      this.ping = undefined;
    });
    return this.ping;
  }
}

function notReady(detail: string, checks: Readonly<Record<string, unknown>>): Error {
  return problems.unavailable.withDetail(detail).withExtensions({ checks });
}

import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { createHash } from 'node:crypto';
import { GroupCommit } from '../platform/database/group-commit.js';
import { Metrics } from '../platform/http/metrics.js';
import { signedDigest } from '../platform/jws/compact-jws.js';
import { CLOCK_SKEW_SECONDS, type JwtAssertion } from '../platform/jws/jwt-assertion.js';
import { Clock } from '../platform/kernel/clock.js';
import { AssertionsRepository, type AssertionUse } from './assertions.repository.js';

const LIMITS = { maxQueue: 4000, maxBatch: 200 };
const INTERVAL_MS = 60_000;
/** Kept so much longer than anybody takes it: the clock of another replica may be behind this one's. */
const MARGIN_MS = 300_000;
/** The last second that an ISO 8601 text of four digits for the year can tell. */
const LAST_SECOND = 253_402_300_799;
/** Rows that one statement deletes: small, so that nothing waits for it. */
const BATCH = 1000;
/** Batches of one round; what is left waits for the next. */
const MAX_BATCHES = 100;

/**
 * Which assertions have been used, over all replicas, for as long as they could be used again. An assertion is used up
 * by the commit of one statement, before anything is earned with it: a crash after that costs the client a new
 * assertion, never gives a second token for one.
 */
@Injectable()
export class UsedAssertions implements OnApplicationShutdown {
  private readonly logger = new Logger(UsedAssertions.name);
  private readonly commits: GroupCommit<AssertionUse, boolean>;

  constructor(
    private readonly repository: AssertionsRepository,
    private readonly clock: Clock,
    metrics: Metrics,
  ) {
    this.commits = new GroupCommit(
      'assertions',
      LIMITS,
      (uses) => repository.use(uses),
      ({ issuerId }) => issuerId,
      (size, seconds) => metrics.flushed('assertions', size, seconds),
    );
    metrics.observeQueue('assertions', () => this.commits.depth);
  }

  /**
   * Uses an assertion up. Its `jti` counts; without one, all that was signed.
   *
   * @param issuerId the agent or the partner that made it
   * @returns false where it had been used
   */
  use(organizationId: string, issuerId: string, assertion: JwtAssertion): Promise<boolean> {
    const { id, jws, expiresAt } = assertion;
    const digest = id === null ? signedDigest(jws) : createHash('sha256').update(id, 'utf8').digest();
    return this.commits.commit({
      organizationId,
      issuerId,
      digest,
      expiresAt: new Date(Math.min(expiresAt + CLOCK_SKEW_SECONDS, LAST_SECOND) * 1000),
    });
  }

  /** Forgets assertions that nobody takes any more. Any number of replicas may do so at once. */
  @Interval(INTERVAL_MS)
  async forgetExpired(): Promise<void> {
    try {
      for (let batch = 0; batch < MAX_BATCHES; batch += 1) {
        const before = new Date(this.clock.nowMs() - MARGIN_MS);
        if ((await this.repository.deleteExpired(before, BATCH)) < BATCH) return;
      }
    } catch (error) {
      this.logger.warn(`could not forget expired assertions: ${String(error)}`);
    }
  }

  /** Drains the queue once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.commits.drain();
  }
}

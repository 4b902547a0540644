import { Injectable, Logger } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Clock } from '../platform/kernel/clock.js';
import { TokensRepository } from './tokens.repository.js';

const INTERVAL_MS = 60_000;
/** Kept so much longer than the token: the clock of another replica may be behind this one's. */
const MARGIN_MS = 3_600_000;
/** Rows that one statement deletes: small, so that nothing waits for it. */
const BATCH = 1000;
/** Batches of one round; what is left waits for the next. */
const MAX_BATCHES = 100;

/** Deletes revocations whose tokens have expired: an expired token needs none. */
@Injectable()
export class ExpiredRevocations {
  private readonly logger = new Logger(ExpiredRevocations.name);

  constructor(
    private readonly repository: TokensRepository,
    private readonly clock: Clock,
  ) {}

  /** One round. Any number of replicas may run it at once. */
  @Interval(INTERVAL_MS)
  async deleteSome(): Promise<void> {
    try {
      for (let batch = 0; batch < MAX_BATCHES; batch += 1) {
        if ((await this.repository.deleteExpired(new Date(this.clock.nowMs() - MARGIN_MS), BATCH)) < BATCH) return;
      }
    } catch (error) {
      this.logger.warn(`could not delete expired revocations: ${String(error)}`);
    }
  }
}

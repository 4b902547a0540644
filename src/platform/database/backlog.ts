import { Injectable } from '@nestjs/common';
import { availableParallelism } from 'node:os';
import { Config } from '../config/config.js';
import type { Gathering } from './serial-batch.js';

/** From so many on, those that wait will keep the thread pool busy for as long as a batch takes. */
const BUSY_FROM = 2;

/** Batches do not grow beyond this by waiting, nor beyond such a share of the requests that are under way. */
const ENOUGH = { items: 64, share: 0.75 };

/**
 * How much work waits for the thread pool, on which signatures are made. While enough of it waits, batches of the token
 * path gather more items instead of starting: what they would answer sooner would wait for the thread pool all the
 * same, and larger batches cost less. But a batch does not gather all the requests that are under way: some are to be
 * signed while the others are looked up and answered, so that neither the pool nor the script has a pause. And it waits at
 * most for the jobs that were under way when it began to wait, whatever comes meanwhile, so no timer is needed.
 */
@Injectable()
export class Backlog {
  private underWay = 0;
  private ended = 0;
  private readonly threads: number;
  private readonly listeners: (() => void)[] = [];
  private requests: () => number = () => 0;

  constructor({ http }: Config) {
    // As many as the launchers make (scripts/thread-pool.cjs).
    this.threads = Math.max(2, Math.ceil(availableParallelism() / http.workers));
  }

  /** Counts one job from its start to its end. */
  begin(): void {
    this.underWay += 1;
  }

  end(): void {
    this.underWay -= 1;
    this.ended += 1;
    for (const reconsider of this.listeners) reconsider();
  }

  /**
   * Asks `count` how many requests that need a job are under way; none unless told. When one leaves need not be told: a
   * batch waits only while jobs are under way, and the end of the next one tells.
   */
  observeRequests(count: () => number): void {
    this.requests = count;
  }

  /** Has a batch gather items while enough jobs wait. */
  gathering(): Gathering {
    return {
      begin: () => {
        const last = this.ended + this.underWay;
        return (items) =>
          this.ended < last &&
          this.underWay - this.threads >= BUSY_FROM &&
          items < Math.min(ENOUGH.items, ENOUGH.share * this.requests());
      },
      onChange: (reconsider) => this.listeners.push(reconsider),
    };
  }
}

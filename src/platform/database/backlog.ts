import { Injectable } from '@nestjs/common';
import { availableParallelism } from 'node:os';
import { Config } from '../config/config.js';
import type { Gathering } from './serial-batch.js';

/** From so many on, those that wait will keep the thread pool busy for as long as a batch takes. */
const BUSY_FROM = 5;

/**
 * How much work waits for the thread pool, on which signatures are made. While enough of it waits, batches of the token
 * path gather more items instead of starting: what they would answer sooner would wait for the thread pool all the
 * same, and larger batches cost less. It runs down by itself, so nothing is held for long and no timer is needed.
 */
@Injectable()
export class Backlog {
  private underWay = 0;
  private readonly threads: number;
  private readonly listeners: (() => void)[] = [];

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
    if (this.underWay - this.threads === BUSY_FROM - 1) for (const listener of this.listeners) listener();
  }

  /** Has a batch gather up to `enough` items while enough jobs wait. */
  gathering(enough: number): Gathering {
    return {
      enough,
      worthwhile: () => this.underWay - this.threads >= BUSY_FROM,
      onEnd: (resume) => this.listeners.push(resume),
    };
  }
}

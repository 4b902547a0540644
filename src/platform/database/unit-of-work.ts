import { Injectable } from '@nestjs/common';
import { DataSource, type EntityManager } from 'typeorm';
import { DatabaseWatch } from './database-watch.js';
import { QueueFull } from './serial-batch.js';
import { isReadOnly } from './sql-errors.js';

/** Transactions that may wait for their turn; over it the answer is 503. */
const MAX_WAITING = 500;

/** Opens transactions. Whoever writes takes the transaction's `EntityManager` as an argument. */
@Injectable()
export class UnitOfWork {
  private running = 0;
  /** Half of the pool, so that however many transactions wait for a lock the hot path has the rest. */
  private readonly maxRunning: number;
  private readonly waiting: (() => void)[] = [];

  constructor(
    private readonly dataSource: DataSource,
    private readonly watch: DatabaseWatch,
  ) {
    this.maxRunning = Math.floor((dataSource.options.poolSize ?? 2) / 2);
  }

  /**
   * Runs `work` in one transaction at READ COMMITTED: committed when it resolves, rolled back when it rejects.
   *
   * @returns what `work` resolves to, after COMMIT
   * @throws QueueFull where too many wait already
   */
  async run<T>(work: (transaction: EntityManager) => Promise<T>): Promise<T> {
    await this.turn();
    try {
      return await this.dataSource.transaction('READ COMMITTED', work);
    } catch (error) {
      if (isReadOnly(error)) this.watch.connectionsLeadAstray();
      throw error;
    } finally {
      // The turn is handed over, not given back: whoever comes in between must not take it as well.
      const next = this.waiting.shift();
      if (next === undefined) this.running -= 1;
      else next();
    }
  }

  /** The manager for reads that need no transaction. */
  get reader(): EntityManager {
    return this.dataSource.manager;
  }

  private async turn(): Promise<void> {
    if (this.running < this.maxRunning) {
      this.running += 1;
      return;
    }
    if (this.waiting.length >= MAX_WAITING) throw new QueueFull('transactions');
    await new Promise<void>((resolve) => this.waiting.push(resolve));
  }
}

import { SerialBatch, type BatchLimits, type BatchObserver, type Gathering, type Settled } from './serial-batch.js';
import { isLockTimeout, isRowFault } from './sql-errors.js';

/**
 * Writes that are committed together: concurrent items are gathered while one flush runs, and one flush is one
 * transaction (one call of a function in the database). An item's promise resolves only after its flush has committed.
 *
 * A flush that the database refused for a reason that lies in a row is tried again item by item, so that one bad item
 * fails alone. Where it waited for a lock in vain, it is tried again lock by lock, so that one locked tenant holds the
 * others up for two waits at most. A flush whose connection broke is not tried again, because it may have been committed: all its callers
 * get the error.
 */
export class GroupCommit<Item, Result> {
  private readonly batch: SerialBatch<Item, Result>;

  /**
   * @param name what the queue is called in metrics and errors
   * @param limits how much it may hold
   * @param flush commits the items in one transaction and gives a result for each, in order
   * @param lockOf names the lock that an item's write takes
   * @param observe told about each flush
   * @param gathering when a flush that could begin waits for more items; never unless given
   */
  constructor(
    name: string,
    limits: BatchLimits,
    private readonly flush: (items: readonly Item[]) => Promise<readonly Result[]>,
    private readonly lockOf: (item: Item) => string,
    observe?: BatchObserver,
    gathering?: Gathering,
  ) {
    this.batch = new SerialBatch(name, limits, (items) => this.flushTogether(items), observe, gathering);
  }

  /** How many items wait for the next flush. */
  get depth(): number {
    return this.batch.depth;
  }

  /**
   * Hands `item` to the next flush.
   *
   * @returns its result, after COMMIT
   * @throws QueueFull, QueueClosed, or the database's error
   */
  commit(item: Item): Promise<Result> {
    return this.batch.add(item);
  }

  /** Takes nothing more and waits until all that was taken is committed or refused. */
  drain(): Promise<void> {
    return this.batch.drain();
  }

  private async flushTogether(items: readonly Item[]): Promise<readonly Settled<Result>[]> {
    try {
      return (await this.flush(items)).map((result) => ({ result }));
    } catch (error) {
      if (items.length === 1 || !isRowFault(error)) throw error;
      if (isLockTimeout(error)) return this.flushLockByLock(items, error);
    }
    const settled: Settled<Result>[] = [];
    for (const item of items) settled.push(await this.flushAlone(item));
    return settled;
  }

  /** One flush for each lock; where there is only one lock to wait for, it has been waited for already. */
  private async flushLockByLock(items: readonly Item[], error: unknown): Promise<readonly Settled<Result>[]> {
    const locks = [...new Set(items.map(this.lockOf))];
    if (locks.length === 1) throw error;
    const settled = new Map<Item, Settled<Result>>();
    for (const lock of locks) {
      const held = items.filter((item) => this.lockOf(item) === lock);
      const outcomes = await this.flushGroup(held);
      held.forEach((item, index) => settled.set(item, outcomes[index] ?? { error }));
    }
    return items.map((item) => settled.get(item) ?? { error });
  }

  private async flushGroup(items: readonly Item[]): Promise<readonly Settled<Result>[]> {
    try {
      return (await this.flush(items)).map((result) => ({ result }));
    } catch (error) {
      return items.map(() => ({ error }));
    }
  }

  private async flushAlone(item: Item): Promise<Settled<Result>> {
    try {
      const results = await this.flush([item]);
      // Not the result itself is asked: it may be undefined where a flush has nothing to say.
      if (results.length !== 1) throw new Error('a flush gave no result for its item');
      return { result: results[0] as Result };
    } catch (error) {
      return { error };
    }
  }
}

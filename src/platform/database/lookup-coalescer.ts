import { SerialBatch, type BatchLimits, type BatchObserver, type Gathering } from './serial-batch.js';

/**
 * Reads of shared state that are asked together: keys that arrive while a query is under way share the next one. Every
 * key is read by a query that started after the key was handed in, so no caller gets a state from before its request.
 */
export class LookupCoalescer<Key, Value> {
  private readonly batch: SerialBatch<Key, Value>;

  /**
   * @param name what the queue is called in metrics and errors
   * @param limits how much it may hold
   * @param read reads all keys in one query and gives a value for each, in order
   * @param observe told about each query
   * @param gathering when a query that could begin waits for more keys; never unless given
   */
  constructor(
    name: string,
    limits: BatchLimits,
    read: (keys: readonly Key[]) => Promise<readonly Value[]>,
    observe?: BatchObserver,
    gathering?: Gathering,
  ) {
    this.batch = new SerialBatch(
      name,
      limits,
      async (keys) => (await read(keys)).map((result) => ({ result })),
      observe,
      gathering,
    );
  }

  /** How many keys wait for the next query. */
  get depth(): number {
    return this.batch.depth;
  }

  /**
   * Reads the state under `key`.
   *
   * @throws QueueFull, QueueClosed, or the database's error
   */
  read(key: Key): Promise<Value> {
    return this.batch.add(key);
  }

  /** Takes nothing more and waits until all that was asked is answered. */
  drain(): Promise<void> {
    return this.batch.drain();
  }
}

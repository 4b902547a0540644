import { SerialBatch, type BatchLimits, type BatchObserver, type Gathering } from './serial-batch.js';

/**
 * Reads of shared state that are asked together: keys that arrive while a query is under way share the next one. Every
 * key is read by a query that started after the key was handed in, so no caller gets a state from before its request.
 * Keys of one query that ask the same are read once, and their callers share the value.
 */
export class LookupCoalescer<Key, Value> {
  private readonly batch: SerialBatch<Key, Value>;

  /**
   * @param name what the queue is called in metrics and errors
   * @param limits how much it may hold
   * @param read reads all keys in one query and gives a value for each, in order
   * @param observe told about each query
   * @param gathering when a query that could begin waits for more keys; never unless given
   * @param identityOf what two keys that ask the same have alike; the key itself unless given
   */
  constructor(
    name: string,
    limits: BatchLimits,
    read: (keys: readonly Key[]) => Promise<readonly Value[]>,
    observe?: BatchObserver,
    gathering?: Gathering,
    identityOf: (key: Key) => unknown = (key) => key,
  ) {
    const run = async (keys: readonly Key[]) => {
      const { distinct, places } = withoutRepeats(keys, identityOf);
      const values = (await read(distinct)).map((result) => ({ result }));
      return places.map((place) => values[place] ?? { error: new Error(`the queue ${name} lost a value`) });
    };
    this.batch = new SerialBatch(name, limits, run, observe, gathering);
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

/** The keys, each once, and for every key given its place among them. */
function withoutRepeats<Key>(
  keys: readonly Key[],
  identityOf: (key: Key) => unknown,
): { distinct: readonly Key[]; places: readonly number[] } {
  const placeOf = new Map<unknown, number>();
  const distinct: Key[] = [];
  const places = keys.map((key) => {
    const identity = identityOf(key);
    const known = placeOf.get(identity);
    if (known !== undefined) return known;
    placeOf.set(identity, distinct.length);
    return distinct.push(key) - 1;
  });
  return { distinct, places };
}

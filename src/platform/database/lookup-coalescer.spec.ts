import { describe, expect, it } from '@jest/globals';
import { LookupCoalescer } from './lookup-coalescer.js';
import { QueueClosed, QueueFull } from './serial-batch.js';

/** A query that goes on until the test answers it. */
interface Query {
  readonly keys: readonly string[];
  answer(state: string): void;
  fail(error: Error): void;
}

/** A coalescer whose queries the test sees and answers. */
function lookups(limits = { maxQueue: 100, maxBatch: 100 }) {
  const queries: Query[] = [];
  const observed: number[] = [];
  const coalescer = new LookupCoalescer<string, string>(
    'states',
    limits,
    (keys) =>
      new Promise((resolve, reject) => {
        queries.push({ keys: [...keys], answer: (state) => resolve(keys.map((key) => key + state)), fail: reject });
      }),
    (size) => observed.push(size),
  );
  /** The query with a number, from 0; waits for it. */
  const query = async (index: number): Promise<Query> => {
    for (;;) {
      const found = queries[index];
      if (found !== undefined) return found;
      await Promise.resolve();
    }
  };
  return { coalescer, queries, query, observed };
}

describe('a lookup coalescer', () => {
  it('asks at once when idle, and together for what is asked together, for each key once', async () => {
    const { coalescer, query, observed } = lookups();
    const answers = ['a', 'b', 'a'].map((key) => coalescer.read(key));
    const only = await query(0);
    expect(only.keys).toEqual(['a', 'b']);
    only.answer('=1');
    expect(await Promise.all(answers)).toEqual(['a=1', 'b=1', 'a=1']);
    await coalescer.drain();
    expect(observed).toEqual([3]);
  });

  it('reads keys once that ask the same by what they have alike', async () => {
    const queries: string[][] = [];
    const coalescer = new LookupCoalescer<string, string>(
      'states',
      { maxQueue: 100, maxBatch: 100 },
      async (keys) => {
        queries.push([...keys]);
        return keys.map((key) => `${key}!`);
      },
      undefined,
      undefined,
      (key) => key.toLowerCase(),
    );
    expect(await Promise.all(['b', 'A', 'B', 'a'].map((key) => coalescer.read(key)))).toEqual(['b!', 'A!', 'b!', 'A!']);
    expect(queries).toEqual([['b', 'A']]);
  });

  it('fails a key that a query has no value for', async () => {
    const coalescer = new LookupCoalescer<string, string>('states', { maxQueue: 9, maxBatch: 9 }, async () => ['1']);
    const [first, second, third] = await Promise.allSettled(['a', 'b', 'a'].map((key) => coalescer.read(key)));
    expect([first, third]).toEqual(Array(2).fill({ status: 'fulfilled', value: '1' }));
    expect(second).toMatchObject({ status: 'rejected' });
  });

  it('reads a key that is handed in while a query is under way with the next query, never with that one', async () => {
    const { coalescer, queries, query } = lookups();
    const before = coalescer.read('a');
    await query(0);
    const after = coalescer.read('a');
    expect(queries).toHaveLength(1);
    expect(coalescer.depth).toBe(1);
    queries[0]?.answer('=old');
    expect(await before).toBe('a=old');
    expect((await query(1)).keys).toEqual(['a']);
    queries[1]?.answer('=new');
    expect(await after).toBe('a=new');
  });

  it('fails exactly the keys of a query that fails', async () => {
    const { coalescer, query } = lookups();
    const lost = Promise.allSettled([coalescer.read('a'), coalescer.read('b')]);
    const failing = await query(0);
    const next = coalescer.read('c');
    failing.fail(new Error('gone'));
    for (const outcome of await lost) expect(outcome).toMatchObject({ status: 'rejected' });
    (await query(1)).answer('=1');
    expect(await next).toBe('c=1');
  });

  it('is bounded, and closes when drained', async () => {
    const { coalescer, query } = lookups({ maxQueue: 1, maxBatch: 1 });
    const first = coalescer.read('a');
    await query(0);
    const second = coalescer.read('b');
    await expect(coalescer.read('c')).rejects.toBeInstanceOf(QueueFull);
    const drained = coalescer.drain();
    await expect(coalescer.read('d')).rejects.toBeInstanceOf(QueueClosed);
    (await query(0)).answer('=1');
    (await query(1)).answer('=2');
    await drained;
    expect(await Promise.all([first, second])).toEqual(['a=1', 'b=2']);
  });
});

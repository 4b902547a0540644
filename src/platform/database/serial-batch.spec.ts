import { describe, expect, it } from '@jest/globals';
import { QueueClosed, QueueFull, SerialBatch, type Gathering, type Settled } from './serial-batch.js';

/** One run of the queue, which goes on until the test ends it. */
interface Run {
  readonly items: readonly string[];
  end(settled?: readonly Settled<string>[]): void;
  fail(error: Error): void;
}

/** A queue whose runs the test sees and ends. */
function queue(limits: { maxQueue?: number; maxBatch?: number; gathering?: Gathering } = {}) {
  const runs: Run[] = [];
  const observed: { size: number; seconds: number }[] = [];
  let active = 0;
  const batch = new SerialBatch<string, string>(
    'letters',
    { maxQueue: limits.maxQueue ?? 100, maxBatch: limits.maxBatch ?? 100 },
    (items) => {
      active += 1;
      expect(active).toBe(1);
      return new Promise((resolve, reject) => {
        runs.push({
          items,
          end: (settled = items.map((item) => ({ result: item.toUpperCase() }))) => {
            active -= 1;
            resolve(settled);
          },
          fail: (error) => {
            active -= 1;
            reject(error);
          },
        });
      });
    },
    (size, seconds) => observed.push({ size, seconds }),
    limits.gathering,
  );
  /** The run with a number, from 0; waits for it. */
  const run = async (index: number): Promise<Run> => {
    for (;;) {
      const found = runs[index];
      if (found !== undefined) return found;
      await Promise.resolve();
    }
  };
  return { batch, runs, observed, run };
}

describe('a serial batch', () => {
  it('runs at once when idle, without a timer', async () => {
    const { batch, run, runs } = queue();
    const answer = batch.add('a');
    // A microtask is enough: no turn of the event loop passes.
    await Promise.resolve();
    expect(runs).toHaveLength(1);
    (await run(0)).end();
    expect(await answer).toBe('A');
  });

  it('gives what arrives in one turn to one run', async () => {
    const { batch, run } = queue();
    const answers = ['a', 'b', 'c'].map((item) => batch.add(item));
    const only = await run(0);
    expect(only.items).toEqual(['a', 'b', 'c']);
    only.end();
    expect(await Promise.all(answers)).toEqual(['A', 'B', 'C']);
  });

  it('gathers while one run is under way, keeps the order and runs one at a time', async () => {
    const { batch, run, runs } = queue();
    const first = batch.add('a');
    await run(0);
    const later = ['b', 'c', 'd'].map((item) => batch.add(item));
    expect(batch.depth).toBe(3);
    expect(runs).toHaveLength(1);
    runs[0]?.end();
    expect(await first).toBe('A');
    expect((await run(1)).items).toEqual(['b', 'c', 'd']);
    expect(batch.depth).toBe(0);
    runs[1]?.end();
    expect(await Promise.all(later)).toEqual(['B', 'C', 'D']);
    expect(runs).toHaveLength(2);
  });

  it('gives a run no more than it may take, and the rest to the next ones in order', async () => {
    const { batch, run } = queue({ maxBatch: 2 });
    const answers = ['a', 'b', 'c', 'd', 'e'].map((item) => batch.add(item));
    const sizes: string[][] = [];
    for (const index of [0, 1, 2]) {
      const under = await run(index);
      sizes.push([...under.items]);
      under.end();
    }
    expect(sizes).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    expect(await Promise.all(answers)).toEqual(['A', 'B', 'C', 'D', 'E']);
  });

  it('begins anew when something arrives as the last run ends', async () => {
    const { batch, run } = queue();
    const first = batch.add('a');
    (await run(0)).end();
    // Added from the very reaction to the first answer.
    const second = first.then(() => batch.add('b'));
    (await run(1)).end();
    expect(await second).toBe('B');
  });

  it('settles each item by itself', async () => {
    const { batch, run } = queue();
    const wrong = new Error('b is wrong');
    const answers = Promise.allSettled(['a', 'b', 'c'].map((item) => batch.add(item)));
    (await run(0)).end([{ result: 'A' }, { error: wrong }, { result: 'C' }]);
    expect(await answers).toEqual([
      { status: 'fulfilled', value: 'A' },
      { status: 'rejected', reason: wrong },
      { status: 'fulfilled', value: 'C' },
    ]);
  });

  it('fails exactly the items of a run that rejects, and goes on', async () => {
    const { batch, run } = queue();
    const lost = Promise.allSettled([batch.add('a'), batch.add('b')]);
    const failing = await run(0);
    const next = batch.add('c');
    failing.fail(new Error('gone'));
    expect(await lost).toEqual([
      { status: 'rejected', reason: new Error('gone') },
      { status: 'rejected', reason: new Error('gone') },
    ]);
    (await run(1)).end();
    expect(await next).toBe('C');
  });

  it('fails an item whose result its run forgot, instead of leaving its caller waiting', async () => {
    const { batch, run } = queue();
    const answers = Promise.allSettled(['a', 'b'].map((item) => batch.add(item)));
    (await run(0)).end([{ result: 'A' }]);
    expect(await answers).toMatchObject([
      { value: 'A' },
      { status: 'rejected', reason: { message: /lost the result/ } },
    ]);
  });

  it('takes a result that is undefined for a result', async () => {
    const batch = new SerialBatch<string, undefined>('void', { maxQueue: 1, maxBatch: 1 }, (items) =>
      Promise.resolve(items.map(() => ({ result: undefined }))),
    );
    expect(await batch.add('a')).toBeUndefined();
  });

  it('refuses with QueueFull what is over its limit, and takes again when there is room', async () => {
    const { batch, run } = queue({ maxQueue: 2 });
    const running = batch.add('a');
    await run(0);
    const waiting = [batch.add('b'), batch.add('c')];
    const refused = batch.add('d');
    await expect(refused).rejects.toBeInstanceOf(QueueFull);
    await expect(refused).rejects.toThrow('the queue letters is full');
    (await run(0)).end();
    await running;
    await run(1);
    const after = batch.add('e');
    (await run(1)).end();
    expect(await Promise.all(waiting)).toEqual(['B', 'C']);
    (await run(2)).end();
    expect(await after).toBe('E');
  });

  it('refuses with QueueClosed what comes after drain, and drain waits for all that was taken', async () => {
    const { batch, run } = queue({ maxBatch: 1 });
    const answers = ['a', 'b'].map((item) => batch.add(item));
    await run(0);
    let drained = false;
    const drain = batch.drain().then(() => (drained = true));
    await expect(batch.add('c')).rejects.toBeInstanceOf(QueueClosed);
    (await run(0)).end();
    await answers[0];
    const last = await run(1);
    expect(drained).toBe(false);
    last.end();
    await drain;
    expect(await Promise.all(answers)).toEqual(['A', 'B']);
  });

  it('drains at once when idle, and as often as asked, also when the last run fails', async () => {
    const { batch, run } = queue();
    const failed = expect(batch.add('a')).rejects.toThrow('gone');
    const drains = [batch.drain(), batch.drain()];
    (await run(0)).fail(new Error('gone'));
    await Promise.all([...drains, failed]);
    await batch.drain();
  });

  it('tells the observer of every run, of those that fail too', async () => {
    const { batch, run, observed } = queue({ maxBatch: 2 });
    const answers = Promise.allSettled(['a', 'b', 'c'].map((item) => batch.add(item)));
    (await run(0)).end();
    (await run(1)).fail(new Error('gone'));
    await answers;
    await batch.drain();
    expect(observed.map(({ size }) => size)).toEqual([2, 1]);
    for (const { seconds } of observed) expect(seconds).toBeGreaterThanOrEqual(0);
  });
});

describe('a serial batch that may gather', () => {
  /** Gathering is worthwhile up to so many items, and until the test says that it is not. */
  function gathered(enough: number) {
    let ended = false;
    let reconsider: () => void = () => undefined;
    const gathering: Gathering = {
      begin: () => (items) => !ended && items < enough,
      onChange: (listener) => (reconsider = listener),
    };
    return {
      ...queue({ gathering }),
      reconsider: () => reconsider(),
      end: () => {
        ended = true;
        reconsider();
      },
    };
  }

  async function turns(): Promise<void> {
    for (let n = 0; n < 20; n += 1) await Promise.resolve();
  }

  it('waits while that is worthwhile, and gives all to one run', async () => {
    const { batch, run, runs, end, reconsider } = gathered(10);
    const answers = [batch.add('a'), batch.add('b')];
    await turns();
    reconsider();
    answers.push(batch.add('c'));
    await turns();
    expect(runs).toHaveLength(0);
    end();
    (await run(0)).end();
    expect(await Promise.all(answers)).toEqual(['A', 'B', 'C']);
    expect(runs).toHaveLength(1);
  });

  it('waits no longer when it has enough', async () => {
    const { batch, run } = gathered(3);
    const answers = ['a', 'b', 'c'].map((item) => batch.add(item));
    (await run(0)).end();
    expect(await Promise.all(answers)).toEqual(['A', 'B', 'C']);
  });

  it('waits again after a run', async () => {
    const { batch, run, runs } = gathered(2);
    const first = [batch.add('a'), batch.add('b')];
    const opening = await run(0);
    const later = batch.add('c');
    opening.end();
    await Promise.all(first);
    await turns();
    expect(runs).toHaveLength(1);
    const last = batch.add('d');
    expect((await run(1)).items).toEqual(['c', 'd']);
    (await run(1)).end();
    expect(await Promise.all([later, last])).toEqual(['C', 'D']);
  });

  it('drains what it has gathered', async () => {
    const { batch, run, end } = gathered(10);
    const answer = batch.add('a');
    await turns();
    const drained = batch.drain();
    end();
    (await run(0)).end();
    await drained;
    expect(await answer).toBe('A');
  });
});

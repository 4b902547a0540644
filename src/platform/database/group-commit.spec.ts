import { describe, expect, it } from '@jest/globals';
import { GroupCommit } from './group-commit.js';
import { QueueClosed, QueueFull } from './serial-batch.js';

const LIMITS = { maxQueue: 100, maxBatch: 100 };

/** An error as `pg` throws it. */
function sqlError(code: string): Error {
  return Object.assign(new Error(`SQLSTATE ${code}`), { code, severity: 'ERROR' });
}

/** The first letter of an item names its lock. */
const lockOf = (item: string): string => item.charAt(0);

/** A group commit whose flush fails where `fault` says so, and notes what it was given. */
function committing(fault: (items: readonly string[]) => Error | null, limits = LIMITS) {
  const flushes: string[][] = [];
  const flush = async (items: readonly string[]): Promise<string[]> => {
    flushes.push([...items]);
    // A round trip to the database.
    await Promise.resolve();
    const error = fault(items);
    if (error !== null) throw error;
    return items.map((item) => item.toUpperCase());
  };
  const commits = new GroupCommit<string, string>('letters', limits, flush, lockOf);
  return { commits, flushes };
}

/** Fails every flush that `bad` is in. */
function poison(bad: string, error: Error) {
  return (items: readonly string[]) => (items.includes(bad) ? error : null);
}

describe('a group commit', () => {
  it('commits what comes together in one flush, and gives each caller its own result', async () => {
    const { commits, flushes } = committing(() => null);
    expect(await Promise.all(['a', 'b', 'c'].map((item) => commits.commit(item)))).toEqual(['A', 'B', 'C']);
    expect(flushes).toEqual([['a', 'b', 'c']]);
  });

  it.each(['21000', '22021', '22P05', '23503', '23505', '40P01', '40001', '55P03'])(
    'tries the items one by one after SQLSTATE %s, in order, so that a bad one fails alone',
    async (code) => {
      const { commits, flushes } = committing(poison('b', sqlError(code)));
      const settled = await Promise.allSettled(['a', 'b', 'c'].map((item) => commits.commit(item)));
      expect(settled).toEqual([
        { status: 'fulfilled', value: 'A' },
        { status: 'rejected', reason: sqlError(code) },
        { status: 'fulfilled', value: 'C' },
      ]);
      expect(flushes).toEqual([['a', 'b', 'c'], ['a'], ['b'], ['c']]);
    },
  );

  it('lets every item succeed alone where only their meeting was the fault', async () => {
    const { commits } = committing((items) => (items.length > 1 ? sqlError('40P01') : null));
    expect(await Promise.all(['a', 'b'].map((item) => commits.commit(item)))).toEqual(['A', 'B']);
  });

  it('does not try a flush of one item again', async () => {
    const { commits, flushes } = committing(poison('a', sqlError('22021')));
    await expect(commits.commit('a')).rejects.toMatchObject({ code: '22021' });
    expect(flushes).toEqual([['a']]);
  });

  it.each<[string, Error]>([
    ['a connection that ended', new Error('Connection terminated unexpectedly')],
    ['a socket that was reset', Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })],
    ['a pipe that broke', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })],
    ['a session that the administrator ended', sqlError('57P01')],
    ['a server that crashed', sqlError('57P02')],
    ['a connection failure', sqlError('08006')],
    ['a statement that took too long', sqlError('57014')],
    ['a fault of the function itself', sqlError('42883')],
  ])('fails exactly the flush, and never sends it again, after %s', async (_name, error) => {
    let broken = true;
    const { commits, flushes } = committing(() => (broken ? error : null));
    const first = Promise.allSettled(['a', 'b', 'c'].map((item) => commits.commit(item)));
    for (const outcome of await first) expect(outcome).toEqual({ status: 'rejected', reason: error });
    expect(flushes).toEqual([['a', 'b', 'c']]);
    broken = false;
    expect(await commits.commit('d')).toBe('D');
    expect(flushes).toHaveLength(2);
  });

  it('fails only the item in whose own flush the connection is lost, and tries those that follow', async () => {
    const lost = new Error('Connection terminated unexpectedly');
    const { commits, flushes } = committing((items) => {
      if (items.length > 1) return sqlError('23505');
      return items[0] === 'b' ? lost : null;
    });
    const settled = await Promise.allSettled(['a', 'b', 'c'].map((item) => commits.commit(item)));
    expect(settled).toEqual([
      { status: 'fulfilled', value: 'A' },
      { status: 'rejected', reason: lost },
      { status: 'fulfilled', value: 'C' },
    ]);
    expect(flushes.filter((items) => items.includes('b'))).toEqual([['a', 'b', 'c'], ['b']]);
  });

  it('fails an item for which a flush gives no result', async () => {
    const flush = (items: readonly string[]): Promise<string[]> =>
      items.length > 1 ? Promise.reject(sqlError('22021')) : Promise.resolve([]);
    const commits = new GroupCommit<string, string>('forgetful', LIMITS, flush, lockOf);
    for (const outcome of await Promise.allSettled([commits.commit('a'), commits.commit('b')])) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { message: /no result/ } });
    }
  });

  it('takes results that are undefined for results, in retries too', async () => {
    const flush = (items: readonly string[]): Promise<undefined[]> =>
      items.length > 1 ? Promise.reject(sqlError('22021')) : Promise.resolve([undefined]);
    const commits = new GroupCommit<string, undefined>('silent', LIMITS, flush, lockOf);
    expect(await Promise.all([commits.commit('a'), commits.commit('b')])).toEqual([undefined, undefined]);
  });

  it('waits lock by lock where it waited in vain, so that a held lock costs the others one more wait at most', async () => {
    const { commits, flushes } = committing((items) =>
      items.some((item) => item.startsWith('b')) ? sqlError('55P03') : null,
    );
    const items = ['a1', 'b1', 'a2', 'b2', 'c1'];
    const outcomes = await Promise.allSettled(items.map((item) => commits.commit(item)));
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(flushes).toEqual([items, ['a1', 'a2'], ['b1', 'b2'], ['c1']]);
  });

  it('does not wait twice where all wait for one lock', async () => {
    const { commits, flushes } = committing(() => sqlError('55P03'));
    await Promise.allSettled(['b1', 'b2'].map((item) => commits.commit(item)));
    expect(flushes).toEqual([['b1', 'b2']]);
  });

  it('is bounded, and closes when drained', async () => {
    const { commits } = committing(() => null, { maxQueue: 2, maxBatch: 2 });
    const taken = [commits.commit('a'), commits.commit('b')];
    expect(commits.depth).toBe(2);
    await expect(commits.commit('c')).rejects.toBeInstanceOf(QueueFull);
    const drained = commits.drain();
    await expect(commits.commit('d')).rejects.toBeInstanceOf(QueueClosed);
    await drained;
    expect(await Promise.all(taken)).toEqual(['A', 'B']);
    expect(commits.depth).toBe(0);
  });

  it('counts a flush and its retries as one run', async () => {
    const sizes: number[] = [];
    const commits = new GroupCommit<string, string>(
      'observed',
      LIMITS,
      (items) => (items.length > 1 ? Promise.reject(sqlError('23505')) : Promise.resolve([...items])),
      lockOf,
      (size) => sizes.push(size),
    );
    await Promise.all(['a', 'b'].map((item) => commits.commit(item)));
    await commits.drain();
    expect(sizes).toEqual([2]);
  });
});

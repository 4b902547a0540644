import { describe, expect, it } from '@jest/globals';
import type { DataSource, EntityManager } from 'typeorm';
import type { DatabaseWatch } from './database-watch.js';
import { QueueFull } from './serial-batch.js';
import { UnitOfWork } from './unit-of-work.js';

/** Units of work of which one may run at a time, and whose transactions are nothing but their work. */
function oneAtATime(): UnitOfWork {
  const transaction = <T>(_isolation: string, work: (manager: EntityManager) => Promise<T>): Promise<T> =>
    work({} as EntityManager);
  return new UnitOfWork({ options: { poolSize: 2 }, transaction } as unknown as DataSource, {} as DatabaseWatch);
}

/** Work that goes on until it is told to end. */
function openEnded(): {
  readonly begun: () => boolean;
  work(): Promise<void>;
  end(): void;
  readonly ending: Promise<void>;
} {
  let end: () => void = () => undefined;
  let begun = false;
  const ending = new Promise<void>((resolve) => (end = resolve));
  const work = (): Promise<void> => {
    begun = true;
    return ending;
  };
  return { begun: () => begun, work, end: () => end(), ending };
}

describe('the turns of units of work', () => {
  it('go to whoever waits, and not to one that comes while a turn is handed over as well', async () => {
    const units = oneAtATime();
    const [first, second, third] = [openEnded(), openEnded(), openEnded()];
    const done = [units.run(first.work), units.run(second.work)];
    // In the same moment: after the first has ended, before the second has begun.
    const late = first.ending.then(() => units.run(third.work));
    first.end();
    await done[0];
    await new Promise(setImmediate);
    expect([second.begun(), third.begun()]).toEqual([true, false]);
    second.end();
    await done[1];
    await new Promise(setImmediate);
    expect(third.begun()).toBe(true);
    third.end();
    await late;
  });

  it('come back from work that fails', async () => {
    const units = oneAtATime();
    await expect(units.run(() => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(await units.run(() => Promise.resolve('done'))).toBe('done');
  });

  it('are waited for by 500, and refused to one more', async () => {
    const units = oneAtATime();
    const first = openEnded();
    const all = [units.run(first.work)];
    for (let number = 0; number < 500; number += 1) all.push(units.run(() => Promise.resolve()));
    await expect(units.run(() => Promise.resolve())).rejects.toThrow(QueueFull);
    first.end();
    await Promise.all(all);
  });
});

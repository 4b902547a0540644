import { describe, expect, it } from '@jest/globals';
import { CoalescedCalls } from './coalesced-calls.js';

/** Work that ends when the test says so. */
function openWork(): { begun: number; end: ((fail?: boolean) => void)[]; work: () => Promise<number> } {
  const open = {
    begun: 0,
    end: [] as ((fail?: boolean) => void)[],
    work: () => {
      open.begun += 1;
      const number = open.begun;
      return new Promise<number>((resolve, reject) => {
        open.end.push((fail = false) => (fail ? reject(new Error('failed')) : resolve(number)));
      });
    },
  };
  return open;
}

describe('shared calls', () => {
  it('share the one after the one under way, so that it begins after each of them', async () => {
    const calls = new CoalescedCalls<number>();
    const open = openWork();
    const first = calls.call('a', open.work);
    const others = Array.from({ length: 50 }, () => calls.call('a', open.work));
    expect(open.begun).toBe(1);
    open.end[0]?.();
    expect(await first).toBe(1);
    await Promise.resolve();
    const later = calls.call('a', open.work);
    open.end[1]?.();
    expect(new Set(await Promise.all(others))).toEqual(new Set([2]));
    open.end[2]?.();
    expect([await later, open.begun]).toEqual([3, 3]);
  });

  it('are apart for each key', async () => {
    const calls = new CoalescedCalls<number>();
    const open = openWork();
    const both = [calls.call('a', open.work), calls.call('b', open.work)];
    expect(open.begun).toBe(2);
    for (const end of open.end) end();
    expect(await Promise.all(both)).toEqual([1, 2]);
  });

  it('go on after one that failed', async () => {
    const calls = new CoalescedCalls<number>();
    const open = openWork();
    const first = calls.call('a', open.work);
    const second = calls.call('a', open.work);
    open.end[0]?.(true);
    await expect(first).rejects.toThrow('failed');
    await new Promise(setImmediate);
    open.end[1]?.();
    expect(await second).toBe(2);
  });
});

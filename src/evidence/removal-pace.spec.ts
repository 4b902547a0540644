import { describe, expect, it } from '@jest/globals';
import { setImmediate as turn } from 'node:timers/promises';
import { RemovalPace } from './removal-pace.js';

/** A pace whose time passes as it is told to, and the rests that it took. */
function paced(): { pace: RemovalPace; rests: number[]; takes: (ms: number) => () => Promise<number> } {
  const rests: number[] = [];
  let nowMs = 5000;
  const pace = new RemovalPace(
    () => nowMs,
    (ms) => {
      rests.push(ms);
      nowMs += ms;
      return Promise.resolve();
    },
  );
  return {
    pace,
    rests,
    takes: (ms) => () => {
      nowMs += ms;
      return Promise.resolve(ms);
    },
  };
}

describe('the pace of removal', () => {
  it('takes a fifth of the time for quick batches, and half of it for slow ones', async () => {
    const { pace, rests, takes } = paced();
    for (const ms of [0, 10, 16, 30, 40, 50, 3000]) expect(await pace.spend(takes(ms))).toBe(ms);
    expect(rests).toEqual([0, 40, 64, 50, 40, 50, 3000]);
  });

  it('removes twice what three thousand tokens a second add, as long as a batch of 500 takes 40 ms or less', async () => {
    for (const ms of [1, 15.6, 25, 40]) {
      const { pace, rests, takes } = paced();
      await pace.spend(takes(ms));
      expect(500 / ((ms + (rests[0] ?? 0)) / 1000)).toBeGreaterThan(6000);
    }
  });

  it('ends a rest when it is stopped, and rests no more', async () => {
    let nowMs = 0;
    // A batch of ten seconds.
    const pace = new RemovalPace(() => (nowMs += 10_000));
    const resting = pace.spend(() => Promise.resolve(500));
    await turn();
    const stoppedAt = performance.now();
    pace.stop();
    expect(await resting).toBe(500);
    expect(performance.now() - stoppedAt).toBeLessThan(900);
    expect(pace.goesOn).toBe(false);
    const { pace: other, rests, takes } = paced();
    other.stop();
    await other.spend(takes(10));
    expect(rests).toEqual([]);
  });
});

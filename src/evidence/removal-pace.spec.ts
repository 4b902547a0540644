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
  it('takes a fifth of the time, however long a batch takes', async () => {
    const { pace, rests, takes } = paced();
    for (const ms of [10, 80, 0, 15]) expect(await pace.spend(takes(ms))).toBe(ms);
    expect(rests).toEqual([40, 320, 0, 60]);
  });

  it('rests a second at most', async () => {
    const { pace, rests, takes } = paced();
    await pace.spend(takes(30_000));
    expect(rests).toEqual([1000]);
  });

  it('removes at least twice what three thousand tokens a second add, at what a batch of 500 takes beside them', async () => {
    const { pace, rests, takes } = paced();
    // 32,000 events a second were measured without a rest: 15.6 ms a batch.
    const batchMs = 15.6;
    await pace.spend(takes(batchMs));
    expect(500 / ((batchMs + (rests[0] ?? 0)) / 1000)).toBeGreaterThan(6000);
  });

  it('ends a rest when it is stopped, and rests no more', async () => {
    let nowMs = 0;
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

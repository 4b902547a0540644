import { describe, expect, it } from '@jest/globals';
import { InFlightBound } from './in-flight-bound.js';

/** A bound whose requests take as long as the test says. */
function boundOf(limits = { start: 10, least: 4, most: 40 }) {
  let nowMs = 1000;
  const bound = new InFlightBound('things', limits, () => nowMs);
  return {
    bound,
    pass: (ms: number) => void (nowMs += ms),
    /** As many requests at once as are let in, all answered after `ms`. */
    burst: (ms: number) => {
      const begun: number[] = [];
      while (!bound.refuses()) begun.push(bound.enter());
      // One stays, so that there is always something under way.
      nowMs += ms;
      for (const beganMs of begun.slice(1)) bound.leave(beganMs);
      return () => bound.leave(begun[0] ?? 0);
    },
  };
}

describe('InFlightBound', () => {
  it('refuses what is over the bound, and lets in again as soon as somebody leaves', () => {
    const { bound } = boundOf({ start: 2, least: 2, most: 2 });
    const first = bound.enter();
    bound.enter();
    expect(bound.refuses()).toBe(true);
    bound.leave(first);
    expect(bound.refuses()).toBe(false);
    expect(bound.inFlight).toBe(1);
  });

  it('falls while requests take too long, but not below the least', () => {
    const { bound, burst } = boundOf();
    bound.enter();
    burst(1000);
    expect(bound.limit).toBe(8);
    for (let n = 0; n < 10; n += 1) burst(1000)();
    expect(bound.limit).toBe(4);
  });

  it('rises while they are fast and the bound is reached, but not above the most', () => {
    const { bound, burst } = boundOf();
    bound.enter();
    burst(100)();
    expect(bound.limit).toBe(26);
    for (let n = 0; n < 10; n += 1) burst(100)();
    expect(bound.limit).toBe(40);
  });

  it('does not rise where nobody reaches it', () => {
    const { bound, pass } = boundOf();
    bound.enter();
    for (let n = 0; n < 10; n += 1) {
      const beganMs = bound.enter();
      pass(100);
      bound.leave(beganMs);
    }
    expect(bound.limit).toBe(10);
  });

  it('begins anew when nothing is under way', () => {
    const { bound, burst } = boundOf();
    const kept = bound.enter();
    for (let n = 0; n < 10; n += 1) burst(1000)();
    bound.leave(kept);
    expect(bound.inFlight).toBe(0);
    bound.enter();
    expect(bound.limit).toBe(10);
  });

  it('is overloaded for a second after a refusal', () => {
    const { bound, pass } = boundOf({ start: 1, least: 1, most: 1 });
    expect(bound.isOverloaded).toBe(false);
    bound.enter();
    expect(bound.isOverloaded).toBe(false);
    expect(bound.refuses()).toBe(true);
    pass(999);
    expect(bound.isOverloaded).toBe(true);
    pass(1);
    expect(bound.isOverloaded).toBe(false);
  });
});

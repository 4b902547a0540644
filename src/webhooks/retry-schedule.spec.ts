import { describe, expect, it } from '@jest/globals';
import { JITTER, nextAttemptMs, RETRY_SECONDS, retryAfterMs } from './retry-schedule.js';

describe('the schedule of retries', () => {
  it('waits as long as it promises, give or take the jitter, and then gives up', () => {
    for (const [index, seconds] of RETRY_SECONDS.entries()) {
      const waits = Array.from({ length: 200 }, () => Number(nextAttemptMs(index + 1, 0, null)));
      expect(Math.min(...waits)).toBeGreaterThanOrEqual(seconds * 1000 * (1 - JITTER));
      expect(Math.max(...waits)).toBeLessThanOrEqual(seconds * 1000 * (1 + JITTER));
      expect(new Set(waits).size).toBeGreaterThan(50);
    }
    expect(nextAttemptMs(RETRY_SECONDS.length + 1, 0, null)).toBeNull();
  });

  it('waits longer where the receiver asks for it, for a day at most', () => {
    expect(nextAttemptMs(1, 1000, 60_000)).toBe(61_000);
    expect(nextAttemptMs(1, 0, 1)).toBeGreaterThan(4000);
    expect(nextAttemptMs(1, 0, 1e12)).toBe(86_400_000);
  });

  it.each([
    ['120', 120_000],
    ['0', 0],
    ['Thu, 01 Jan 1970 00:01:00 GMT', 60_000],
    ['Wed, 31 Dec 1969 23:59:00 GMT', 0],
    ['-1', null],
    ['1.5', null],
    ['soon', null],
    ['1e9', null],
    [undefined, null],
  ])('reads Retry-After %s as %s', (header, expected) => expect(retryAfterMs(header, 0)).toBe(expected));
});

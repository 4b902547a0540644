import { describe, expect, it } from '@jest/globals';
import { isUuid, uuidv7 } from './uuid.js';

describe('uuidv7', () => {
  it('is a UUID of version 7 and variant 10, as RFC 9562 section 5.7 lays it out', () => {
    expect(uuidv7(Date.UTC(2026, 10, 28))).toMatch(
      /^01a[0-9a-f]{5}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    expect(isUuid(uuidv7(0))).toBe(true);
  });

  it('carries the instant of the example of RFC 9562 appendix A.6 in its first 48 bits', () => {
    expect(uuidv7(0x017f22e279b0).slice(0, 13)).toBe('017f22e2-79b0');
  });

  it('sorts by time, and never repeats within an instant', () => {
    const ids = [1, 255, 256, 65_536, Date.UTC(2026, 0, 1)].map(uuidv7);
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(Array.from({ length: 10_000 }, () => uuidv7(1))).size).toBe(10_000);
  });
});

import { describe, expect, it } from '@jest/globals';
import { rotateUnderLoad } from './rotation-rounds.js';

describe('keys that are rotated in a loop under load, for a minute', () => {
  it('fail not one request', async () => {
    const { failures, rotations, requests, kids } = await rotateUnderLoad(60);
    expect(failures).toEqual([]);
    expect(rotations).toBeGreaterThanOrEqual(10);
    // All but perhaps the last have signed something.
    expect([rotations, rotations + 1]).toContain(kids);
    expect(requests).toBeGreaterThan(200);
  }, 150_000);
});

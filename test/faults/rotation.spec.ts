import { describe, expect, it } from '@jest/globals';
import { rotateUnderLoad } from './rotation-rounds.js';

describe('keys that are rotated in a loop under load', () => {
  it('fail not one request, of verifiers that keep the JWKS for its max-age, of introspections, of our own API', async () => {
    const { failures, rotations, requests, kids } = await rotateUnderLoad(7);
    expect(failures).toEqual([]);
    // One every four seconds: the max-age, and two for slow caches.
    expect(rotations).toBeGreaterThanOrEqual(2);
    // All but perhaps the last have signed something.
    expect([rotations, rotations + 1]).toContain(kids);
    expect(requests).toBeGreaterThan(20);
  });
});

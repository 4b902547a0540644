import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parsePublicJwk, type PublicKey } from '../platform/jws/public-key.js';
import { generateKeyPairSync } from 'node:crypto';
import type { PublishedKeys } from './key-documents.js';
import { RemoteKeySet } from './remote-key-set.js';

const key = parsePublicJwk(generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })) as PublicKey;

/** A partner that answers when it is told to, and a clock that stands where it is put. */
function partner() {
  const waiting: { resolve: (keys: PublishedKeys) => void; reject: (error: Error) => void }[] = [];
  const state = { nowMs: 1_000_000, fetches: 0 };
  const set = new RemoteKeySet(
    () => {
      state.fetches += 1;
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    () => state.nowMs,
  );
  return {
    state,
    set,
    answer: (maxAgeSeconds: number | null = null) => waiting.shift()?.resolve({ keys: [key], maxAgeSeconds }),
    fail: () => waiting.shift()?.reject(new Error('down')),
  };
}

describe('the keys that a partner publishes', () => {
  it('are fetched once for all who wait', async () => {
    const { set, state, answer } = partner();
    const asked = Promise.all(Array.from({ length: 100 }, () => set.keys(true)));
    answer();
    for (const keys of await asked) expect(keys).toEqual([key]);
    expect(state.fetches).toBe(1);
  });

  it('are asked for by no more than five hundred at a time', async () => {
    const { set, answer } = partner();
    const asked = Array.from({ length: 500 }, () => set.keys(true));
    await expect(set.keys(true)).rejects.toThrow('the queue partner_keys is full');
    answer();
    expect((await Promise.all(asked)).length).toBe(500);
    expect(await set.keys(true)).toEqual([key]);
  });

  it('are not fetched for whoever may not', async () => {
    const { set, state, answer } = partner();
    expect(await set.keys(false)).toBeNull();
    expect(state.fetches).toBe(0);
    const asked = set.keys(true);
    answer();
    await asked;
    expect(await set.keys(false)).toEqual([key]);
  });

  it('are forgotten an hour after they ceased to be fresh, where the partner stays down', async () => {
    const { set, state, answer, fail } = partner();
    const first = set.keys(true);
    answer(60);
    await first;
    state.nowMs += 60_000;
    const second = set.keys(true);
    fail();
    expect(await second).toEqual([key]);
    state.nowMs += 3_599_999;
    const third = set.keys(true);
    fail();
    expect(await third).toEqual([key]);
    state.nowMs += 1;
    expect(await set.keys(true)).toBeNull();
  });

  it('are asked for again after a clock was set back', async () => {
    const { set, state, fail, answer } = partner();
    const first = set.keys(true);
    fail();
    expect(await first).toBeNull();
    state.nowMs -= 500_000;
    const second = set.keys(true);
    answer();
    expect(await second).toEqual([key]);
  });

  it('cost a fetch every half minute at most, whatever is asked and whatever is answered', async () => {
    const step = fc.record({
      waitMs: fc.integer({ min: 0, max: 90_000 }),
      forged: fc.boolean(),
      fails: fc.boolean(),
      maxAge: fc.option(fc.integer({ min: 0, max: 10_000_000 })),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { set, state, answer, fail } = partner();
        const began: number[] = [];
        for (const { waitMs, forged, fails, maxAge } of steps) {
          state.nowMs += waitMs;
          const before = state.fetches;
          const asked = forged ? set.newerKeys() : set.keys(true);
          if (state.fetches > before) began.push(state.nowMs);
          if (fails) fail();
          else answer(maxAge);
          await asked;
        }
        expect(state.fetches).toBe(began.length);
        for (const [index, at] of began.entries()) {
          if (index > 0) expect(at - (began[index - 1] ?? 0)).toBeGreaterThanOrEqual(30_000);
        }
      }),
    );
  });
});

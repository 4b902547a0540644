import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parsePublicJwk, type PublicKey } from '../platform/jws/public-key.js';
import { generateKeyPairSync } from 'node:crypto';
import type { PublishedKeys } from './key-documents.js';
import { Places } from './places.js';
import { RemoteKeySet } from './remote-key-set.js';

const key = parsePublicJwk(generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })) as PublicKey;

const plenty = () => ({ fetches: new Places(50), waiters: new Places(1000) });

/** A partner that answers when it is told to, and a clock that stands where it is put. */
function partner(shared = plenty()) {
  const waiting: { resolve: (keys: PublishedKeys) => void; reject: (error: Error) => void }[] = [];
  const state = { nowMs: 1_000_000, fetches: 0 };
  const set = new RemoteKeySet(
    () => {
      state.fetches += 1;
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    () => state.nowMs,
    shared,
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
    const asked = Promise.all(Array.from({ length: 60 }, () => set.keys(true)));
    answer();
    for (const keys of await asked) expect(keys).toEqual([key]);
    expect(state.fetches).toBe(1);
  });

  it('are waited for by no more than 64 at a time, where none are known', async () => {
    const { set, state, answer } = partner();
    const asked = Array.from({ length: 64 }, () => set.keys(true));
    await expect(set.keys(true)).rejects.toThrow('the queue partner_keys is full');
    answer();
    expect((await Promise.all(asked)).length).toBe(64);
    expect(await set.keys(true)).toEqual([key]);
    // Whoever waited has given the place back.
    state.nowMs += 3_900_000;
    const again = Array.from({ length: 64 }, () => set.keys(true));
    answer();
    expect((await Promise.all(again)).length).toBe(64);
  });

  it('are waited for by 16 at a time for a kid that is not known; the others are told at once that it is not', async () => {
    const { set, state, answer } = partner();
    const first = set.keys(true);
    answer();
    await first;
    state.nowMs += 30_000;
    const asked = Array.from({ length: 16 }, () => set.newerKeys());
    for (let count = 0; count < 100; count += 1) expect(await set.newerKeys()).toBeNull();
    // Whoever has a key that is known waits for nobody.
    expect(await set.keys(true)).toEqual([key]);
    answer();
    for (const newer of await Promise.all(asked)) expect(newer).toEqual([key]);
    expect(state.fetches).toBe(2);
  });

  it('of partners that hang are waited for by so many in all, and others go on with what they know', async () => {
    const shared = { fetches: new Places(3), waiters: new Places(5) };
    const [hanging, cold, stale, fresh] = [partner(shared), partner(shared), partner(shared), partner(shared)];
    for (const known of [stale, fresh]) {
      const asked = known.set.keys(true);
      known.answer();
      await asked;
    }
    stale.state.nowMs += 300_000;
    const held = Array.from({ length: 5 }, () => hanging.set.keys(true));
    expect(await stale.set.keys(true)).toEqual([key]);
    expect(await fresh.set.keys(true)).toEqual([key]);
    await expect(cold.set.keys(true)).rejects.toThrow('the queue partner_keys is full');
    hanging.fail();
    expect(await Promise.all(held)).toEqual([null, null, null, null, null]);
    // That it found no place was no fetch: nothing cools down.
    const asked = cold.set.keys(true);
    cold.answer();
    expect(await asked).toEqual([key]);
  });

  it('are fetched from so many partners at a time, and one that finds no place may ask again at once', async () => {
    const shared = { fetches: new Places(1), waiters: new Places(100) };
    const [hanging, next] = [partner(shared), partner(shared)];
    const held = hanging.set.keys(true);
    await expect(next.set.keys(true)).rejects.toThrow('the queue partner_keys is full');
    expect(next.state.fetches).toBe(0);
    hanging.fail();
    await held;
    const asked = next.set.keys(true);
    next.answer();
    expect(await asked).toEqual([key]);
  });

  it('keep nobody waiting who can do with the last ones, once the partner is known to be down', async () => {
    const { set, state, answer, fail } = partner();
    const first = set.keys(true);
    answer(60);
    await first;
    state.nowMs += 60_000;
    const second = set.keys(true);
    fail();
    await second;
    state.nowMs += 30_000;
    for (let count = 0; count < 100; count += 1) expect(await set.keys(true)).toEqual([key]);
    expect(state.fetches).toBe(3);
    answer(60);
    await new Promise((resolve) => setImmediate(resolve));
    // It is back: from now on its keys are asked for before they are used.
    state.nowMs += 60_000;
    let answered = false;
    const waiting = set.keys(true).then(() => (answered = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    answer(60);
    await waiting;
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

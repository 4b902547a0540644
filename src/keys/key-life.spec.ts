import { describe, expect, it } from '@jest/globals';
import { dueStep, isFull, MOST_RETIRED, removableFrom, usableFrom, type KeyLife } from './key-life.js';

const START = Date.parse('2026-01-01T00:00:00.000Z');
const after = (seconds: number): Date => new Date(START + seconds * 1000);
const DAY = 86_400;

function key(fields: Partial<KeyLife> = {}): KeyLife {
  return {
    kid: 'k',
    purpose: 'access_token',
    algorithm: 'RS256',
    phase: 'next',
    publishedAt: after(0),
    activatedAt: null,
    retiredAt: null,
    revokedAt: null,
    tokenTtlSeconds: 3600,
    jwksMaxAgeSeconds: 300,
    ...fields,
  };
}

const active = (fields: Partial<KeyLife> = {}): KeyLife => key({ phase: 'active', activatedAt: after(0), ...fields });

describe('a key that is published ahead', () => {
  it.each([
    [1, 3],
    [2, 4],
    [300, 330],
    [600, 660],
    [86_400, 86_460],
  ])('signs no sooner than its max-age of %d s and the lag of caches: %d s', (jwksMaxAgeSeconds, seconds) => {
    expect(usableFrom(key({ jwksMaxAgeSeconds }))).toEqual(after(seconds));
  });
});

describe('a key that signs no more', () => {
  it('of access tokens leaves with its last token, and two minutes for clocks that differ', () => {
    const retired = key({ phase: 'retired', retiredAt: after(10), tokenTtlSeconds: 900 });
    expect(removableFrom(retired)).toEqual(after(10 + 900 + 120));
  });

  it('of checkpoints stays', () => {
    expect(removableFrom(key({ phase: 'retired', retiredAt: after(10), purpose: 'audit' }))).toBeNull();
  });

  it('that was revoked is shown for a month', () => {
    expect(removableFrom(key({ phase: 'revoked', revokedAt: after(0) }))).toEqual(after(31 * DAY));
  });

  it.each(['next', 'active'] as const)('is not the one that is %s', (phase) => {
    expect(removableFrom(key({ phase, retiredAt: after(0) }))).toBeNull();
  });
});

describe('what is due', () => {
  const due = (keys: readonly KeyLife[], seconds: number, days = 90, algorithm: KeyLife['algorithm'] = 'RS256') =>
    dueStep(keys, 'access_token', algorithm, after(seconds), days);

  it.each<[string, KeyLife[], number, string | null]>([
    ['the first keys where there are none', [], 0, 'begin'],
    ['the first keys where one is left over', [key()], 0, 'begin'],
    ['a next key where there is none', [active()], 0, 'publish'],
    ['nothing on the day before', [active(), key()], 90 * DAY - 1, null],
    ['the rotation after 90 days', [active(), key()], 90 * DAY, 'activate'],
    [
      'nothing while the next key is not known to all',
      [active(), key({ publishedAt: after(90 * DAY) })],
      90 * DAY,
      null,
    ],
  ])('is %s', (_name, keys, seconds, step) => {
    expect(due(keys, seconds)).toBe(step);
  });

  it('is no rotation, however old the key, where none is asked for', () => {
    expect(due([active(), key()], 9000 * DAY, 0)).toBeNull();
  });

  it('is a next key of the algorithm that is asked for, and then the change to it, schedule or not', () => {
    expect(due([active(), key()], 10_000, 0, 'ES256')).toBe('republish');
    const next = key({ algorithm: 'ES256' });
    expect(due([active(), next], 329, 0, 'ES256')).toBeNull();
    expect(due([active(), next], 330, 0, 'ES256')).toBe('activate');
    expect(due([active({ algorithm: 'ES256' }), next], 330, 0, 'ES256')).toBeNull();
  });

  it('is nothing where the JWKS is full', () => {
    const retired = Array.from({ length: MOST_RETIRED.access_token }, () => key({ phase: 'retired' }));
    expect(isFull(retired, 'access_token')).toBe(true);
    expect(due([active(), key(), ...retired], 90 * DAY)).toBeNull();
    expect(due([active(), key(), ...retired.slice(1)], 90 * DAY)).toBe('activate');
  });
});

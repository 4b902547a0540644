import { describe, expect, it } from '@jest/globals';
import { isUsable, statusAt, type CredentialEntity, type CredentialStatus } from './credential.entity.js';

const at = (seconds: number): Date => new Date(Date.UTC(2026, 10, 22, 10, 0, seconds));

describe('a credential at an instant', () => {
  it.each<[CredentialStatus, number | null, number | null, number, CredentialStatus, boolean]>([
    // status, expiresAt, retiresAt, now, shown as, works
    ['active', null, null, 10, 'active', true],
    ['active', 11, null, 10, 'active', true],
    ['active', 10, null, 10, 'active', false],
    ['active', 9, null, 10, 'active', false],
    ['retiring', null, 11, 10, 'retiring', true],
    ['retiring', null, 10, 10, 'revoked', false],
    ['retiring', null, 9, 10, 'revoked', false],
    ['retiring', 10, 20, 10, 'retiring', false],
    ['revoked', null, null, 10, 'revoked', false],
    ['revoked', 20, 20, 10, 'revoked', false],
  ])(
    'that is %s, expires at %s and retires at %s is at %d %s, and works: %s',
    (status, expires, retires, now, shown, works) => {
      const credential = {
        status,
        expiresAt: expires === null ? null : at(expires),
        retiresAt: retires === null ? null : at(retires),
      };
      expect(statusAt(credential as CredentialEntity, at(now))).toBe(shown);
      expect(isUsable(credential, at(now))).toBe(works);
    },
  );
});

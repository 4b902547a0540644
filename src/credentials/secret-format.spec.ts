import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { crc32 } from 'node:zlib';
import { generateSecret, isWellFormedSecret, prefixOf } from './secret-format.js';

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const fromBase62 = (digits: string): bigint =>
  [...digits].reduce((value, digit) => value * 62n + BigInt(BASE62.indexOf(digit)), 0n);

describe('a generated secret', () => {
  const secrets = Array.from({ length: 500 }, generateSecret);

  it('is sas_, 43 digits of 256 random bits, and 6 of the CRC-32 of all before', () => {
    for (const secret of secrets) {
      expect(secret).toMatch(/^sas_[0-9A-Za-z]{49}$/);
      expect(fromBase62(secret.slice(4, 47)) < 2n ** 256n).toBe(true);
      expect(fromBase62(secret.slice(47))).toBe(BigInt(crc32(secret.slice(0, 47))));
      expect(isWellFormedSecret(secret)).toBe(true);
    }
  });

  it('is another each time, in every bit', () => {
    expect(new Set(secrets).size).toBe(secrets.length);
    for (let bit = 0n; bit < 256n; bit += 1n) {
      const ones = secrets.filter((secret) => (fromBase62(secret.slice(4, 47)) >> bit) & 1n).length;
      // 500 throws of a coin: seven standard deviations either side.
      expect(Math.abs(ones - 250)).toBeLessThan(80);
    }
  });

  it('is not well-formed any more where one character is another, or two change places', () => {
    const secret = generateSecret();
    const place = fc.nat({ max: secret.length - 1 });
    fc.assert(
      fc.property(place, fc.constantFrom(...BASE62), (at, digit) => {
        fc.pre(secret[at] !== digit);
        expect(isWellFormedSecret(secret.slice(0, at) + digit + secret.slice(at + 1))).toBe(false);
      }),
    );
    fc.assert(
      fc.property(place, (at) => {
        const [one = '', other = ''] = [secret[at], secret[at + 1]];
        fc.pre(other !== '' && one !== other);
        expect(isWellFormedSecret(secret.slice(0, at) + other + one + secret.slice(at + 2))).toBe(false);
      }),
    );
  });

  it('is nothing that callers invent', () => {
    fc.assert(fc.property(fc.string(), (text) => !isWellFormedSecret(text)));
    const secret = generateSecret();
    for (const text of ['', 'sas_', `${secret} `, ` ${secret}`, `${secret}\n`, secret.slice(1), secret.toUpperCase()]) {
      expect(isWellFormedSecret(text)).toBe(false);
    }
  });
});

describe('the prefix of a secret', () => {
  it('is the mark and eight digits of a generated one, which leaves 200 bits and more untold', () => {
    const secret = generateSecret();
    expect(prefixOf(secret)).toBe(secret.slice(0, 12));
    expect((secret.length - 6 - 12) * Math.log2(62)).toBeGreaterThan(200);
  });

  it('is four characters of one that the environment fixed', () => {
    expect(prefixOf('A-fixed-secret-of-the-environment')).toBe('A-fi');
  });

  it('begins every secret and is never all of one that is long enough to be a secret', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 32 }), (secret) => {
        expect(secret.startsWith(prefixOf(secret))).toBe(true);
        expect(prefixOf(secret).length).toBeLessThanOrEqual(12);
      }),
    );
  });
});

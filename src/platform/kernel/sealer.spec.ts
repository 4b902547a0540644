import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { randomBytes } from 'node:crypto';
import { SealBroken, Sealer } from './sealer.js';

describe('a sealed secret', () => {
  const key = randomBytes(32);
  const sealer = new Sealer(key);

  it('opens as it was, for the purpose that it was sealed for', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.string(), (secret, purpose) => {
        const sealed = sealer.seal(Buffer.from(secret), purpose);
        expect(sealer.open(sealed, purpose).equals(Buffer.from(secret))).toBe(true);
        expect(new Sealer(Buffer.from(key)).open(sealed, purpose).equals(Buffer.from(secret))).toBe(true);
      }),
    );
  });

  it('does not contain the secret, and is another each time', () => {
    const secret = randomBytes(32);
    const [one, other] = [sealer.seal(secret, 'p'), sealer.seal(secret, 'p')];
    expect(one.includes(secret)).toBe(false);
    expect(one.equals(other)).toBe(false);
    expect(one.subarray(33).equals(other.subarray(33))).toBe(false);
  });

  it('does not open where any bit of any byte is another', () => {
    const sealed = sealer.seal(Buffer.from('a secret of some length'), 'p');
    for (let at = 0; at < sealed.length; at += 1) {
      for (const mask of [0x01, 0x80, 0xff]) {
        const altered = Buffer.from(sealed);
        altered[at] = (altered[at] ?? 0) ^ mask;
        expect(() => sealer.open(altered, 'p')).toThrow(SealBroken);
      }
    }
  });

  it('does not open where it is cut or longer', () => {
    const sealed = sealer.seal(Buffer.from('secret'), 'p');
    for (let length = 0; length < sealed.length; length += 1) {
      expect(() => sealer.open(sealed.subarray(0, length), 'p')).toThrow(SealBroken);
    }
    expect(() => sealer.open(Buffer.concat([sealed, Buffer.of(0)]), 'p')).toThrow(SealBroken);
  });

  it('does not open for another purpose', () => {
    const sealed = sealer.seal(Buffer.from('secret'), 'signing-key:a');
    for (const purpose of ['signing-key:b', 'signing-key:a ', '', 'Signing-key:a']) {
      expect(() => sealer.open(sealed, purpose)).toThrow(SealBroken);
    }
  });

  it('does not open with another key, also where the key’s id is made to fit', () => {
    const other = new Sealer(randomBytes(32));
    const sealed = sealer.seal(Buffer.from('secret'), 'p');
    expect(() => other.open(sealed, 'p')).toThrow(SealBroken);
    const relabelled = Buffer.from(sealed);
    other.seal(Buffer.alloc(0), 'p').copy(relabelled, 1, 1, 5);
    expect(() => other.open(relabelled, 'p')).toThrow(SealBroken);
  });

  it('tells where it does not open what it is for and which variable is wrong, not what it holds', () => {
    const sealed = sealer.seal(Buffer.from('the-secret-itself'), 'secret-pepper');
    try {
      new Sealer(randomBytes(32)).open(sealed, 'secret-pepper');
      throw new Error('it opened');
    } catch (error) {
      expect((error as Error).message).toBe('the secret "secret-pepper" cannot be opened with this MASTER_KEY');
    }
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** What is no compact JWS of ours, made of one that is: whoever keeps a token apart by its text must be right to. */
describe('RFC 7515, JSON Web Signature', () => {
  let service: TestApp;
  let caller: string;
  let token: string;
  let parts: [string, string, string];

  beforeAll(async () => {
    service = await startTestApp();
    caller = await service.api.token(service.operator);
    token = await service.api.token(service.operator);
    parts = token.split('.') as [string, string, string];
    // Verified and remembered before anything that resembles it is shown.
    expect(await service.api.introspect(caller, token)).toMatchObject({ active: true });
  });
  afterAll(() => service.close());

  /** One bit of the last character that the bytes of the signature have no room for. */
  const spareBit = (text: string) => text.slice(0, -1) + (ALPHABET[ALPHABET.indexOf(text.slice(-1)) ^ 1] ?? '');
  const standard = (text: string) => text.replaceAll('-', '+').replaceAll('_', '/');
  /** A character whose low byte is that of the first one. */
  const lookAlike = (text: string) => String.fromCharCode(text.charCodeAt(0) + 0x100) + text.slice(1);
  const changedAt = (text: string, index: number) => {
    const at = index < 0 ? text.length + index : index;
    const other = text.charAt(at) === 'A' ? 'B' : 'A';
    return text.slice(0, at) + other + text.slice(at + 1);
  };

  it.each<[string, () => string]>([
    ['§3.1 one part', () => parts[0]],
    ['§3.1 two parts', () => `${parts[0]}.${parts[1]}`],
    ['§3.1 an empty signature', () => `${parts[0]}.${parts[1]}.`],
    ['§3.1 an empty header', () => `.${parts[1]}.${parts[2]}`],
    ['§3.1 an empty payload', () => `${parts[0]}..${parts[2]}`],
    ['§3.1 four parts', () => `${token}.${parts[2]}`],
    ['§3.1 five parts, as of a JWE', () => `${token}.x.y`],
    ['§3.1 a dot too many at the end', () => `${token}.`],
    ['§3.1 a dot too many at the beginning', () => `.${token}`],
    ['§3.1 doubled dots', () => parts.join('..')],
    ['§3.1 parts in another order', () => `${parts[1]}.${parts[0]}.${parts[2]}`],
    ['§2 padding', () => `${token}==`],
    [
      '§2 white space inside the signature',
      () => `${parts[0]}.${parts[1]}.${parts[2].slice(0, 8)} ${parts[2].slice(8)}`,
    ],
    [
      '§2 a line break inside the signature',
      () => `${parts[0]}.${parts[1]}.${parts[2].slice(0, 8)}\n${parts[2].slice(8)}`,
    ],
    ['§2 a line break behind the token', () => `${token}\n`],
    ['§2 a space before the token', () => ` ${token}`],
    ['§2 the standard alphabet', () => `${parts[0]}.${parts[1]}.${standard(parts[2])}+`],
    ['§2 spare bits in the last character of the signature', () => `${parts[0]}.${parts[1]}.${spareBit(parts[2])}`],
    ['§2 look-alikes beyond ASCII in the signature', () => `${parts[0]}.${parts[1]}.${lookAlike(parts[2])}`],
    ['§2 look-alikes beyond ASCII in the payload', () => `${parts[0]}.${lookAlike(parts[1])}.${parts[2]}`],
    ['§2 look-alikes beyond ASCII in the header', () => `${lookAlike(parts[0])}.${parts[1]}.${parts[2]}`],
    ['§5.2 a changed signature', () => `${parts[0]}.${parts[1]}.${changedAt(parts[2], 0)}`],
    ['§5.2 a changed payload', () => `${parts[0]}.${changedAt(parts[1], 10)}.${parts[2]}`],
    ['§5.2 a signature cut short', () => token.slice(0, -4)],
    ['§5.2 a signature with more behind it', () => `${token}AAAA`],
    [
      '§7.2.1 the general JSON serialization',
      () => JSON.stringify({ payload: parts[1], signatures: [{ protected: parts[0], signature: parts[2] }] }),
    ],
    [
      '§7.2.2 the flattened JSON serialization',
      () => JSON.stringify({ payload: parts[1], protected: parts[0], signature: parts[2] }),
    ],
  ])('%s is no token', async (_, forge) => {
    const forged = forge();
    expect(forged).not.toBe(token);
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    // Asked again: nothing wrong is remembered as right.
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    expect((await service.api.revoke(caller, forged)).text).toBe('{}');
    expect(await service.api.introspect(caller, token)).toMatchObject({ active: true });
  });

  it.each([
    ['§4.1.11 crit that names an extension nobody knows', { crit: ['x'], x: 1 }],
    ['§4.1.11 crit that is empty', { crit: [] }],
    ['§4.1.11 crit that is no array', { crit: 'exp' }],
    ['§4.1.11 crit that names what is not there', { crit: ['y'] }],
    ['§4.1.11 an unencoded payload (RFC 7797)', { crit: ['b64'], b64: false }],
    ['§4.1.1 no alg', { alg: undefined }],
    ['§4.1.1 an alg that is no string', { alg: ['RS256'] }],
    ['§4.1.4 no kid', { kid: undefined }],
    ['§4.1.4 a kid that is no string', { kid: { toString: 'x' } }],
    ['§4.1.4 a kid with a path', { kid: '../../../../dev/null' }],
    ['§4.1.4 a kid with SQL', { kid: "' OR 1=1 --" }],
    ['§4.1.4 a kid with a NUL', { kid: 'a\0b' }],
    ['§4.1.4 a kid of a property of every object', { kid: '__proto__' }],
  ])('%s is no token, even signed with our own key', async (_, header) => {
    const forged = jws({ ...headerOf(token), ...header }, claimsOf(token), rs256(signingKeyOf(service).privateKey));
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    expect((await service.api.call('GET', '/agents', forged)).status).toBe(401);
  });

  it.each(['null', '[]', '1', '"x"', '{', '', '\u0000', '{"alg":"RS256"', '[['.repeat(500)])(
    '§5.2 a header that is %j is no token',
    async (header) => {
      const forged = [Buffer.from(header).toString('base64url'), parts[1], parts[2]].join('.');
      expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    },
  );
});

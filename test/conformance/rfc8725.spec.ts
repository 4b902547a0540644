import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** Forgeries by somebody who has a real token and everything that is public, and a key of their own. */
describe('RFC 8725, JWT best current practices', () => {
  let service: TestApp;
  let caller: string;
  let token: string;
  const own = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const signedByOwn = rs256(own.privateKey);
  const ownJwk = own.publicKey.export({ format: 'jwk' });

  beforeAll(async () => {
    service = await startTestApp();
    caller = await service.api.token(service.operator);
    token = await service.api.token(service.operator);
    expect(await service.api.introspect(caller, token)).toMatchObject({ active: true });
  });
  afterAll(() => service.close());

  const publicKey = (): KeyObject => signingKeyOf(service).publicKey;
  const hmac = (secret: string | Buffer) => (input: string) => createHmac('sha256', secret).update(input).digest();
  const unsigned = () => Buffer.alloc(0);
  const spki = (type: 'pem' | 'der') =>
    type === 'pem'
      ? publicKey().export({ format: 'pem', type: 'spki' }).toString()
      : publicKey().export({ format: 'der', type: 'spki' });
  const pkcs1 = () => publicKey().export({ format: 'pem', type: 'pkcs1' }).toString();
  const withHeader = (header: object, signature = signedByOwn) =>
    jws({ ...headerOf(token), ...header }, claimsOf(token), signature);
  const withClaims = (claims: object) => {
    const [header = '', , signature = ''] = token.split('.');
    const payload = Buffer.from(JSON.stringify({ ...claimsOf(token), ...claims })).toString('base64url');
    return [header, payload, signature].join('.');
  };

  it.each<[string, () => string]>([
    ['§2.1 alg none, without a signature', () => withHeader({ alg: 'none' }, unsigned)],
    ['§2.1 alg None', () => withHeader({ alg: 'None' }, unsigned)],
    ['§2.1 alg NONE', () => withHeader({ alg: 'NONE' }, unsigned)],
    [
      '§2.1 alg nOnE with the real signature',
      () => withHeader({ alg: 'nOnE' }).replace(/[^.]*$/, token.split('.')[2] ?? ''),
    ],
    ['§2.1 alg empty', () => withHeader({ alg: '' }, unsigned)],
    ['§2.1 alg none, without a kid', () => jws({ alg: 'none', typ: 'JWT' }, claimsOf(token), unsigned)],
    ['§2.1 RS256 with an empty signature', () => withHeader({}, unsigned)],
    ['§2.1 HS256 keyed with the public key in PEM', () => withHeader({ alg: 'HS256' }, hmac(spki('pem')))],
    ['§2.1 HS256 keyed with the public key in DER', () => withHeader({ alg: 'HS256' }, hmac(spki('der')))],
    ['§2.1 HS256 keyed with the public key in PKCS #1', () => withHeader({ alg: 'HS256' }, hmac(pkcs1()))],
    [
      '§2.1 HS256 keyed with the JWK',
      () => withHeader({ alg: 'HS256' }, hmac(JSON.stringify(publicKey().export({ format: 'jwk' })))),
    ],
    [
      '§2.1 HS256 keyed with the modulus',
      () => withHeader({ alg: 'HS256' }, hmac(Buffer.from(publicKey().export({ format: 'jwk' }).n ?? '', 'base64url'))),
    ],
    ['§2.1 HS256 keyed with nothing', () => withHeader({ alg: 'HS256' }, hmac(''))],
    ['§2.1 HS256 keyed with the kid', () => withHeader({ alg: 'HS256' }, hmac(String(headerOf(token)['kid'])))],
    ['§3.1 another key under the same kid', () => withHeader({})],
    ['§3.1 another key under an unknown kid', () => withHeader({ kid: 'mine' })],
    ['§3.10 a jwk in the header', () => withHeader({ jwk: ownJwk })],
    [
      '§3.10 a jwk in the header under an unknown kid',
      () => withHeader({ jwk: { ...ownJwk, kid: 'mine' }, kid: 'mine' }),
    ],
    ['§3.10 a jku', () => withHeader({ jku: 'http://127.0.0.1:1/jwks.json' })],
    ['§3.10 an x5u', () => withHeader({ x5u: 'http://127.0.0.1:1/cert.pem' })],
    [
      '§3.10 an x5c',
      () => withHeader({ x5c: [own.publicKey.export({ format: 'der', type: 'spki' }).toString('base64')] }),
    ],
    ['§3.3 a changed sub', () => withClaims({ sub: '00000000-0000-4000-8000-000000000000' })],
    ['§3.3 a wider scope', () => withClaims({ scope: `${String(claimsOf(token)['scope'])} all` })],
    ['§3.3 a later exp', () => withClaims({ exp: Number(claimsOf(token)['exp']) + 3600 })],
    ['§3.3 another jti', () => withClaims({ jti: '00000000-0000-4000-8000-000000000000' })],
    ['§3.3 another generation', () => withClaims({ gen: '2.2.2' })],
    [
      '§3.8 another issuer and key',
      () => jws(headerOf(token), { ...claimsOf(token), iss: 'https://evil.example' }, signedByOwn),
    ],
  ])('%s is refused everywhere', async (_, forge) => {
    await expectRefused(forge());
  });

  it('§2.7 a token of another kind, signed with our own key, is refused', async () => {
    const key = rs256(signingKeyOf(service).privateKey);
    for (const typ of ['audit-checkpoint+jwt', 'revocation-receipt+jwt', 'logout+jwt', 'JWS', '', undefined, 1, null]) {
      await expectRefused(withHeader({ typ }, key));
    }
    // What no key of ours ever signed is refused by its claims, too.
    await expectRefused(jws(headerOf(token), { organizationId: 'x', sequence: 1 }, key));
  });

  it('§3.2 a token over 32 KiB is refused unread', async () => {
    const key = rs256(signingKeyOf(service).privateKey);
    const large = jws(headerOf(token), { ...claimsOf(token), fill: 'x'.repeat(30_000) }, key);
    expect(await service.api.introspect(caller, large)).toEqual({ active: false });
    expect(await service.api.introspect(caller, `${token}.${'x'.repeat(60_000)}`)).toEqual({ active: false });
  });

  async function expectRefused(forged: string): Promise<void> {
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    const used = await service.api.call('GET', '/agents', forged);
    expect([used.status, used.body['code']]).toEqual([401, 'invalid_token']);
    expect((await service.api.revoke(caller, forged)).text).toBe('{}');
    expect(await service.api.introspect(caller, token)).toMatchObject({ active: true });
  }
});

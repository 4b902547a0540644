import { constants, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { KeyRotationService } from '../../src/keys/key-rotation.service.js';
import type { AccessTokenClaims } from '../../src/tokens/access-token-claims.js';
import { TokenSigner } from '../../src/tokens/token-signer.js';
import { claimsOf } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const P256_ORDER = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';

const ALGORITHMS = [
  ['PS256', '§3.5'],
  ['ES256', '§3.4'],
  ['EdDSA', 'RFC 8037 §3.1'],
] as const;

describe.each(ALGORITHMS)('RFC 7518, signatures, by SIGNING_ALG=%s', (algorithm, section) => {
  let service: TestApp;
  /** Signs with RS256 on the same database, as before the setting was changed. */
  let before: TestApp;
  let earlier: string;
  let token: string;

  beforeAll(async () => {
    before = await startTestApp();
    earlier = await before.api.token(before.operator);
    service = await startTestApp({
      database: before.database,
      clock: before.clock,
      env: { SIGNING_ALG: algorithm, ISSUER: before.issuer },
    });
    // The key of the new algorithm signs once everybody has it.
    await publishedLongAgo(before.database);
    await service.app.get(KeyRotationService).advance();
    token = await service.api.token(before.operator);
  });
  afterAll(async () => {
    await service.close();
    await before.close();
  });

  it(`${section} signs with ${algorithm}, and jose verifies it through the JWKS over HTTP`, async () => {
    expect(headerOf(token)['alg']).toBe(algorithm);
    const jwks = createRemoteJWKSet(new URL('/.well-known/jwks.json', service.url));
    const expected = { issuer: service.issuer, audience: service.issuer, algorithms: [algorithm], typ: 'JWT' };
    const { payload, protectedHeader } = await jwtVerify(token, jwks, expected);
    expect(payload).toEqual(claimsOf(token));
    expect(protectedHeader).toEqual({ alg: algorithm, typ: 'JWT', kid: signingKeyOf(service).kid });
  });

  it(`${section} takes its tokens at our own API, introspection and revocation`, async () => {
    expect((await service.api.call('GET', '/agents', token)).status).toBe(200);
    const other = await service.api.token(before.operator);
    expect(await service.api.introspect(token, other)).toMatchObject({ active: true });
    await service.api.revoke(token, other);
    expect(await service.api.introspect(token, other)).toEqual({ active: false });
  });

  it(`${section} keeps tokens of the key before active, and a replica with the old setting takes the new ones`, async () => {
    expect(await service.api.introspect(token, earlier)).toMatchObject({ active: true });
    expect(await before.api.introspect(earlier, token)).toMatchObject({ active: true });
  });

  it(`${section} refuses another algorithm with the same key`, async () => {
    const { kid, privateKey } = signingKeyOf(service);
    const relabelled = (alg: string) => token.replace(/^[^.]*/, encoded({ alg, typ: 'JWT', kid }));
    const forged = ['RS256', 'PS256', 'ES256', 'EdDSA', 'none', 'HS256']
      .filter((alg) => alg !== algorithm)
      .map(relabelled);
    if (algorithm === 'PS256') forged.push(jws({ alg: 'RS256', typ: 'JWT', kid }, claimsOf(token), rs256(privateKey)));
    if (algorithm === 'ES256') {
      const der = (input: string) => sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'der' });
      forged.push(jws(headerOf(token), claimsOf(token), der));
    }
    for (const text of forged) {
      expect(await service.api.introspect(token, text)).toEqual({ active: false });
      expect((await service.api.call('GET', '/agents', text)).status).toBe(401);
    }
  });
});

describe('RFC 8725, signatures with ES256', () => {
  let service: TestApp;
  let token: string;

  beforeAll(async () => {
    service = await startTestApp({ env: { SIGNING_ALG: 'ES256' } });
    await publishedLongAgo(service.database);
    await service.app.get(KeyRotationService).advance();
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('§3.2 have a random value of their own each, also over the same claims', async () => {
    const signer = service.app.get(TokenSigner, { strict: false });
    const claims = claimsOf(token) as unknown as AccessTokenClaims;
    const signed = await Promise.all(Array.from({ length: 2000 }, () => signer.sign(claims)));
    // The first half, r, is the random value's image: one that came twice would give the private key away.
    const images = signed.map((each) => signatureOf(each.token).subarray(0, 32).toString('hex'));
    expect(new Set(images).size).toBe(2000);
  });

  it.each([
    ['zeros', Buffer.alloc(64)],
    ['r of zero', Buffer.concat([Buffer.alloc(32), Buffer.alloc(32, 1)])],
    ['s of zero', Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32)])],
    ['the order of the curve', Buffer.from(P256_ORDER.repeat(2), 'hex')],
  ])('§3.4 are refused where they are %s', async (_, forged) => {
    const text = token.replace(/[^.]*$/, forged.toString('base64url'));
    expect(await service.api.introspect(token, text)).toEqual({ active: false });
    expect((await service.api.call('GET', '/agents', text)).status).toBe(401);
  });
});

describe('RFC 7518, signatures, by default', () => {
  let service: TestApp;
  let token: string;

  beforeAll(async () => {
    service = await startTestApp();
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('§3.3 signs with RS256, and jose verifies it through the JWKS over HTTP', async () => {
    const jwks = createRemoteJWKSet(new URL('/.well-known/jwks.json', service.url));
    const expected = { issuer: service.issuer, audience: service.issuer, algorithms: ['RS256'] };
    expect((await jwtVerify(token, jwks, expected)).payload).toEqual(claimsOf(token));
  });

  it('§3.5 refuses PS256 and RS512 with the key of RS256', async () => {
    const { kid, privateKey } = signingKeyOf(service);
    const pss = (input: string) =>
      sign('sha256', Buffer.from(input), {
        key: privateKey,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
      });
    const rs512 = (input: string) => sign('sha512', Buffer.from(input), privateKey);
    for (const forged of [
      jws({ alg: 'PS256', typ: 'JWT', kid }, claimsOf(token), pss),
      jws({ alg: 'RS256', typ: 'JWT', kid }, claimsOf(token), pss),
      jws({ alg: 'RS512', typ: 'JWT', kid }, claimsOf(token), rs512),
      jws({ alg: 'RS256', typ: 'JWT', kid }, claimsOf(token), rs512),
    ]) {
      expect(await service.api.introspect(token, forged)).toEqual({ active: false });
    }
  });
});

function signatureOf(token: string): Buffer {
  return Buffer.from(token.split('.')[2] ?? '', 'base64url');
}

function encoded(header: object): string {
  return Buffer.from(JSON.stringify(header)).toString('base64url');
}

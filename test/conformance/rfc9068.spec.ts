import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { claimsOf } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

describe('RFC 9068, the JWT profile for access tokens, by ACCESS_TOKEN_TYP=at+jwt', () => {
  let service: TestApp;
  let token: string;

  beforeAll(async () => {
    service = await startTestApp({ env: { ACCESS_TOKEN_TYP: 'at+jwt' } });
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('§2.1 names the type at+jwt in the header, and never the algorithm none', () => {
    expect(headerOf(token)).toMatchObject({ typ: 'at+jwt', alg: 'RS256' });
  });

  it('§2.2 has every required claim', () => {
    expect(claimsOf(token)).toMatchObject({
      iss: service.issuer,
      aud: service.issuer,
      sub: service.operator.clientId,
      client_id: service.operator.clientId,
      exp: expect.any(Number),
      iat: expect.any(Number),
      jti: expect.any(String),
    });
  });

  it('§4 verifies through the JWKS, with issuer, audience and type', async () => {
    const jwks = createRemoteJWKSet(new URL('/.well-known/jwks.json', service.url));
    const expected = { issuer: service.issuer, audience: service.issuer, typ: 'at+jwt' };
    const { payload } = await jwtVerify(token, jwks, expected);
    expect(payload.sub).toBe(service.operator.clientId);
  });

  it('§4 works at our own API, introspection and revocation', async () => {
    expect((await service.api.call('GET', '/agents', token)).status).toBe(200);
    const other = await service.api.token(service.operator);
    expect(await service.api.introspect(token, other)).toMatchObject({ active: true });
    await service.api.revoke(token, other);
    expect(await service.api.introspect(token, other)).toEqual({ active: false });
  });

  it('§4 takes the type as a full media type, and tokens from before the setting was changed', async () => {
    const key = rs256(signingKeyOf(service).privateKey);
    for (const typ of ['application/at+jwt', 'AT+JWT', 'JWT']) {
      const same = jws({ ...headerOf(token), typ }, claimsOf(token), key);
      expect((await service.api.call('GET', '/agents', same)).status).toBe(200);
    }
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** Claims are checked one by one, even where our own key signed them. */
describe('RFC 7519, JSON Web Token', () => {
  let service: TestApp;
  let caller: string;
  let token: string;

  beforeAll(async () => {
    service = await startTestApp();
    caller = await service.api.token(service.operator);
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  const signed = (payload: object | string) => jws(headerOf(token), payload, rs256(signingKeyOf(service).privateKey));
  const now = () => Math.floor(service.clock.nowMs() / 1000);

  it('takes a token that is the same but for the order of its claims', async () => {
    const reordered = Object.fromEntries(Object.entries(claimsOf(token)).reverse());
    expect(await service.api.introspect(caller, signed(reordered))).toMatchObject({ active: true });
  });

  it.each<[string, () => Record<string, unknown>]>([
    ['§4.1.1 another iss', () => ({ iss: 'https://evil.example' })],
    ['§4.1.1 our iss with a slash', () => ({ iss: `${service.issuer}/` })],
    ['§4.1.1 our iss in another case', () => ({ iss: service.issuer.toUpperCase() })],
    ['§4.1.1 no iss', () => ({ iss: undefined })],
    ['§4.1.1 several iss', () => ({ iss: [service.issuer] })],
    ['§4.1.2 no sub', () => ({ sub: undefined })],
    ['§4.1.2 a sub that is no agent', () => ({ sub: '00000000-0000-4000-8000-000000000000' })],
    ['§4.1.2 a sub that is no UUID', () => ({ sub: 'admin' })],
    ['§4.1.3 no aud', () => ({ aud: undefined })],
    ['§4.1.3 an aud that is no string', () => ({ aud: { toString: 'x' } })],
    ['§4.1.4 an exp that has passed', () => ({ exp: now() - 1 })],
    ['§4.1.4 an exp of this very second', () => ({ exp: now() })],
    ['§4.1.4 an exp at the epoch', () => ({ exp: 0 })],
    ['§4.1.4 a negative exp', () => ({ exp: -1 })],
    ['§4.1.4 no exp', () => ({ exp: undefined })],
    ['§4.1.4 an exp that is text', () => ({ exp: String(now() + 3600) })],
    ['§4.1.4 an exp that is null', () => ({ exp: null })],
    ['§4.1.6 no iat', () => ({ iat: undefined })],
    ['§4.1.7 no jti', () => ({ jti: undefined })],
    ['§4.1.7 a jti that is no UUID', () => ({ jti: "x' OR '1'='1" })],
    ['§4.3 no org', () => ({ org: undefined })],
    ['§4.3 an org that does not exist', () => ({ org: '00000000-0000-4000-8000-000000000000' })],
    ['§4.3 no cred', () => ({ cred: undefined })],
    ['§4.3 a cred that does not exist', () => ({ cred: '00000000-0000-4000-8000-000000000000' })],
    ['§4.3 no gen', () => ({ gen: undefined })],
    ['§4.3 a gen of the future', () => ({ gen: '1.999999999.1' })],
    ['§4.3 a malformed gen', () => ({ gen: '1.1' })],
    ['§4.3 a gen beyond every integer', () => ({ gen: '1.99999999999999999999.1' })],
    ['§4.3 a scope that the agent does not have', () => ({ scope: 'agents:read agents:fly' })],
    ['§4.3 a scope that is a list', () => ({ scope: ['agents:read'] })],
    ['§4.3 a scope with a NUL', () => ({ scope: 'agents:read\0' })],
  ])('%s is no active token', async (_, change) => {
    const forged = signed({ ...claimsOf(token), ...change() });
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
    const used = await service.api.call('GET', '/agents', forged);
    expect([used.status, used.headers.get('www-authenticate')]).toEqual([401, 'Bearer error="invalid_token"']);
  });

  it.each(['', 'null', '[]', '1', '"x"', '{', '{}', '\u0000', '[['.repeat(500), '\ufeff{}'])(
    '§7.2 a payload that is %j is no token',
    async (payload) => {
      expect(await service.api.introspect(caller, signed(payload))).toEqual({ active: false });
      expect((await service.api.call('GET', '/agents', signed(payload))).status).toBe(401);
    },
  );

  it('§4.1.5 a token that is not valid yet is no active token', async () => {
    const forged = signed({ ...claimsOf(token), nbf: now() + 60 });
    expect(await service.api.introspect(caller, forged)).toEqual({ active: false });
  });

  it('§2 iat and exp are whole seconds of the clock', async () => {
    service.clock.freeze('2026-11-30T12:00:00.999Z');
    const { iat, exp } = claimsOf(await service.api.token(service.operator));
    expect([iat, exp]).toEqual([1_796_040_000, 1_796_043_600]);
    service.clock.set('2026-11-30T12:00:01.000Z');
  });
});

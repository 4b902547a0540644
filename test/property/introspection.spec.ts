import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { claimsOf } from '../support/api.js';
import { headerOf } from '../support/forge.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { check } from './check.js';

const INTROSPECT = '/api/v1/token/introspect';
const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

describe('introspection, whatever is asked about', () => {
  let service: TestApp;
  let caller: string;
  let token: string;

  beforeAll(async () => {
    service = await startTestApp();
    caller = await service.api.token(service.operator);
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  async function expectInactive(text: string): Promise<void> {
    const answer = await service.api.form(INTROSPECT, { token: text }, { Authorization: `Bearer ${caller}` });
    expect([answer.status, answer.text]).toEqual([200, '{"active":false}']);
  }

  const encoded = (part: fc.Arbitrary<string>) => part.map((text) => Buffer.from(text).toString('base64url'));

  it('answers any text with active false', async () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }).filter((value) => !value.includes('\0')),
      fc.string({ unit: fc.constantFrom(...BASE64URL, '.', '=', '\ud83d\ude00'), minLength: 1, maxLength: 300 }),
      fc.tuple(encoded(fc.json()), encoded(fc.json()), encoded(fc.string())).map((parts) => parts.join('.')),
      fc.uuid(),
    );
    await check(fc.asyncProperty(text, expectInactive), 200);
  });

  it('answers any token that is made of a real one with active false, and the real one with active true', async () => {
    const change = fc.record({
      act: fc.constantFrom('replace', 'insert', 'delete', 'swap', 'cut', 'repeat', 'high bits'),
      at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      character: fc.constantFrom(...BASE64URL, '.', '=', '+', '/', ' ', '\n', '\u00e9', '\u0141'),
    });
    await check(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        const forged = changes.reduce((text, { act, at, character }) => {
          const index = Math.floor(at * text.length);
          const [before, here, after] = [text.slice(0, index), text.charAt(index), text.slice(index + 1)];
          switch (act) {
            case 'replace':
              return before + character + after;
            case 'insert':
              return before + character + here + after;
            case 'delete':
              return before + after;
            case 'swap':
              return before + after.charAt(0) + here + after.slice(1);
            case 'cut':
              return before + here;
            case 'repeat':
              return before + here + here + after;
            default:
              return before + String.fromCharCode((here.charCodeAt(0) || 0x41) + 0x100) + after;
          }
        }, token);
        fc.pre(forged !== token && forged !== '');
        await expectInactive(forged);
        expect(await service.api.introspect(caller, token)).toMatchObject({ active: true });
      }),
      200,
    );
  });

  it('answers any other header or claims under the real signature with active false', async () => {
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('RS256', 'HS256', 'none', 'JWT', 'agents:read', service?.issuer),
    );
    const names = ['alg', 'kid', 'typ', 'sub', 'scope', 'exp', 'iat', 'iss', 'aud', 'org', 'gen', 'jti', 'nbf', 'crit'];
    await check(
      fc.asyncProperty(fc.boolean(), fc.constantFrom(...names), value, async (inHeader, name, replacement) => {
        const [header = '', payload = '', signature = ''] = token.split('.');
        const changed = { ...(inHeader ? headerOf(token) : claimsOf(token)), [name]: replacement };
        const part = Buffer.from(JSON.stringify(changed)).toString('base64url');
        fc.pre(part !== header && part !== payload);
        await expectInactive(inHeader ? `${part}.${payload}.${signature}` : `${header}.${part}.${signature}`);
      }),
      150,
    );
  });
});

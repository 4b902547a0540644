import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const INVALID_TARGET = {
  error: 'invalid_target',
  error_description: 'The requested resource is invalid or unknown.',
};

describe('RFC 8707, resource indicators', () => {
  let service: TestApp;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    const scopes = ['agents:read', 'tokens:read'];
    agent = await service.api.agent(await service.api.token(service.operator), { scopes });
  });
  afterAll(() => service.close());

  it('§2 restricts the token to the resource that is named: our own API is the issuer', async () => {
    const { status, body } = await service.api.requestToken(agent, { resource: service.issuer });
    expect([status, body['scope']]).toEqual([200, 'agents:read tokens:read']);
    const token = body['access_token'] as string;
    expect(claimsOf(token)['aud']).toBe(service.issuer);
    expect((await service.api.call('GET', '/agents', token)).status).toBe(200);
  });

  it('§2 takes resource and scope together', async () => {
    const { status, body } = await service.api.requestToken(agent, { resource: service.issuer, scope: 'agents:read' });
    expect([status, body['scope']]).toEqual([200, 'agents:read']);
    const refused = await service.api.requestToken(agent, { resource: service.issuer, scope: 'audit:read' });
    expect([refused.status, refused.body['error']]).toEqual([400, 'invalid_scope']);
  });

  it('§2 issues for the audience of the granted scopes where no resource is named', async () => {
    for (const more of [{}, { resource: '' }, { scope: 'agents:read' }]) {
      const token = await service.api.token(agent, more);
      expect(claimsOf(token)['aud']).toBe(service.issuer);
    }
  });

  it.each<[string, () => string]>([
    ['is unknown', () => 'https://api.example'],
    ['is no URI', () => 'our api'],
    ['is relative', () => '/api/v1'],
    ['has a fragment', () => `${service.issuer}#x`],
    ['has a query', () => `${service.issuer}?x`],
    ['is the issuer with a slash', () => `${service.issuer}/`],
    ['is the issuer in another case', () => service.issuer.toUpperCase()],
    ['is the issuer and more', () => `${service.issuer} ${service.issuer}`],
    ['is a property of every object', () => '__proto__'],
    ['is very long', () => `https://api.example/${'x'.repeat(60_000)}`],
  ])('§2 answers invalid_target to a resource that %s', async (_, resource) => {
    const answer = await service.api.requestToken(agent, { resource: resource() });
    expect([answer.status, answer.body]).toEqual([400, INVALID_TARGET]);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });

  it('§2 answers invalid_target to a repeated resource, equal or not', async () => {
    for (const second of [service.issuer, 'https://api.example']) {
      const form: [string, string][] = [
        ['grant_type', 'client_credentials'],
        ['resource', service.issuer],
        ['resource', second],
      ];
      const answer = await service.api.form('/api/v1/token', form, basic(agent));
      expect([answer.status, answer.body]).toEqual([400, INVALID_TARGET]);
    }
  });

  describe('with resource servers of one’s own', () => {
    let client: TestAgent;
    const calendar = 'https://cal.example.com/';
    const contacts = 'https://contacts.example.com/app/';

    beforeAll(async () => {
      const operator = await service.api.token(service.operator);
      for (const [identifier, names] of [
        [calendar, ['calendar:read', 'calendar:write']],
        [contacts, ['contacts:read']],
      ] as const) {
        const scopes = names.map((name) => ({ name, description: name }));
        const made = await service.api.call('POST', '/resources', operator, { identifier, name: 'x', scopes });
        expect(made.status).toBe(201);
      }
      client = await service.api.agent(operator, {
        scopes: ['agents:read', 'calendar:read', 'calendar:write', 'contacts:read'],
      });
    });

    it('§2 takes an absolute URI without fragment as a resource, and registers no other', async () => {
      const operator = await service.api.token(service.operator);
      for (const identifier of ['https://api.example.com/#frag', 'https://api.example.com/#', 'api.example.com', '/']) {
        const { status, body } = await service.api.call('POST', '/resources', operator, { identifier, name: 'x' });
        expect([identifier, status, body['errors']]).toMatchObject([identifier, 400, [{ pointer: '/identifier' }]]);
        const asked = await service.api.requestToken(client, { resource: identifier });
        expect([asked.status, asked.body]).toEqual([400, INVALID_TARGET]);
      }
    });

    it('§2 compares resources character by character', async () => {
      for (const resource of [
        'https://cal.example.com',
        'https://CAL.example.com/',
        'https://cal.example.com:443/',
        'https://cal.example.com/?',
        'https://cal.example.com/x',
        'http://cal.example.com/',
      ]) {
        const { status, body } = await service.api.requestToken(client, { resource });
        expect([resource, status, body]).toEqual([resource, 400, INVALID_TARGET]);
      }
    });

    it('§2.2 takes the resource as the audience, and the scopes down to those that it has', async () => {
      const { status, body } = await service.api.requestToken(client, { resource: calendar });
      expect([status, body['scope']]).toEqual([200, 'calendar:read calendar:write']);
      expect(claimsOf(body['access_token'] as string)).toMatchObject({
        aud: calendar,
        scope: 'calendar:read calendar:write',
      });
    });

    it('§2.2 refuses scopes that are not applicable at the resource', async () => {
      for (const scope of ['contacts:read', 'calendar:read contacts:read', 'agents:read']) {
        const { status, body } = await service.api.requestToken(client, { resource: calendar, scope });
        expect([scope, status, body['error']]).toEqual([scope, 400, 'invalid_scope']);
      }
    });

    it('§3 keeps a token for one resource from being used at another', async () => {
      const token = await service.api.token(client, { resource: contacts });
      const { status, headers } = await service.api.call('GET', '/agents', token);
      expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer error="invalid_token"']);
    });

    it('RFC 9068 §3 leaves no doubt to whom a scope is: several audiences only where scope is omitted', async () => {
      const refused = await service.api.requestToken(client, { scope: 'calendar:read contacts:read' });
      expect([refused.status, refused.body['error']]).toEqual([400, 'invalid_scope']);
      const token = await service.api.token(client);
      expect(claimsOf(token)['aud']).toEqual([service.issuer, calendar, contacts]);
    });
  });
});

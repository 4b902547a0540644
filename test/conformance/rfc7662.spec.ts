import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { addOrganization, turnOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const INTROSPECT = '/api/v1/token/introspect';

describe('RFC 7662, token introspection', () => {
  let service: TestApp;
  let operator: string;
  /** May introspect. */
  let reader: TestAgent;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  beforeEach(async () => {
    service.clock.advance(61);
    operator = await service.api.token(service.operator);
    reader = await service.api.agent(operator, { scopes: ['tokens:read'] });
    agent = await service.api.agent(operator, { scopes: ['agents:read', 'agents:write'] });
  });

  const introspect = (form: Record<string, string> | [string, string][], headers?: Record<string, string>) =>
    service.api.form(INTROSPECT, form, headers);
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
  const postAuth = ({ clientId, clientSecret }: TestAgent) => ({ client_id: clientId, client_secret: clientSecret });
  const isActive = async (token: string) => (await introspect({ token }, basic(reader))).body['active'];

  function expectError(answer: Answer, status: number, error: string): void {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    expect(Object.keys(answer.body)).toEqual(['error', 'error_description']);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  }

  async function expectInactive(token: string): Promise<void> {
    for (const answer of [await introspect({ token }, basic(reader)), await introspect({ token }, bearer(operator))]) {
      expect([answer.status, answer.text]).toEqual([200, '{"active":false}']);
    }
  }

  describe('§2.1 introspection request', () => {
    it.each<[string, (token: string) => Promise<Answer>]>([
      [
        'a Bearer token with tokens:read',
        async (token) => introspect({ token }, bearer(await service.api.token(reader))),
      ],
      ['client_secret_basic', (token) => introspect({ token }, basic(reader))],
      ['client_secret_post', (token) => introspect({ token, ...postAuth(reader) })],
    ])('§2.1 takes %s', async (_, ask) => {
      const { status, body } = await ask(await service.api.token(agent));
      expect([status, body['active']]).toEqual([200, true]);
    });

    it('§2.1 answers a caller about its own token', async () => {
      const token = await service.api.token(reader);
      expect((await introspect({ token }, bearer(token))).body).toMatchObject({ active: true, sub: reader.agentId });
    });

    it.each(['access_token', 'refresh_token', 'pizza'])('§2.1 does not need the hint %s', async (token_type_hint) => {
      const token = await service.api.token(agent);
      expect((await introspect({ token, token_type_hint }, basic(reader))).body['active']).toBe(true);
    });

    it('§2.1 requires the parameter token, once, in the body', async () => {
      const token = await service.api.token(agent);
      expectError(await introspect({}, basic(reader)), 400, 'invalid_request');
      expectError(await introspect({ token: '' }, bearer(operator)), 400, 'invalid_request');
      const twice: [string, string][] = [
        ['token', token],
        ['token', token],
      ];
      expectError(await introspect(twice, bearer(operator)), 400, 'invalid_request');
      expectError(await service.api.form(`${INTROSPECT}?token=${token}`, {}, basic(reader)), 400, 'invalid_request');
    });

    it('§2.1 refuses callers that are not allowed tokens:read', async () => {
      const token = await service.api.token(agent);
      for (const answer of [
        await introspect({ token }, bearer(token)),
        await introspect({ token }, basic(agent)),
        await introspect({ token, ...postAuth(agent) }),
      ]) {
        expectError(answer, 403, 'insufficient_scope');
        expect(answer.headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope", scope="tokens:read"');
      }
    });

    it('§2.1 refuses two ways of authenticating', async () => {
      const token = await service.api.token(reader);
      expectError(await introspect({ token, ...postAuth(reader) }, basic(reader)), 400, 'invalid_request');
      expectError(await introspect({ token, client_secret: 'x' }, bearer(token)), 400, 'invalid_request');
    });
  });

  describe('§2.2 introspection response', () => {
    it('§2.2 tells exactly what is documented of an active token', async () => {
      const token = await service.api.token(agent, { scope: 'agents:read' });
      const { iat, exp, jti, org } = claimsOf(token);
      const answer = await introspect({ token }, basic(reader));
      expect(answer.status).toBe(200);
      expect(answer.body).toEqual({
        active: true,
        sub: agent.agentId,
        client_id: agent.agentId,
        scope: 'agents:read',
        token_type: 'Bearer',
        iat,
        exp,
        iss: service.issuer,
        aud: service.issuer,
        jti,
        org,
      });
      expect(answer.headers.get('content-type')).toMatch(/^application\/json\b/);
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(answer.headers.get('pragma')).toBe('no-cache');
    });

    it('§2.2 tells several audiences as an array', async () => {
      const token = await service.api.token(agent);
      const aud = [service.issuer, 'https://api.example'];
      const several = jws(headerOf(token), { ...claimsOf(token), aud }, rs256(signingKeyOf(service).privateKey));
      expect((await introspect({ token: several }, basic(reader))).body).toMatchObject({ active: true, aud });
    });

    const otherKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    it.each<[string, (token: string) => string]>([
      ['garbage', () => 'garbage'],
      ['a secret', () => agent.clientSecret],
      ['an agent’s id', () => agent.agentId],
      ['JSON', () => '{"active":true}'],
      ['two parts', (token) => token.split('.').slice(0, 2).join('.')],
      [
        'a token of a foreign issuer',
        (token) => jws(headerOf(token), { ...claimsOf(token), iss: 'https://evil.example' }, rs256(otherKey)),
      ],
      [
        'a token that claims our issuer, signed by another key',
        (token) => jws(headerOf(token), claimsOf(token), rs256(otherKey)),
      ],
      ['60,000 characters', () => 'x'.repeat(60_000)],
    ])('§2.2 answers {"active":false} and nothing else for %s', async (_, forge) => {
      await expectInactive(forge(await service.api.token(agent)));
    });

    it('§2.2 answers so for an expired token, from the very second on', async () => {
      const token = await service.api.token(agent);
      const readerToken = await service.api.token(reader);
      service.clock.freeze(new Date(Number(claimsOf(token)['exp']) * 1000 - 1).toISOString());
      expect(await isActive(token)).toBe(true);
      service.clock.advance(0.001);
      expect((await introspect({ token }, basic(reader))).text).toBe('{"active":false}');
      expect((await introspect({ token: readerToken }, basic(reader))).text).toBe('{"active":false}');
      service.clock.set(new Date(service.clock.nowMs()).toISOString());
    });

    it('§2.2 answers so for a revoked token', async () => {
      const token = await service.api.token(agent);
      await service.api.revoke(token, token);
      await expectInactive(token);
    });

    it('§2.2 answers so for the tokens of a suspended agent, and they stay dead once it is active again', async () => {
      const token = await service.api.token(agent);
      await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
      await expectInactive(token);
      await service.api.call('POST', `/agents/${agent.agentId}/reactivate`, operator);
      await expectInactive(token);
      expect(await isActive(await service.api.token(agent))).toBe(true);
    });

    it('§2.2 answers so for the tokens of a decommissioned agent', async () => {
      const token = await service.api.token(agent);
      await service.api.call('DELETE', `/agents/${agent.agentId}`, operator);
      await expectInactive(token);
    });

    it('§2.2 answers so for the tokens of a suspended organization, and they stay dead once it is active again', async () => {
      const organizationId = await addOrganization(service, operator);
      const token = await service.api.token(await service.api.agent(operator, { organizationId }));
      expect(await service.api.introspect(operator, token)).toMatchObject({ active: true, org: organizationId });
      await turnOrganization(service, operator, organizationId, 'suspend');
      await expectInactive(token);
      await turnOrganization(service, operator, organizationId, 'reactivate');
      await expectInactive(token);
    });

    it('§2.2 answers so for tokens of a credential revoked together with them, and keeps those it was to keep', async () => {
      const second = { ...agent, ...(await service.api.secret(operator, agent.agentId)) };
      const [lost, kept] = [await service.api.token(agent), await service.api.token(second)];
      const path = (id: string) => `/agents/${agent.agentId}/credentials/${id}`;
      await service.api.call('DELETE', path(agent.credentialId), operator);
      await service.api.call('DELETE', `${path(second.credentialId)}?keepTokens=true`, operator);
      await expectInactive(lost);
      expect(await isActive(kept)).toBe(true);
    });

    it('§2.2 keeps the tokens of a secret that is rotated', async () => {
      const token = await service.api.token(agent);
      const path = `/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`;
      expect((await service.api.call('POST', path, operator)).status).toBe(201);
      expect(await isActive(token)).toBe(true);
    });

    it('§2.2 answers so for tokens that hold a scope taken away, and keeps the others', async () => {
      const [wide, narrow] = [await service.api.token(agent), await service.api.token(agent, { scope: 'agents:read' })];
      await service.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: ['agents:read'] });
      await expectInactive(wide);
      expect(await isActive(narrow)).toBe(true);
      await service.api.call('PATCH', `/agents/${agent.agentId}`, operator, {
        scopes: ['agents:read', 'agents:write'],
      });
      await expectInactive(wide);
    });

    it('§2.2 answers so for all tokens issued before they were revoked in bulk, and for none after', async () => {
      const token = await service.api.token(agent);
      await service.api.call('POST', `/agents/${agent.agentId}/revoke-tokens`, operator);
      const after = await service.api.token(agent);
      await expectInactive(token);
      expect(await isActive(after)).toBe(true);
    });

    it('§2.2 tells any caller of the organization, and no caller of another one but the operator', async () => {
      const organizationId = await addOrganization(service, operator);
      const foreign = await service.api.agent(operator, { organizationId, scopes: ['tokens:read'] });
      const neighbour = await service.api.agent(operator, { organizationId });
      const theirs = await service.api.token(neighbour);
      expect((await introspect({ token: theirs }, basic(foreign))).body['active']).toBe(true);
      expect((await introspect({ token: theirs }, basic(reader))).text).toBe('{"active":false}');
      expect(await service.api.introspect(operator, theirs)).toMatchObject({ active: true, org: organizationId });
      const ours = await service.api.token(agent);
      expect((await introspect({ token: ours }, basic(foreign))).text).toBe('{"active":false}');
      const asForeign = await service.api.token(foreign);
      expect((await introspect({ token: ours }, bearer(asForeign))).text).toBe('{"active":false}');
    });

    it('§2.2 answers many questions at once, each for its own token', async () => {
      const tokens = await Promise.all(Array.from({ length: 20 }, () => service.api.token(agent)));
      await Promise.all(tokens.filter((_, index) => index % 2 === 0).map((token) => service.api.revoke(token, token)));
      const answers = await Promise.all(tokens.map((token) => introspect({ token }, basic(reader))));
      expect(answers.map(({ body }) => body['jti'] ?? null)).toEqual(
        tokens.map((token, index) => (index % 2 === 0 ? null : claimsOf(token)['jti'])),
      );
    });
  });

  describe('§2.3 error response', () => {
    it('§2.3 refuses a caller that does not authenticate itself', async () => {
      const token = await service.api.token(agent);
      for (const form of [{ token }, { token, client_id: reader.clientId }]) {
        const answer = await introspect(form);
        expectError(answer, 401, 'invalid_token');
        expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      }
    });

    it('§2.3 refuses wrong client credentials with invalid_client', async () => {
      const token = await service.api.token(agent);
      const wrong = { ...reader, clientSecret: 'wrong' };
      const byBasic = await introspect({ token }, basic(wrong));
      expectError(byBasic, 401, 'invalid_client');
      expect(byBasic.headers.get('www-authenticate')).toMatch(/^Basic /);
      expectError(await introspect({ token, ...postAuth(wrong) }), 401, 'invalid_client');
      const bare = await introspect({ token }, { Authorization: 'Basic' });
      expectError(bare, 401, 'invalid_client');
      expect(bare.headers.get('www-authenticate')).toMatch(/^Basic /);
    });

    it('§2.3 refuses a bad Bearer token with invalid_token', async () => {
      const answer = await introspect({ token: 'x' }, bearer('bad'));
      expectError(answer, 401, 'invalid_token');
      expect(answer.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    });

    it('§2.3 refuses a suspended caller with 401, by Bearer and by client authentication', async () => {
      const token = await service.api.token(reader);
      await service.api.call('POST', `/agents/${reader.agentId}/suspend`, operator);
      expectError(await introspect({ token }, bearer(token)), 401, 'invalid_token');
      expectError(await introspect({ token }, basic(reader)), 401, 'invalid_client');
    });

    it('§2.3 refuses a caller of a suspended organization with 401', async () => {
      const organizationId = await addOrganization(service, operator);
      const tenant = await service.api.agent(operator, { organizationId, scopes: ['tokens:read'] });
      const token = await service.api.token(tenant);
      await turnOrganization(service, operator, organizationId, 'suspend');
      expectError(await introspect({ token }, bearer(token)), 401, 'invalid_token');
      expectError(await introspect({ token }, basic(tenant)), 401, 'invalid_client');
    });
  });
});

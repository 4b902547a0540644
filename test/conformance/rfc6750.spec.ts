import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { headerOf, jws, rs256, signingKeyOf } from '../support/forge.js';
import { addOrganization, turnOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const FORM = 'application/x-www-form-urlencoded';
const INTROSPECT = '/api/v1/token/introspect';
const REVOKE = '/api/v1/token/revoke';

describe('RFC 6750, Bearer token usage', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  beforeEach(async () => {
    service.clock.advance(61);
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
  });

  const get = (headers: Record<string, string>, path = '/api/v1/agents') => service.api.send('GET', path, { headers });
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });

  function expectProblem(answer: Answer, status: number, code: string, challenge: string): void {
    expect([answer.status, answer.body['status'], answer.body['code']]).toEqual([status, status, code]);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.headers.get('www-authenticate')).toBe(challenge);
  }

  function expectOAuth(answer: Answer, status: number, error: string, challenge: string): void {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    expect(Object.keys(answer.body)).toEqual(['error', 'error_description']);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('www-authenticate')).toBe(challenge);
  }

  it.each(['Bearer', 'bearer', 'BEARER'])('§2.1 takes the token from the Authorization header: %s', async (scheme) => {
    const token = await service.api.token(agent);
    expect((await get({ Authorization: `${scheme} ${token}` })).status).toBe(200);
  });

  it('§2.2 never reads access_token from the body', async () => {
    const token = await service.api.token(agent);
    for (const path of [INTROSPECT, REVOKE]) {
      const answer = await service.api.form(path, { access_token: token, token });
      expectOAuth(answer, 401, 'invalid_token', 'Bearer');
    }
    const answer = await service.api.send('POST', '/api/v1/agents', {
      body: JSON.stringify({ name: 'x', access_token: operator }),
      headers: { 'Content-Type': 'application/json' },
    });
    expectProblem(answer, 401, 'invalid_token', 'Bearer');
  });

  it('§2.3 never reads access_token from the query string', async () => {
    const token = await service.api.token(agent);
    const query = `?access_token=${token}`;
    expectProblem(await get({}, `/api/v1/agents/${agent.agentId}${query}`), 401, 'invalid_token', 'Bearer');
    for (const path of [INTROSPECT, REVOKE]) {
      expectOAuth(await service.api.form(path + query, { token }), 401, 'invalid_token', 'Bearer');
    }
    expect(await service.api.introspect(operator, token)).toMatchObject({ active: true });
  });

  describe('§3 the WWW-Authenticate response header', () => {
    it('§3 answers 401 with a bare challenge where no token was given', async () => {
      expectProblem(await get({}), 401, 'invalid_token', 'Bearer');
      expectProblem(await get({}, `/api/v1/agents/${agent.agentId}`), 401, 'invalid_token', 'Bearer');
      expectOAuth(await service.api.form(INTROSPECT, { token: 'x' }), 401, 'invalid_token', 'Bearer');
      expectOAuth(await service.api.form(REVOKE, { token: 'x' }), 401, 'invalid_token', 'Bearer');
    });

    it('§3 answers likewise where another scheme was used', async () => {
      const token = await service.api.token(agent);
      for (const header of [`Token ${token}`, token, `DPoP ${token}`, `BearerX ${token}`, 'Negotiate abc']) {
        expectProblem(await get({ Authorization: header }), 401, 'invalid_token', 'Bearer');
      }
      expectProblem(await get(basic(agent)), 401, 'invalid_token', 'Bearer');
    });
  });

  describe('§3.1 invalid_token', () => {
    const INVALID = 'Bearer error="invalid_token"';

    async function expectRefused(token: string): Promise<void> {
      expectProblem(await get(bearer(token)), 401, 'invalid_token', INVALID);
      expectOAuth(
        await service.api.form(INTROSPECT, { token: operator }, bearer(token)),
        401,
        'invalid_token',
        INVALID,
      );
      expectOAuth(await service.api.form(REVOKE, { token }, bearer(token)), 401, 'invalid_token', INVALID);
      // A caller that is no one learns nothing of what is there: the missing scope, the unknown path id.
      const unknown = await get(bearer(token), '/api/v1/audit/00000000-0000-4000-8000-000000000000');
      expectProblem(unknown, 401, 'invalid_token', INVALID);
    }

    it.each(['', 'garbage', 'a.b.c', 'sas_secret', '.', '..', 'a b'])('§3.1 refuses the token "%s"', (token) =>
      expectRefused(token),
    );

    it('§3.1 refuses a token with another text before or behind it', async () => {
      const token = await service.api.token(agent);
      for (const text of [`${token},${token}`, `${token} ${token}`, `"${token}"`, `${token}=`, `Bearer ${token}`]) {
        await expectRefused(text);
      }
    });

    it('§3.1 refuses an expired token, from the very second on', async () => {
      const token = await service.api.token(agent);
      service.clock.freeze(new Date(Number(claimsOf(token)['exp']) * 1000 - 1).toISOString());
      expect((await get(bearer(token))).status).toBe(200);
      service.clock.advance(0.001);
      await expectRefused(token);
      service.clock.set(new Date(service.clock.nowMs()).toISOString());
    });

    it('§3.1 refuses a revoked token', async () => {
      const token = await service.api.token(agent);
      await service.api.revoke(token, token);
      await expectRefused(token);
    });

    it.each(['suspend', 'revoke-tokens', 'DELETE'])('§3.1 refuses the token of an agent after %s', async (act) => {
      const token = await service.api.token(agent);
      const done =
        act === 'DELETE'
          ? await service.api.call('DELETE', `/agents/${agent.agentId}`, operator)
          : await service.api.call('POST', `/agents/${agent.agentId}/${act}`, operator);
      expect(done.status).toBeLessThan(300);
      await expectRefused(token);
    });

    it('§3.1 refuses tokens of a suspended organization', async () => {
      const organizationId = await addOrganization(service, operator);
      const tenant = await service.api.agent(operator, { organizationId, scopes: ['agents:read', 'tokens:read'] });
      const token = await service.api.token(tenant);
      expect((await get(bearer(token))).status).toBe(200);
      await turnOrganization(service, operator, organizationId, 'suspend');
      await expectRefused(token);
    });

    it('§3.1 refuses a token whose credential was revoked, and not one that it was to keep', async () => {
      const [lost, kept] = [await service.api.token(agent), await newSecretAndToken()];
      const path = (id: string) => `/agents/${agent.agentId}/credentials/${id}`;
      await service.api.call('DELETE', path(agent.credentialId), operator);
      await service.api.call('DELETE', `${path(kept.credentialId)}?keepTokens=true`, operator);
      await expectRefused(lost);
      expect((await get(bearer(kept.token))).status).toBe(200);
    });

    it('§3.1 refuses a token that holds a scope taken away', async () => {
      const token = await service.api.token(agent);
      await service.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: ['agents:read'] });
      await expectRefused(token);
    });

    it('§3.1 refuses a token for another audience at our own API, and takes one of several', async () => {
      const key = signingKeyOf(service);
      const token = await service.api.token(agent);
      const meantFor = (aud: unknown) => jws(headerOf(token), { ...claimsOf(token), aud }, rs256(key.privateKey));
      for (const aud of ['https://api.example', `${service.issuer}/`, [], ['https://api.example'], '']) {
        const answer = await get(bearer(meantFor(aud)));
        expectProblem(answer, 401, 'invalid_token', INVALID);
      }
      expect((await get(bearer(meantFor(service.issuer)))).status).toBe(200);
      expect((await get(bearer(meantFor(['https://api.example', service.issuer])))).status).toBe(200);
    });

    async function newSecretAndToken() {
      const secret = await service.api.secret(operator, agent.agentId);
      return { ...secret, token: await service.api.token({ ...agent, ...secret }) };
    }
  });

  describe('§3.1 insufficient_scope', () => {
    const challenge = (scope: string) => `Bearer error="insufficient_scope", scope="${scope}"`;

    it.each([
      ['GET', '/agents', 'agents:read'],
      ['POST', '/agents', 'agents:write'],
      ['GET', '/audit', 'audit:read'],
      ['GET', '/quota', 'agents:read'],
    ])('§3.1 answers 403 and names the scope that %s %s takes', async (method, path, scope) => {
      const token = await service.api.token(await service.api.agent(operator, { scopes: ['webhooks:read'] }));
      const answer = await service.api.call(method, path, token, method === 'POST' ? { name: 'x' } : undefined);
      expectProblem(answer, 403, 'insufficient_scope', challenge(scope));
    });

    it('§3.1 counts the scopes of the token, not those of its agent', async () => {
      const token = await service.api.token(agent, { scope: 'tokens:read' });
      expectProblem(await get(bearer(token)), 403, 'insufficient_scope', challenge('agents:read'));
    });

    it('§3.1 answers in the OAuth shape at introspection and revocation', async () => {
      const token = await service.api.token(agent, { scope: 'agents:read' });
      const introspection = await service.api.form(INTROSPECT, { token }, bearer(token));
      expectOAuth(introspection, 403, 'insufficient_scope', challenge('tokens:read'));
      const revocation = await service.api.form(REVOKE, { token: operator }, bearer(token));
      expectOAuth(revocation, 403, 'insufficient_scope', challenge('admin:orgs'));
    });

    it('§3.1 keeps the challenge short enough for every client, however many scopes are refused', async () => {
      const scopes = Array.from({ length: 200 }, (_, index) => `${index}:`.padEnd(128, 'x'));
      const answer = await service.api.call('POST', '/agents', operator, { name: 'greedy', scopes });
      expect([answer.status, answer.body['code']]).toEqual([403, 'insufficient_scope']);
      expect(answer.headers.get('www-authenticate')?.length).toBeLessThan(4096);
    });
  });

  it('§5.3 answers with Cache-Control: no-store wherever a token was shown', async () => {
    const token = await service.api.token(agent);
    for (const answer of [await get(bearer(token)), await get(bearer('bad')), await get({})]) {
      expect(answer.headers.get('cache-control')).toBe('no-store');
    }
  });

  it('§2.1 takes a Bearer token where a form is sent as well', async () => {
    const token = await service.api.token(agent);
    const answer = await service.api.send('POST', INTROSPECT, {
      body: `token=${token}`,
      headers: { ...bearer(token), 'Content-Type': `${FORM}; charset=utf-8` },
    });
    expect(answer.body).toMatchObject({ active: true });
  });
});

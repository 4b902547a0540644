import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** The user's guide "Issue and Revoke Tokens", statement by statement and letter by letter. */
describe('the guide to issuing and revoking tokens', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['agents:read', 'agents:write', 'tokens:read'] });
  });
  afterAll(() => service.close());

  it('issues a token with exactly the documented members', async () => {
    const { status, headers, body } = await service.api.requestToken(agent, { scope: 'agents:read agents:write' });
    expect(status).toBe(200);
    expect(body).toEqual({
      access_token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
      token_type: 'Bearer',
      expires_in: 3600,
      scope: 'agents:read agents:write',
    });
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('pragma')).toBe('no-cache');
  });

  it('reads the form as curl -d sends it, spaces and all', async () => {
    const form = `grant_type=client_credentials&client_id=${agent.clientId}&client_secret=${agent.clientSecret}`;
    const { status, body } = await service.api.form('/api/v1/token', `${form}&scope=agents:read agents:write`);
    expect(status).toBe(200);
    expect(body['scope']).toBe('agents:read agents:write');
  });

  it('grants all scopes when scope is omitted', async () => {
    const { body } = await service.api.requestToken(agent);
    expect(body['scope']).toBe('agents:read agents:write tokens:read');
  });

  it('puts the documented claims into the token', async () => {
    const claims = claimsOf(await service.api.token(agent, { scope: 'agents:read agents:write' }));
    expect(claims).toMatchObject({
      sub: agent.agentId,
      client_id: agent.agentId,
      scope: 'agents:read agents:write',
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(Number(claims['exp']) - Number(claims['iat'])).toBe(3600);
    expect(Math.abs(Number(claims['iat']) - Date.now() / 1000)).toBeLessThan(60);
  });

  it('lets the token be used in the Authorization header', async () => {
    const token = await service.api.token(agent);
    const { status, body } = await service.api.call('GET', '/agents', token);
    expect(status).toBe(200);
    expect(body['data']).toHaveLength(2);
  });

  it('introspects an active token with at least the documented members', async () => {
    const caller = await service.api.token(agent, { scope: 'tokens:read' });
    const token = await service.api.token(agent, { scope: 'agents:read agents:write' });
    const { iat, exp } = claimsOf(token);
    expect(await service.api.introspect(caller, token)).toMatchObject({
      active: true,
      sub: agent.agentId,
      client_id: agent.agentId,
      scope: 'agents:read agents:write',
      token_type: 'Bearer',
      iat,
      exp,
    });
  });

  it('answers 200 and nothing but active false for revoked and expired tokens', async () => {
    const caller = await service.api.token(agent);
    const revoked = await service.api.token(agent);
    await service.api.revoke(revoked, revoked);
    expect(await service.api.introspect(caller, revoked)).toEqual({ active: false });

    const short = await service.api.agent(operator, { tokenTtlSeconds: 60 });
    const expiring = await service.api.token(short);
    service.clock.advance(61);
    expect(await service.api.introspect(caller, expiring)).toEqual({ active: false });
  });

  it('refuses introspection without tokens:read', async () => {
    const caller = await service.api.token(agent, { scope: 'agents:read' });
    const { status, body } = await service.api.form(
      '/api/v1/token/introspect',
      { token: caller },
      { Authorization: `Bearer ${caller}` },
    );
    expect(status).toBe(403);
    expect(body['error']).toBe('insufficient_scope');
  });

  it('revokes a token: 200 {}, and the next request with it is refused', async () => {
    const token = await service.api.token(agent);
    const { status, text } = await service.api.revoke(token, token);
    expect([status, text]).toEqual([200, '{}']);
    expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
  });

  it('takes the revocation of a revoked or expired token as done', async () => {
    const caller = await service.api.token(agent);
    const token = await service.api.token(agent);
    await service.api.revoke(caller, token);
    expect((await service.api.revoke(caller, token)).text).toBe('{}');
  });

  it("revokes another agent's token only for admin:orgs", async () => {
    const other = await service.api.agent(operator);
    const token = await service.api.token(other);
    const refused = await service.api.revoke(await service.api.token(agent), token);
    expect([refused.status, refused.body['error']]).toEqual([403, 'insufficient_scope']);
    expect(await service.api.introspect(operator, token)).toMatchObject({ active: true });
    expect((await service.api.revoke(operator, token)).text).toBe('{}');
    expect(await service.api.introspect(operator, token)).toEqual({ active: false });
  });

  it('leaves the credential working when a token is revoked', async () => {
    const token = await service.api.token(agent);
    await service.api.revoke(token, token);
    expect((await service.api.requestToken(agent)).status).toBe(200);
  });

  it('answers 401 invalid_client for wrong credentials, letter by letter', async () => {
    const { status, body } = await service.api.requestToken({ ...agent, clientSecret: 'wrong' });
    expect(status).toBe(401);
    expect(body).toEqual({
      error: 'invalid_client',
      error_description: 'Client authentication failed. Invalid client_id or client_secret.',
    });
  });

  it('answers 403 unauthorized_client for a suspended agent, letter by letter', async () => {
    const suspended = await service.api.agent(operator);
    await service.api.call('POST', `/agents/${suspended.agentId}/suspend`, operator);
    const { status, body } = await service.api.requestToken(suspended);
    expect(status).toBe(403);
    expect(body).toEqual({
      error: 'unauthorized_client',
      error_description: 'Agent is currently suspended and cannot obtain tokens.',
    });
    await service.api.call('POST', `/agents/${suspended.agentId}/reactivate`, operator);
    expect((await service.api.requestToken(suspended)).status).toBe(200);
  });

  it('answers 403 unauthorized_client at the monthly limit, letter by letter, and resets with the month', async () => {
    const own = await startTestApp();
    try {
      own.clock.set('2026-11-30T23:59:00.000Z');
      await own.database.query("UPDATE organizations SET tier = 'free'");
      await own.database.query('UPDATE organization_ledgers SET quota_month = 202611, tokens_used = 9999');
      expect((await own.api.requestToken(own.operator)).status).toBe(200);
      const { status, headers, body } = await own.api.requestToken(own.operator);
      expect(status).toBe(403);
      expect(body).toEqual({
        error: 'unauthorized_client',
        error_description: 'Free tier monthly token limit of 10,000 requests has been reached.',
      });
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      expect(Number(headers.get('retry-after'))).toBeLessThanOrEqual(60);
      own.clock.set('2026-12-01T00:00:00.000Z');
      expect((await own.api.requestToken(own.operator)).status).toBe(200);
    } finally {
      await own.close();
    }
  });

  it.each(['authorization_code', 'password', 'refresh_token', 'CLIENT_CREDENTIALS'])(
    'answers 400 unsupported_grant_type for %s, letter by letter',
    async (grantType) => {
      const { status, body } = await service.api.requestToken(agent, { grant_type: grantType });
      expect(status).toBe(400);
      expect(body).toEqual({
        error: 'unsupported_grant_type',
        error_description: "Only 'client_credentials' grant type is supported.",
      });
    },
  );
});

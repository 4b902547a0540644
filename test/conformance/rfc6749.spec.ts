import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type Answer, type TestAgent, type ClientCredentials } from '../support/api.js';
import { headerOf } from '../support/forge.js';
import { addOrganization, turnOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const TOKEN = '/api/v1/token';
const FORM = 'application/x-www-form-urlencoded';
const GRANT = { grant_type: 'client_credentials' };
const SCOPES = ['agents:read', 'agents:write', 'tokens:read'];
const INVALID_CLIENT = {
  error: 'invalid_client',
  error_description: 'Client authentication failed. Invalid client_id or client_secret.',
};
const INVALID_SCOPE = {
  error: 'invalid_scope',
  error_description: 'The requested scope is invalid, unknown or not granted.',
};

describe('RFC 6749, the OAuth 2.0 authorization framework', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    agent = await service.api.agent(await service.api.token(service.operator), { scopes: SCOPES });
  });
  afterAll(() => service.close());

  beforeEach(async () => {
    // Failed authentications of one case must not slow the next one down.
    service.clock.advance(61);
    operator = await service.api.token(service.operator);
  });

  const post = (parameters: Record<string, string> | [string, string][] | string, headers?: Record<string, string>) =>
    service.api.form(TOKEN, parameters, headers);
  const withSecret = (more: Record<string, string> = {}) => ({
    ...GRANT,
    client_id: agent.clientId,
    client_secret: agent.clientSecret,
    ...more,
  });
  const newAgent = (fields: Record<string, unknown> = {}) => service.api.agent(operator, { scopes: SCOPES, ...fields });

  function expectError(answer: Answer, status: number, error: string): void {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    // §5.2: no member but the documented ones, and only the characters that a description may have.
    expect(Object.keys(answer.body)).toEqual(['error', 'error_description']);
    expect(answer.body['error_description']).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
    expect(answer.headers.get('content-type')).toMatch(/^application\/json\b/);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.headers.get('pragma')).toBe('no-cache');
  }

  describe('§2.3 client authentication', () => {
    it('§2.3 refuses two ways of authenticating in one request, even where both are right', async () => {
      expectError(await post(withSecret(), basic(agent)), 400, 'invalid_request');
      expectError(await post({ ...GRANT, client_secret: agent.clientSecret }, basic(agent)), 400, 'invalid_request');
      const token = await service.api.token(agent);
      expectError(await post(withSecret(), { Authorization: `Bearer ${token}` }), 400, 'invalid_request');
      expectError(await post(withSecret({ client_assertion: 'a.b.c' })), 400, 'invalid_request');
      expectError(await post({ ...GRANT, client_assertion: 'a.b.c' }, basic(agent)), 400, 'invalid_request');
    });

    it('§2.3.1 takes client_id and client_secret from the Authorization header, form-decoded', async () => {
      const encode = (text: string) =>
        [...text].map((character) => `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`).join('');
      const pair = Buffer.from(`${encode(agent.clientId)}:${encode(agent.clientSecret)}`).toString('base64');
      expect((await post(GRANT, basic(agent))).status).toBe(200);
      expect((await post(GRANT, { Authorization: `Basic ${pair}` })).status).toBe(200);
    });

    it.each(['basic', 'BASIC', 'bAsIc'])('§2.3.1 takes the scheme in any case: %s', async (scheme) => {
      const header = basic(agent)['Authorization']?.replace('Basic', scheme) ?? '';
      expect((await post(GRANT, { Authorization: header })).status).toBe(200);
    });

    it('§2.3.1 takes client_id and client_secret from the body, percent-encoded or not', async () => {
      expect((await post(withSecret())).status).toBe(200);
      const id = agent.clientId.replaceAll('-', '%2D');
      const secret = agent.clientSecret.replace('_', '%5f');
      expect((await post(`grant_type=client%5Fcredentials&client_id=${id}&client%5fsecret=${secret}`)).status).toBe(
        200,
      );
    });

    it('§2.3.1 never reads credentials from the request URI, and refuses a secret there', async () => {
      const query = new URLSearchParams(withSecret()).toString();
      expectError(await service.api.form(`${TOKEN}?${query}`, ''), 400, 'invalid_request');
      expectError(await service.api.form(`${TOKEN}?${query}`, GRANT), 400, 'invalid_request');
      const secretOnly = `client_secret=${agent.clientSecret}`;
      expectError(await service.api.form(`${TOKEN}?${secretOnly}`, withSecret()), 400, 'invalid_request');
      expectError(await service.api.form(`${TOKEN}?client%5Fsecret=x`, withSecret()), 400, 'invalid_request');
      for (const path of ['introspect', 'revoke']) {
        const answer = await service.api.form(`${TOKEN}/${path}?${secretOnly}`, {
          token: 'x',
          client_id: agent.clientId,
        });
        expectError(answer, 400, 'invalid_request');
      }
    });

    it('§2.3.1 takes a body client_id beside Basic where both agree', async () => {
      expect((await post({ ...GRANT, client_id: agent.clientId }, basic(agent))).status).toBe(200);
    });

    it('§2.3.1 refuses a body client_id that disagrees with Basic', async () => {
      expectError(await post({ ...GRANT, client_id: randomUUID() }, basic(agent)), 400, 'invalid_request');
      const wrong = { ...agent, clientSecret: 'wrong' };
      expectError(await post({ ...GRANT, client_id: randomUUID() }, basic(wrong)), 400, 'invalid_request');
    });

    it.each([
      ['no credentials at all', 'Basic'],
      ['no base64', 'Basic ?!'],
      ['no colon', `Basic ${Buffer.from('nocolon').toString('base64')}`],
      ['an empty pair', `Basic ${Buffer.from(':').toString('base64')}`],
      ['malformed percent-encoding', `Basic ${Buffer.from('%zz:%').toString('base64')}`],
      ['a NUL', `Basic ${Buffer.from('a%00:b\0').toString('base64')}`],
      ['bytes that are no UTF-8', `Basic ${Buffer.from([0xff, 0x3a, 0xfe]).toString('base64')}`],
      ['two tokens', 'Basic YTpi YTpi'],
    ])('§2.3.1 answers 401 with the challenge of Basic to a header with %s', async (_, header) => {
      const answer = await post(GRANT, { Authorization: header });
      expectError(answer, 401, 'invalid_client');
      expect(answer.body).toEqual(INVALID_CLIENT);
      expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm="/);
    });
  });

  describe('§3.2 token endpoint', () => {
    it.each(
      ['', '/introspect', '/revoke'].flatMap((path) =>
        ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].map((method) => [method, path] as const),
      ),
    )('§3.2 takes POST only: %s /token%s is 405', async (method, path) => {
      const answer = await service.api.send(method, TOKEN + path);
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
      if (method !== 'HEAD') expectError(answer, 405, 'invalid_request');
    });

    it('§3.2 treats a parameter without a value as omitted', async () => {
      const { body } = await post({ ...withSecret(), scope: '' });
      expect(body['scope']).toBe(SCOPES.join(' '));
      expectError(await post(withSecret({ grant_type: '' })), 400, 'invalid_request');
      expectError(await post(withSecret({ client_secret: '' })), 401, 'invalid_client');
      expect((await post({ ...GRANT, client_id: '', client_secret: '' }, basic(agent))).status).toBe(200);
    });

    it('§3.2 ignores parameters that it does not know', async () => {
      expect((await post(withSecret({ audience: 'x', foo: 'bar' }))).status).toBe(200);
    });

    it.each(['grant_type', 'client_id', 'client_secret', 'scope', 'unknown'])(
      '§3.2 refuses a repeated %s, equal values included',
      async (name) => {
        const parameters = Object.entries(withSecret({ scope: 'agents:read', unknown: 'x' }));
        const again = parameters.filter(([key]) => key === name);
        expectError(await post([...parameters, ...again]), 400, 'invalid_request');
        expectError(await post([...parameters, [name, '']]), 400, 'invalid_request');
      },
    );

    it('§3.2 takes forms only: a JSON body is refused', async () => {
      const answer = await service.api.send('POST', TOKEN, {
        body: JSON.stringify(withSecret()),
        headers: { 'Content-Type': 'application/json' },
      });
      expectError(answer, 400, 'invalid_request');
    });

    it('§3.2 never reads the query: grant_type there is missing', async () => {
      const answer = await service.api.form(`${TOKEN}?grant_type=client_credentials`, {
        client_id: agent.clientId,
        client_secret: agent.clientSecret,
      });
      expectError(answer, 400, 'invalid_request');
    });

    it('§3.2.1 requires client authentication', async () => {
      for (const parameters of [GRANT, { ...GRANT, client_id: agent.clientId }]) {
        const answer = await post(parameters);
        expectError(answer, 401, 'invalid_client');
        expect(answer.body).toEqual(INVALID_CLIENT);
        expect(answer.headers.get('www-authenticate')).toBeNull();
      }
    });

    it("§3.2.1 does not take an access token for the client's authentication", async () => {
      const answer = await post(GRANT, { Authorization: `Bearer ${await service.api.token(agent)}` });
      expectError(answer, 401, 'invalid_client');
    });
  });

  describe('§3.3 scope', () => {
    it('§3.3 grants what is asked for, in the order asked, each once', async () => {
      const { status, body } = await post(withSecret({ scope: 'tokens:read agents:read tokens:read' }));
      expect([status, body['scope']]).toEqual([200, 'tokens:read agents:read']);
      expect(claimsOf(body['access_token'] as string)['scope']).toBe('tokens:read agents:read');
    });

    it('§3.3 grants all scopes of the agent where none is named, and says so', async () => {
      for (const more of [{}, { scope: '' }]) {
        expect((await post(withSecret(more as Record<string, string>))).body['scope']).toBe(SCOPES.join(' '));
      }
    });

    it('§3.3 grants an agent without scopes a token without scopes', async () => {
      const bare = await service.api.agent(operator);
      const { status, body } = await service.api.requestToken(bare);
      expect([status, body['scope']]).toEqual([200, '']);
      expect(claimsOf(body['access_token'] as string)).toMatchObject({ scope: '', aud: service.issuer });
      expectError(await service.api.requestToken(bare, { scope: 'agents:read' }), 400, 'invalid_scope');
    });

    it.each([
      ['one that is unknown', 'agents:fly'],
      ['one that the agent does not have', 'admin:orgs'],
      ['one of two that the agent does not have', 'agents:read audit:read'],
      ['another case', 'Agents:Read'],
      ['a double space', 'agents:read  agents:write'],
      ['a leading space', ' agents:read'],
      ['a trailing space', 'agents:read '],
      ['nothing but a space', ' '],
      ['a tab', 'agents:read\tagents:write'],
      ['a comma', 'agents:read,agents:write'],
      ['a double quote', 'agents:read"'],
      ['a backslash', 'agents:read\\'],
      ['a character beyond ASCII', 'agents:reäd'],
      ['a property of every object', 'constructor'],
      ['60,000 characters', 'x'.repeat(60_000)],
    ])('§3.3 refuses %s with invalid_scope', async (_, scope) => {
      const answer = await post(withSecret({ scope }));
      expectError(answer, 400, 'invalid_scope');
      expect(answer.body).toEqual(INVALID_SCOPE);
    });
  });

  describe('§4.4 client credentials grant', () => {
    it('§4.4.2 issues a token for client_credentials to an authenticated client, and the token works', async () => {
      const { status, body } = await post(GRANT, basic(agent));
      expect(status).toBe(200);
      expect((await service.api.call('GET', '/agents', body['access_token'] as string)).status).toBe(200);
    });

    it('§4.4.3 issues no refresh token', async () => {
      const { body } = await post(withSecret());
      expect(Object.keys(body).sort()).toEqual(['access_token', 'expires_in', 'scope', 'token_type']);
    });
  });

  describe('§5.1 successful response', () => {
    it('§5.1 answers JSON that nobody may cache', async () => {
      const { headers, body } = await post(withSecret({ scope: 'agents:read' }));
      expect(headers.get('content-type')).toMatch(/^application\/json\b/);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('pragma')).toBe('no-cache');
      expect(body).toEqual({
        access_token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
        token_type: 'Bearer',
        expires_in: 3600,
        scope: 'agents:read',
      });
    });

    it('§5.1 answers with the lifetime that the token has: the smaller of the agent’s and the configured one', async () => {
      for (const [tokenTtlSeconds, expected] of [
        [60, 60],
        [86_400, 3600],
        [null, 3600],
      ]) {
        const { body } = await service.api.requestToken(await newAgent({ tokenTtlSeconds }));
        expect(body['expires_in']).toBe(expected);
        const { iat, exp } = claimsOf(body['access_token'] as string);
        expect(Number(exp) - Number(iat)).toBe(expected);
      }
    });

    it('§5.1 puts exactly the documented claims and header into the token', async () => {
      const token = await service.api.token(agent, { scope: 'agents:read' });
      const uuid = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);
      const { body: view } = await service.api.call('GET', `/agents/${agent.agentId}`, operator);
      expect(claimsOf(token)).toEqual({
        sub: agent.agentId,
        client_id: agent.agentId,
        scope: 'agents:read',
        jti: uuid,
        iat: expect.any(Number),
        exp: expect.any(Number),
        iss: service.issuer,
        aud: service.issuer,
        org: view['organizationId'],
        cred: agent.credentialId,
        gen: expect.any(String),
      });
      expect(Number.isInteger(claimsOf(token)['iat']) && Number.isInteger(claimsOf(token)['exp'])).toBe(true);
      expect(headerOf(token)).toEqual({ alg: 'RS256', typ: 'JWT', kid: expect.any(String) });
    });

    it('§5.1 gives every token a jti of its own, asked for at once', async () => {
      const tokens = await Promise.all(Array.from({ length: 20 }, () => service.api.token(agent)));
      expect(new Set(tokens.map((token) => claimsOf(token)['jti'])).size).toBe(20);
    });
  });

  describe('§5.2 error response', () => {
    async function expiredSecret(): Promise<ClientCredentials> {
      const client = await newAgent();
      const expiresAt = new Date(service.clock.nowMs() + 60_000).toISOString();
      const { clientSecret } = await service.api.secret(operator, client.agentId, { expiresAt });
      expect((await service.api.requestToken({ ...client, clientSecret })).status).toBe(200);
      service.clock.advance(60);
      return { ...client, clientSecret };
    }

    async function revokedSecret(): Promise<ClientCredentials> {
      const client = await newAgent();
      await service.api.secret(operator, client.agentId);
      await service.api.call('DELETE', `/agents/${client.agentId}/credentials/${client.credentialId}`, operator);
      return client;
    }

    async function rotatedSecret(): Promise<ClientCredentials> {
      const client = await newAgent();
      const path = `/agents/${client.agentId}/credentials/${client.credentialId}/rotate`;
      expect((await service.api.call('POST', path, operator)).status).toBe(201);
      return client;
    }

    async function decommissioned(): Promise<ClientCredentials> {
      const client = await newAgent();
      expect((await service.api.call('DELETE', `/agents/${client.agentId}`, operator)).status).toBe(204);
      return client;
    }

    const secretOfAnother = async (): Promise<ClientCredentials> => ({
      clientId: (await newAgent()).clientId,
      clientSecret: agent.clientSecret,
    });

    it.each<[string, () => Promise<ClientCredentials> | ClientCredentials]>([
      ['an unknown client', () => ({ clientId: randomUUID(), clientSecret: agent.clientSecret })],
      ['a client_id that is no UUID', () => ({ clientId: 'somebody', clientSecret: agent.clientSecret })],
      ['a wrong secret', () => ({ clientId: agent.clientId, clientSecret: 'wrong' })],
      ['a secret with one character more', () => ({ ...agent, clientSecret: `${agent.clientSecret}0` })],
      ['a secret with one character less', () => ({ ...agent, clientSecret: agent.clientSecret.slice(0, -1) })],
      ['the secret of another agent', secretOfAnother],
      ['an expired secret', expiredSecret],
      ['a revoked secret', revokedSecret],
      ['a rotated secret', rotatedSecret],
      ['a decommissioned agent', decommissioned],
    ])('§5.2 answers %s with one and the same invalid_client', async (_, make) => {
      const client = await make();
      const answer = await service.api.requestToken(client);
      expectError(answer, 401, 'invalid_client');
      expect(answer.text).toBe(JSON.stringify(INVALID_CLIENT));
      expect(answer.headers.get('www-authenticate')).toBeNull();
      const byBasic = await post(GRANT, basic(client));
      expectError(byBasic, 401, 'invalid_client');
      expect(byBasic.text).toBe(JSON.stringify(INVALID_CLIENT));
      expect(byBasic.headers.get('www-authenticate')).toMatch(/^Basic realm="/);
    });

    it('§5.2 answers invalid_request where grant_type is missing', async () => {
      expectError(await post({ client_id: agent.clientId, client_secret: agent.clientSecret }), 400, 'invalid_request');
      expectError(await post(''), 400, 'invalid_request');
      expectError(await service.api.send('POST', TOKEN), 400, 'invalid_request');
    });

    it.each(['authorization_code', 'password', 'refresh_token', 'urn:ietf:params:oauth:grant-type:jwt-bearer', 'x'])(
      '§5.2 answers unsupported_grant_type for %s',
      async (grant_type) => {
        const answer = await post(withSecret({ grant_type }));
        expectError(answer, 400, 'unsupported_grant_type');
        expect(answer.body['error_description']).toBe("Only 'client_credentials' grant type is supported.");
      },
    );

    it('§5.2 answers 403 unauthorized_client for a suspended agent', async () => {
      const client = await newAgent();
      await service.api.call('POST', `/agents/${client.agentId}/suspend`, operator);
      const answer = await service.api.requestToken(client);
      expectError(answer, 403, 'unauthorized_client');
      expect(answer.body['error_description']).toBe('Agent is currently suspended and cannot obtain tokens.');
    });

    it('§5.2 answers 403 unauthorized_client for a suspended organization, and 200 once it is active', async () => {
      const organizationId = await addOrganization(service, operator);
      const client = await newAgent({ organizationId });
      await turnOrganization(service, operator, organizationId, 'suspend');
      const answer = await service.api.requestToken(client);
      expectError(answer, 403, 'unauthorized_client');
      expect(answer.body['error_description']).toBe('Organization is currently suspended and cannot obtain tokens.');
      await turnOrganization(service, operator, organizationId, 'reactivate');
      expect((await service.api.requestToken(client)).status).toBe(200);
    });

    it.each([
      ['free', null, 'Free tier monthly token limit of 10,000 requests has been reached.'],
      ['pro', null, 'Pro tier monthly token limit of 1,000,000 requests has been reached.'],
      ['pro', 1234, 'Pro tier monthly token limit of 1,234 requests has been reached.'],
      ['enterprise', 5, 'Enterprise tier monthly token limit of 5 requests has been reached.'],
    ] as const)(
      '§5.2 answers 403 unauthorized_client at the quota of tier %s, override %s',
      async (tier, override, text) => {
        const organizationId = await addOrganization(service, operator, {
          tier,
          ...(override === null ? {} : { limits: { tokensPerMonth: override } }),
        });
        const client = await newAgent({ organizationId });
        await service.database.query(
          'UPDATE organizations SET limit_tokens_per_month = $2 WHERE organization_id = $1',
          [organizationId, override],
        );
        expect((await service.api.requestToken(client)).status).toBe(200);
        const limit = Number(/of ([\d,]+)/.exec(text)?.[1]?.replaceAll(',', ''));
        await service.database.query('UPDATE organization_ledgers SET tokens_used = $2 WHERE organization_id = $1', [
          organizationId,
          limit,
        ]);
        const answer = await service.api.requestToken(client);
        expectError(answer, 403, 'unauthorized_client');
        expect(answer.body['error_description']).toBe(text);
        const now = new Date(service.clock.nowMs());
        const firstOfNextMonth = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1);
        const retryAfter = Number(answer.headers.get('retry-after'));
        expect(Math.abs(retryAfter - (firstOfNextMonth - now.getTime()) / 1000)).toBeLessThan(5);
      },
    );

    it('§5.2 does not count refused requests', async () => {
      const organizationId = await addOrganization(service, operator, { tier: 'free' });
      const client = await newAgent({ organizationId });
      for (const more of [{ scope: 'admin:orgs' }, { client_secret: 'wrong' }, { resource: 'urn:nobody' }, {}]) {
        await service.api.requestToken(client, more);
      }
      const [ledger] = await service.database.query<{ tokens_used: string }>(
        'SELECT tokens_used FROM organization_ledgers WHERE organization_id = $1',
        [organizationId],
      );
      expect(ledger?.tokens_used).toBe('1');
    });

    describe('checks the shape, then the client, then status, then scope and resource, then quota', () => {
      let suspended: TestAgent;
      let exhausted: TestAgent;

      beforeAll(async () => {
        const caller = await service.api.token(service.operator);
        suspended = await service.api.agent(caller, { scopes: SCOPES });
        await service.api.call('POST', `/agents/${suspended.agentId}/suspend`, caller);
        const organizationId = await addOrganization(service, caller, { limits: { tokensPerMonth: 0 } });
        exhausted = await service.api.agent(caller, { scopes: SCOPES, organizationId });
      });

      const invalid = { client_id: 'nobody', client_secret: 'wrong' };
      it.each<[string, () => Record<string, string>, number, string]>([
        ['the grant before the client', () => ({ grant_type: 'password', ...invalid }), 400, 'unsupported_grant_type'],
        ['a missing grant before the client', () => ({ grant_type: '', ...invalid }), 400, 'invalid_request'],
        ['the client before the scope', () => ({ ...invalid, scope: 'nope' }), 401, 'invalid_client'],
        ['the client before the resource', () => ({ ...invalid, resource: 'nope' }), 401, 'invalid_client'],
        [
          'the secret before the status',
          () => ({ client_id: suspended.clientId, client_secret: 'x' }),
          401,
          'invalid_client',
        ],
        ['the status before the scope', () => ({ ...secretOf(suspended), scope: 'nope' }), 403, 'unauthorized_client'],
        [
          'the status before the resource',
          () => ({ ...secretOf(suspended), resource: 'no' }),
          403,
          'unauthorized_client',
        ],
        ['the scope before the quota', () => ({ ...secretOf(exhausted), scope: 'nope' }), 400, 'invalid_scope'],
        ['the resource before the quota', () => ({ ...secretOf(exhausted), resource: 'no' }), 400, 'invalid_target'],
        ['the quota last', () => secretOf(exhausted), 403, 'unauthorized_client'],
      ])('§5.2 %s', async (_, parameters, status, error) => {
        expectError(await post({ ...GRANT, ...parameters() }), status, error);
      });

      it('§5.2 a repeated parameter and two methods before an unsupported grant', async () => {
        const parameters: [string, string][] = [
          ['grant_type', 'password'],
          ['scope', 'a'],
          ['scope', 'b'],
        ];
        expectError(await post(parameters, basic(agent)), 400, 'invalid_request');
        expectError(await post({ grant_type: 'password', client_secret: 'x' }, basic(agent)), 400, 'invalid_request');
      });
    });

    const secretOf = ({ clientId, clientSecret }: ClientCredentials) => ({
      client_id: clientId,
      client_secret: clientSecret,
    });

    it('§5.2 answers 413 in the OAuth shape for a body over 64 KiB, and takes one of exactly 64 KiB', async () => {
      const form = new URLSearchParams(withSecret()).toString();
      const fill = (size: number) => `${form}&fill=${'x'.repeat(size - form.length - '&fill='.length)}`;
      expect((await post(fill(65_536))).status).toBe(200);
      expectError(await post(fill(65_537)), 413, 'invalid_request');
    });
  });

  it('§4.1.2.1 answers every request to the authorization endpoint with unsupported_response_type, never redirecting', async () => {
    const query = new URLSearchParams({
      response_type: 'code',
      client_id: agent.clientId,
      redirect_uri: 'https://client.example/callback',
    }).toString();
    for (const [method, path, init] of [
      ['GET', '/api/v1/authorize', {}],
      ['GET', `/api/v1/authorize?${query}`, {}],
      ['POST', '/api/v1/authorize', { body: query, headers: { 'Content-Type': FORM } }],
      ['POST', '/api/v1/authorize', {}],
    ] as const) {
      const answer = await service.api.send(method, path, { ...init, redirect: 'manual' });
      expectError(answer, 400, 'unsupported_response_type');
      expect(answer.headers.get('location')).toBeNull();
    }
  });
});

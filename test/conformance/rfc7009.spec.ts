import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { headerOf, jws, rs256 } from '../support/forge.js';
import { addOrganization, turnOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const REVOKE = '/api/v1/token/revoke';

describe('RFC 7009, token revocation', () => {
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
    agent = await service.api.agent(operator, { scopes: ['agents:read'] });
  });

  const revoke = (form: Record<string, string> | [string, string][], headers?: Record<string, string>) =>
    service.api.form(REVOKE, form, headers);
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
  const postAuth = ({ clientId, clientSecret }: TestAgent) => ({ client_id: clientId, client_secret: clientSecret });
  const isActive = async (token: string) => (await service.api.introspect(operator, token))['active'];

  function expectDone({ status, text, headers }: Answer): void {
    expect([status, text]).toEqual([200, '{}']);
    expect(headers.get('content-type')).toMatch(/^application\/json\b/);
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('pragma')).toBe('no-cache');
  }

  function expectError(answer: Answer, status: number, error: string): void {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    expect(Object.keys(answer.body)).toEqual(['error', 'error_description']);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('cache-control')).toBe('no-store');
  }

  describe('§2.1 revocation request', () => {
    it.each<[string, (token: string) => Promise<Answer>]>([
      ['the token itself as Bearer', (token) => revoke({ token }, bearer(token))],
      ['client_secret_basic', (token) => revoke({ token }, basic(agent))],
      [
        'client_secret_basic, client_id in the body too',
        (token) => revoke({ token, client_id: agent.clientId }, basic(agent)),
      ],
      ['client_secret_post', (token) => revoke({ token, ...postAuth(agent) })],
    ])('§2.1 an agent revokes its own token with %s', async (_, act) => {
      const token = await service.api.token(agent);
      expectDone(await act(token));
      expect(await isActive(token)).toBe(false);
      expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
    });

    it('§2.1 an agent revokes its own token with another of its tokens, which lives on', async () => {
      const [caller, token] = [await service.api.token(agent), await service.api.token(agent)];
      expectDone(await service.api.revoke(caller, token));
      expect([await isActive(token), await isActive(caller)]).toEqual([false, true]);
    });

    it('§2.1 an agent without any scope revokes its own token', async () => {
      const bare = await service.api.agent(operator);
      const token = await service.api.token(bare);
      expectDone(await service.api.revoke(token, token));
      const another = await service.api.token(bare);
      expectDone(await revoke({ token: another }, basic(bare)));
      expect([await isActive(token), await isActive(another)]).toEqual([false, false]);
    });

    it.each(['access_token', 'refresh_token', 'pizza', ''])('§2.1 does not need the hint "%s"', async (hint) => {
      const token = await service.api.token(agent);
      expectDone(await revoke({ token, token_type_hint: hint }, basic(agent)));
      expect(await isActive(token)).toBe(false);
    });

    it('§2.1 refuses the token of another agent, which lives on', async () => {
      const caller = await service.api.agent(operator, { scopes: ['agents:write', 'agents:read', 'tokens:read'] });
      const token = await service.api.token(agent);
      const asCaller = await service.api.token(caller);
      for (const answer of [
        await service.api.revoke(asCaller, token),
        await revoke({ token }, basic(caller)),
        await revoke({ token, ...postAuth(caller) }),
      ]) {
        expectError(answer, 403, 'insufficient_scope');
        expect(answer.headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope", scope="admin:orgs"');
      }
      expect(await isActive(token)).toBe(true);
    });

    it('§2.1 refuses the token of another organization likewise, which lives on', async () => {
      const organizationId = await addOrganization(service, operator);
      const foreign = await service.api.agent(operator, { organizationId, scopes: ['agents:read'] });
      const token = await service.api.token(foreign);
      expectError(await revoke({ token }, basic(agent)), 403, 'insufficient_scope');
      expect(await isActive(token)).toBe(true);
    });

    it('§2.1 the operator revokes any token, of any organization', async () => {
      const organizationId = await addOrganization(service, operator);
      const foreign = await service.api.agent(operator, { organizationId });
      for (const client of [agent, foreign]) {
        const token = await service.api.token(client);
        expectDone(await service.api.revoke(operator, token));
        expect(await isActive(token)).toBe(false);
      }
    });

    it('§2.1 a token of the operator without admin:orgs revokes no other agent’s token', async () => {
      const weak = await service.api.token(service.operator, { scope: 'tokens:read' });
      const token = await service.api.token(agent);
      expectError(await service.api.revoke(weak, token), 403, 'insufficient_scope');
      expect(await isActive(token)).toBe(true);
    });

    it('§2.1 requires the parameter token, once, in the body', async () => {
      const token = await service.api.token(agent);
      expectError(await revoke({}, basic(agent)), 400, 'invalid_request');
      expectError(await revoke({ token: '' }, basic(agent)), 400, 'invalid_request');
      const twice: [string, string][] = [
        ['token', token],
        ['token', token],
      ];
      expectError(await revoke(twice, bearer(token)), 400, 'invalid_request');
      expectError(await service.api.form(`${REVOKE}?token=${token}`, {}, bearer(token)), 400, 'invalid_request');
      expect(await isActive(token)).toBe(true);
    });
  });

  describe('§2.2 revocation response', () => {
    const foreignKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

    it.each<[string, (token: string) => string]>([
      ['garbage', () => 'garbage'],
      ['three empty parts', () => '..'],
      ['a refresh token of somebody else', () => randomUUID()],
      ['a token cut short', (token) => token.slice(0, -4)],
      ['a token that another key signed', (token) => jws(headerOf(token), claimsOf(token), rs256(foreignKey))],
      ['60,000 characters', () => 'x'.repeat(60_000)],
    ])('§2.2 answers 200 {} for %s', async (_, forge) => {
      const token = await service.api.token(agent);
      expectDone(await revoke({ token: forge(token) }, bearer(token)));
      expect(await isActive(token)).toBe(true);
    });

    it('§2.2 answers 200 {} for a token that is revoked or expired already', async () => {
      const short = await service.api.agent(operator, { tokenTtlSeconds: 60 });
      const expired = await service.api.token(short);
      service.clock.advance(60);
      expectDone(await revoke({ token: expired }, basic(short)));
      const token = await service.api.token(agent);
      expectDone(await revoke({ token }, basic(agent)));
      expectDone(await revoke({ token }, basic(agent)));
    });

    it('§2.2 answers 200 {} for the dead token of another agent, too', async () => {
      const token = await service.api.token(agent);
      await service.api.revoke(token, token);
      expectDone(await revoke({ token }, basic(await service.api.agent(operator))));
    });

    it('§2.2 answers each of many revocations of one token at once with 200 {}, and logs one', async () => {
      const token = await service.api.token(agent);
      const answers = await Promise.all(Array.from({ length: 10 }, () => revoke({ token }, basic(agent))));
      answers.forEach(expectDone);
      const { body } = await service.api.call<{ data: { target: { id: string } }[] }>(
        'GET',
        `/audit?action=token.revoked&agentId=${agent.agentId}`,
        operator,
      );
      expect(body.data.map(({ target }) => target.id)).toEqual([claimsOf(token)['jti']]);
    });

    it('§2 leaves the credential working: the next token is active', async () => {
      const token = await service.api.token(agent);
      await revoke({ token }, basic(agent));
      expect(await isActive(await service.api.token(agent))).toBe(true);
    });
  });

  describe('§2.2.1 error response', () => {
    it('§2.2.1 refuses a caller that does not authenticate itself', async () => {
      const token = await service.api.token(agent);
      const answer = await revoke({ token, client_id: agent.clientId });
      expectError(answer, 401, 'invalid_token');
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      expect(await isActive(token)).toBe(true);
    });

    it('§2.2.1 refuses wrong client credentials with invalid_client', async () => {
      const token = await service.api.token(agent);
      const wrong = { ...agent, clientSecret: 'wrong' };
      const byBasic = await revoke({ token }, basic(wrong));
      expectError(byBasic, 401, 'invalid_client');
      expect(byBasic.headers.get('www-authenticate')).toMatch(/^Basic /);
      expectError(await revoke({ token, ...postAuth(wrong) }), 401, 'invalid_client');
      expect(await isActive(token)).toBe(true);
    });

    it('§2.2.1 refuses two ways of authenticating', async () => {
      const token = await service.api.token(agent);
      expectError(await revoke({ token, client_secret: agent.clientSecret }, bearer(token)), 400, 'invalid_request');
      expectError(await revoke({ token, ...postAuth(agent) }, basic(agent)), 400, 'invalid_request');
      expect(await isActive(token)).toBe(true);
    });

    it('§2.2.1 refuses a suspended caller with 401, by Bearer and by client authentication', async () => {
      const token = await service.api.token(agent);
      await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
      expectError(await service.api.revoke(token, token), 401, 'invalid_token');
      expectError(await revoke({ token }, basic(agent)), 401, 'invalid_client');
    });

    it('§2.2.1 refuses a caller of a suspended organization with 401', async () => {
      const organizationId = await addOrganization(service, operator);
      const tenant = await service.api.agent(operator, { organizationId });
      const token = await service.api.token(tenant);
      await turnOrganization(service, operator, organizationId, 'suspend');
      expectError(await service.api.revoke(token, token), 401, 'invalid_token');
      expectError(await revoke({ token }, basic(tenant)), 401, 'invalid_client');
    });
  });

  it('§2.3 does not wrap answers for cross-origin scripts', async () => {
    const answer = await revoke({ token: 'x', callback: 'steal' }, basic(agent));
    expectDone(answer);
  });
});

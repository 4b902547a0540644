import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { freePort, startTestApp, type TestApp } from '../support/test-app.js';
import { bearer, registerResource, startExample, stopExamples, type ListeningExample } from './example-process.js';

const AUDIENCE = 'https://orders.example.com';
const INVALID = 'Bearer error="invalid_token"';

describe('protect your own API', () => {
  let service: TestApp;
  let operator: string;
  /** May read orders and stock. */
  let reader: TestAgent;
  /** May write orders only. */
  let writer: TestAgent;
  /** The introspecting API itself. */
  let guard: TestAgent;
  let verifying: ListeningExample;
  let introspecting: ListeningExample;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    await registerResource(service, operator, AUDIENCE, ['orders:read', 'orders:write']);
    await registerResource(service, operator, 'https://stock.example.com', ['stock:read']);
    reader = await service.api.agent(operator, { scopes: ['orders:read', 'stock:read'] });
    writer = await service.api.agent(operator, { scopes: ['orders:write'] });
    guard = await service.api.agent(operator, { scopes: ['tokens:read'] });
    [verifying, introspecting] = await Promise.all([
      startExample('protected-api-jwks/server.mjs', { ISSUER: service.issuer }),
      startIntrospecting(guard),
    ]);
  });
  afterAll(async () => {
    await stopExamples();
    await service.close();
  });

  const orders = (api: ListeningExample, token?: string): Promise<Answer> =>
    api.api.send('GET', '/orders', token === undefined ? {} : bearer(token));

  const challengeOf = ({ status, headers }: Answer) => [status, headers.get('www-authenticate')];

  function startIntrospecting({ clientId, clientSecret }: TestAgent): Promise<ListeningExample> {
    return startExample('protected-api-introspection/server.mjs', {
      ISSUER: service.issuer,
      CLIENT_ID: clientId,
      CLIENT_SECRET: clientSecret,
    });
  }

  describe.each(['protected-api-jwks', 'protected-api-introspection'] as const)('%s', (example) => {
    let api: ListeningExample;

    beforeAll(() => {
      api = example === 'protected-api-jwks' ? verifying : introspecting;
    });

    it('answers whoever has a token for it with the scope', async () => {
      const { status, body } = await orders(api, await service.api.token(reader, { scope: 'orders:read' }));
      expect(status).toBe(200);
      expect(body).toEqual({ orders: [{ number: 'A-1001', total: '42.00 EUR' }], readBy: reader.agentId });
    });

    it('takes a token for several audiences, of which it is one', async () => {
      const token = await service.api.token(reader);
      expect(claimsOf(token)['aud']).toEqual(expect.arrayContaining([AUDIENCE, 'https://stock.example.com']));
      expect((await orders(api, token)).status).toBe(200);
    });

    it('answers 401 without error where no token is given', async () => {
      expect(challengeOf(await orders(api))).toEqual([401, 'Bearer']);
      const basic = await api.api.send('GET', '/orders', { headers: { Authorization: 'Basic eDp5' } });
      expect(challengeOf(basic)).toEqual([401, 'Bearer']);
    });

    it('answers 401 to a token for another resource', async () => {
      const forStock = await service.api.token(reader, { resource: 'https://stock.example.com' });
      expect(challengeOf(await orders(api, forStock))).toEqual([401, INVALID]);
      expect(challengeOf(await orders(api, operator))).toEqual([401, INVALID]);
    });

    it('answers 401 to garbage and to a changed token', async () => {
      const [header = '', payload = '', signature = ''] = (await service.api.token(writer)).split('.');
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as object;
      const changed = Buffer.from(JSON.stringify({ ...claims, scope: 'orders:read' })).toString('base64url');
      const none = Buffer.from('{"alg":"none"}').toString('base64url');
      for (const token of ['x', 'a.b.c', `${header}.${changed}.${signature}`, `${none}.${changed}.`]) {
        expect(challengeOf(await orders(api, token))).toEqual([401, INVALID]);
      }
    });

    it('answers 403 to a token without the scope', async () => {
      const answer = await orders(api, await service.api.token(writer));
      expect(challengeOf(answer)).toEqual([403, 'Bearer error="insufficient_scope", scope="orders:read"']);
    });
  });

  describe('a revoked token', () => {
    /** By the agent itself: its token is for the orders, so it proves itself with its secret. */
    async function revoke(token: string): Promise<void> {
      const { status } = await service.api.form('/api/v1/token/revoke', { token }, basic(reader));
      expect(status).toBe(200);
    }

    it('is refused at once by the API that introspects', async () => {
      const token = await service.api.token(reader, { scope: 'orders:read' });
      expect((await orders(introspecting, token)).status).toBe(200);
      await revoke(token);
      expect(challengeOf(await orders(introspecting, token))).toEqual([401, INVALID]);
    });

    it('is accepted until it expires by the API that verifies it itself', async () => {
      const token = await service.api.token(reader, { scope: 'orders:read' });
      await revoke(token);
      expect((await orders(verifying, token)).status).toBe(200);
    });
  });

  it('refuses the tokens of a suspended agent at once where it introspects', async () => {
    const agent = await service.api.agent(operator, { scopes: ['orders:read'] });
    const token = await service.api.token(agent);
    expect((await orders(introspecting, token)).status).toBe(200);
    await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    expect(challengeOf(await orders(introspecting, token))).toEqual([401, INVALID]);
  });

  it('refuses an expired token where it verifies tokens itself', async () => {
    const short = await service.api.agent(operator, { scopes: ['orders:read'], tokenTtlSeconds: 60 });
    service.clock.advance(-120);
    const token = await service.api.token(short);
    service.clock.advance(120);
    expect(challengeOf(await orders(verifying, token))).toEqual([401, INVALID]);
  });

  describe('without the authorization server', () => {
    it('the API that verifies tokens itself goes on with the keys that it has; the one that introspects says 503', async () => {
      const own = await startTestApp();
      try {
        const admin = await own.api.token(own.operator);
        await registerResource(own, admin, AUDIENCE, ['orders:read']);
        const token = await own.api.token(await own.api.agent(admin, { scopes: ['orders:read'] }));
        const { clientId, clientSecret } = own.operator;
        const [byKeys, byAsking] = await Promise.all([
          startExample('protected-api-jwks/server.mjs', { ISSUER: own.issuer }),
          startExample('protected-api-introspection/server.mjs', {
            ISSUER: own.issuer,
            CLIENT_ID: clientId,
            CLIENT_SECRET: clientSecret,
          }),
        ]);
        const statuses = async () => [(await orders(byKeys, token)).status, (await orders(byAsking, token)).status];
        expect(await statuses()).toEqual([200, 200]);
        await own.app.close();
        expect(await statuses()).toEqual([200, 503]);
      } finally {
        await own.close();
      }
    });

    it('the API that verifies tokens itself says 503, not 401', async () => {
      const api = await startExample('protected-api-jwks/server.mjs', {
        ISSUER: `http://127.0.0.1:${await freePort()}`,
      });
      expect((await orders(api, await service.api.token(reader))).status).toBe(503);
    });

    it('the API that introspects says 503 where its own credential is refused', async () => {
      const api = await startIntrospecting({ ...guard, clientSecret: 'wrong' });
      expect((await orders(api, await service.api.token(reader))).status).toBe(503);
    });

    it('the API that introspects says 503 where it may not introspect', async () => {
      const api = await startIntrospecting(writer);
      expect((await orders(api, await service.api.token(reader))).status).toBe(503);
    });
  });
});

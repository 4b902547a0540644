import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { SchedulerRegistry } from '@nestjs/schedule';
import type { EventEmitter } from 'node:events';
import { DataSource } from 'typeorm';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';
import { DatabaseWatch } from '../../src/platform/database/database-watch.js';
import { poolOf } from '../../src/platform/database/statement-pool.js';
import { WebhookDispatcher } from '../../src/webhooks/webhook-dispatcher.js';
import type { TestAgent } from '../support/api.js';
import { assertion, assertionKey } from '../support/partner-issuer.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { holdLedgers, lockWaiters, queueDepth } from '../faults/conditions.js';
import { until } from '../support/until.js';

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/**
 * How many statements each request costs: what decides how fast the service is, so a change that adds one has to
 * change a number here.
 */
describe('the statements of', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;
  let token: string;
  /** The first words of each statement since the test began. */
  let statements: string[] = [];
  /** How often since then the server was waited for. */
  let roundTrips = 0;

  beforeAll(async () => {
    service = await startTestApp();
    const { app, api } = service;
    operator = await api.token(service.operator);
    agent = await api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
    token = await api.token(agent);
    // What runs by the clock, whatever the number of requests: the jobs, the look for webhooks to send, and the watch.
    const scheduler = app.get(SchedulerRegistry);
    for (const name of scheduler.getIntervals()) scheduler.deleteInterval(name);
    await app.get(WebhookDispatcher).beforeApplicationShutdown();
    await app.get(DatabaseWatch).onApplicationShutdown();
    const pool = poolOf(app.get(DataSource)) as unknown as { Client: { prototype: Client } };
    const query = pool.Client.prototype.query as (...args: unknown[]) => unknown;
    jest.spyOn(pool.Client.prototype, 'query').mockImplementation(function (this: Client, ...args: unknown[]) {
      const [first] = args as [string | { text: string; name?: string }];
      statements.push(typeof first === 'string' ? shortened(first) : (first.name ?? shortened(first.text)));
      watch(this);
      return query.apply(this, args) as never;
    });
    // Rounds that were under way when their jobs were ended still go on to their end.
    await until('nothing is asked by itself', async () => {
      statements = [];
      await delay(100);
      return statements.length === 0;
    });
  });
  beforeEach(() => {
    statements = [];
    roundTrips = 0;
  });
  afterAll(async () => {
    jest.restoreAllMocks();
    await service.close();
  });

  const watched = new WeakSet<Client>();

  function watch(client: Client): void {
    if (watched.has(client)) return;
    watched.add(client);
    const { connection } = client as unknown as { connection: EventEmitter };
    connection.on('readyForQuery', () => (roundTrips += 1));
  }

  function shortened(text: string): string {
    return text.trim().split(/\s+/).slice(0, 2).join(' ');
  }

  it('a token request are a lookup and a flush', async () => {
    expect((await service.api.requestToken(agent)).status).toBe(200);
    expect(statements).toEqual(['read_clients', 'issue_tokens']);
  });

  it('a token request, an introspection and a management read wait for the server once a statement', async () => {
    expect((await service.api.requestToken(agent)).status).toBe(200);
    expect([statements.length, roundTrips]).toEqual([2, 2]);
    await service.api.introspect(token, token);
    expect([statements.length, roundTrips]).toEqual([3, 3]);
    await service.api.call('GET', `/agents/${agent.agentId}`, token);
    expect([statements.length, roundTrips]).toEqual([5, 5]);
  });

  it('40 token requests that wait for one another are one flush', async () => {
    const hold = await holdLedgers(service.database);
    const first = service.api.requestToken(agent);
    await lockWaiters(service.database, 'issue_tokens');
    const others = Array.from({ length: 40 }, () => service.api.requestToken(agent));
    await queueDepth(service, 'tokens', 40);
    await hold.release();
    for (const { status } of await Promise.all([first, ...others])) expect(status).toBe(200);
    expect(statements.filter((name) => name === 'issue_tokens')).toHaveLength(2);
    expect(roundTrips).toBe(statements.length);
  });

  it('a token request that is refused are the lookup, its audit event and its count', async () => {
    expect((await service.api.requestToken({ ...agent, clientSecret: 'wrong' })).status).toBe(401);
    expect(statements[0]).toBe('read_clients');
    expect([...statements].sort()).toEqual(['read_clients', 'record_authentication_failures', 'record_refusals']);
  });

  it('a token request that is refused again within a minute are the lookup and its count', async () => {
    expect((await service.api.requestToken({ ...agent, clientSecret: 'wrong' })).status).toBe(401);
    expect(statements).toEqual(['read_clients', 'record_authentication_failures']);
  });

  it('a token request that succeeds where others failed just before are no more: counting failures costs it none', async () => {
    expect((await service.api.requestToken({ ...agent, clientSecret: 'wrong' })).status).toBe(401);
    statements = [];
    expect((await service.api.requestToken(agent)).status).toBe(200);
    expect(statements).toEqual(['read_clients', 'issue_tokens']);
  });

  it('a token request of an unknown client are the lookup and its count', async () => {
    const stranger = { ...agent, clientId: '00000000-0000-4000-8000-000000000000' };
    expect((await service.api.requestToken(stranger)).status).toBe(401);
    expect(statements).toEqual(['read_clients', 'record_authentication_failures']);
  });

  it('20 parallel token requests are at most as many, and fewer where they meet', async () => {
    await Promise.all(Array.from({ length: 20 }, () => service.api.requestToken(agent)));
    expect(statements.filter((name) => name === 'issue_tokens').length).toBeLessThan(20);
    expect(new Set(statements)).toEqual(new Set(['read_clients', 'issue_tokens']));
  });

  it('an introspection with a Bearer token are one, for caller and target together', async () => {
    // Whichever of the two signatures was verified before.
    const [caller, target] = [await service.api.token(agent), await service.api.token(agent)];
    for (const [by, of] of [
      [token, target],
      [caller, target],
      [caller, operator],
    ] as const) {
      statements = [];
      expect(await service.api.introspect(by, of)).toMatchObject({ active: true });
      expect(statements).toEqual(['token_tiers']);
    }
  });

  it('40 reads of agents that come together share theirs', async () => {
    const read = () => service.api.call('GET', `/agents/${agent.agentId}`, token);
    for (const { status } of await Promise.all(Array.from({ length: 40 }, read))) expect(status).toBe(200);
    expect(new Set(statements)).toEqual(new Set(['token_tiers', 'read_agents']));
    expect(statements.length).toBeLessThan(40);
  });

  it('an introspection with client authentication are two', async () => {
    const { clientId: client_id, clientSecret: client_secret } = agent;
    const { body } = await service.api.form('/api/v1/token/introspect', { token, client_id, client_secret });
    expect(body).toMatchObject({ active: true });
    expect(statements).toEqual(['read_clients', 'token_tiers']);
  });

  it('a token request with an assertion of its own are a lookup, the use of the assertion, and a flush', async () => {
    const key = assertionKey();
    await service.api.call('POST', `/agents/${agent.agentId}/keys`, operator, { jwk: key.jwk });
    const request = (signer = key): ReturnType<TestApp['api']['form']> => {
      const now = service.clock.nowSeconds();
      const claims = { iss: agent.agentId, sub: agent.agentId, aud: service.issuer, exp: now + 60, jti: randomUUID() };
      const client_assertion = assertion(signer, claims);
      const form = { grant_type: 'client_credentials', client_assertion_type: JWT_BEARER };
      return service.api.form('/api/v1/token', { ...form, client_assertion });
    };
    statements = [];
    expect((await request()).status).toBe(200);
    expect(statements).toEqual(['read_assertion_clients', 'use_assertions', 'issue_tokens']);
    statements = [];
    expect((await request(assertionKey())).status).toBe(401);
    expect(statements[0]).toBe('read_assertion_clients');
    expect(statements).not.toContain('use_assertions');
    statements = [];
    await Promise.all(Array.from({ length: 20 }, () => request()));
    expect(statements.filter((name) => name === 'use_assertions').length).toBeLessThan(20);
    expect(new Set(statements)).toEqual(new Set(['read_assertion_clients', 'use_assertions', 'issue_tokens']));
  });

  it('a token request with an assertion of a partner are a lookup and a flush, as with a secret', async () => {
    const key = assertionKey();
    const issuer = 'https://partner.example';
    const partner = await service.api.call('POST', '/federation/partners', operator, {
      name: 'x',
      issuer,
      jwks: { keys: [key.jwk] },
    });
    const identity = { partnerId: partner.body['partnerId'], subject: 'x' };
    await service.api.call('POST', `/agents/${agent.agentId}/federated-identities`, operator, identity);
    statements = [];
    const claims = { iss: issuer, sub: 'x', aud: service.issuer, exp: service.clock.nowSeconds() + 60 };
    const answer = await service.api.form('/api/v1/token', {
      grant_type: 'client_credentials',
      client_id: agent.agentId,
      client_assertion_type: JWT_BEARER,
      client_assertion: assertion(key, claims),
    });
    expect(answer.status).toBe(200);
    expect(statements).toEqual(['read_assertion_clients', 'issue_tokens']);
  });

  it('a management request with a bad token are none', async () => {
    expect((await service.api.call('GET', '/agents', 'garbage')).status).toBe(401);
    expect(statements).toEqual([]);
  });

  it('the reading of an agent are the check of the token and the read', async () => {
    expect((await service.api.call('GET', `/agents/${agent.agentId}`, token)).status).toBe(200);
    expect(statements).toEqual(['token_tiers', 'read_agents']);
  });

  it('the reading of an agent by the operator are one more, which finds its organization', async () => {
    expect((await service.api.call('GET', `/agents/${agent.agentId}`, operator)).status).toBe(200);
    expect(statements).toHaveLength(3);
  });

  it('a revocation are the checks of caller and token, and one transaction of three writes', async () => {
    const revoked = await service.api.token(agent);
    statements = [];
    expect((await service.api.revoke(operator, revoked)).status).toBe(200);
    expect(statements).toEqual([
      ...['token_tiers', 'token_tiers'],
      ...['START TRANSACTION', 'SET TRANSACTION', 'SELECT 1', 'SELECT (tokens_alive(ARRAY[$1::uuid],'],
      ...['INSERT INTO', 'SELECT event_sequence,', 'COMMIT'],
    ]);
  });

  it('the discovery documents are at most the keys', async () => {
    await service.api.send('GET', '/.well-known/oauth-authorization-server');
    expect(statements).toEqual([]);
    await service.api.send('GET', '/.well-known/jwks.json');
    expect(statements.length).toBeLessThanOrEqual(1);
  });
});

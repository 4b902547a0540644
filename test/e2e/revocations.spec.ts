import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from 'jose';
import { randomUUID } from 'node:crypto';
import { problems } from '../../src/platform/kernel/problem.js';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../../src/platform/kernel/scopes.js';
import { LivingTokensRepository } from '../../src/revocations/living-tokens.repository.js';
import { holdLedgers, lockWaiters, withPatientStatements } from '../faults/conditions.js';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { addOrganization, turnOrganization } from '../support/organizations.js';
import { assertion, assertionKey, PartnerIssuer, type AssertionKey } from '../support/partner-issuer.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

const ISSUER = 'https://id.example';
const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const SUBJECT = 'system:serviceaccount:payments:agent';
const SCOPES = ['agents:read', 'tokens:read'];

/** Two replicas on one database, and an issuer that proves agents. */
let database: TestDatabase;
let clock: SettableClock;
let one: TestApp;
let other: TestApp;
let operator: string;
let partner: PartnerIssuer;

beforeAll(async () => {
  database = await createTestDatabase();
  clock = new SettableClock();
  const env = { ISSUER, FEDERATION_ALLOWED_NETWORKS: '127.0.0.1' };
  one = await withPatientStatements(await startTestApp({ database, clock, env }));
  other = await withPatientStatements(await startTestApp({ database, clock, env }));
  partner = await PartnerIssuer.start();
});
beforeEach(async () => {
  operator = await one.api.token(one.operator);
});
afterAll(async () => {
  await one.close();
  await other.close();
  await partner.close();
  await database.drop();
});

function revoke(selector: Json, more: Json = {}, token = operator, on = one): Promise<Answer> {
  return on.api.call('POST', '/revocations', token, { selector, ...more });
}

async function revoked(selector: Json, more: Json = {}): Promise<Json> {
  const { status, body, text } = await revoke(selector, more);
  if (status !== 200) throw new Error(`nothing revoked: ${status} ${text}`);
  return body;
}

/** Whether a token is alive on the other replica than the one that revokes: as Bearer token and by introspection. */
async function alive(token: string): Promise<boolean> {
  const bearer = (await other.api.call('GET', '/agents?limit=1', token)).status;
  const { active } = await other.api.introspect(operator, token);
  expect([bearer, active]).toEqual(active === true ? [200, true] : [401, false]);
  return active === true;
}

/** Whether the other replica knows already that a token is dead: one question, so that it may change while it is asked. */
const isInactive = async (token: string): Promise<boolean> =>
  (await other.api.introspect(operator, token))['active'] === false;

/** Has the counts of a replica read the log, and wait with what they read until they may go on. */
function holdCounts(on: TestApp) {
  const repository = on.app.get(LivingTokensRepository);
  const count = repository.count.bind(repository);
  let goOn = (): void => undefined;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  let [underWay, most] = [0, 0];
  const counts = jest.spyOn(repository, 'count').mockImplementation(async (...asked) => {
    underWay += 1;
    most = Math.max(most, underWay);
    const counted = await count(...asked);
    await held;
    underWay -= 1;
    return counted;
  });
  return {
    counts: () => counts.mock.calls.length,
    /** How many were under way at one time. */
    most: () => most,
    goOn: () => goOn(),
    restore: () => {
      goOn();
      counts.mockRestore();
    },
  };
}

const aliveEach = (tokens: readonly string[]): Promise<boolean[]> => Promise.all(tokens.map(alive));

async function tokenByAssertion(agent: TestAgent, client_assertion: string): Promise<string> {
  const asked = await other.api.form('/api/v1/token', {
    grant_type: 'client_credentials',
    client_id: agent.clientId,
    client_assertion_type: TYPE,
    client_assertion,
  });
  if (asked.status !== 200) throw new Error(`no token: ${asked.status} ${asked.text}`);
  return asked.body['access_token'] as string;
}

const times = (): Json => ({ iat: clock.nowSeconds(), exp: clock.nowSeconds() + 120 });
const byKey = (agent: TestAgent, key: AssertionKey): Promise<string> =>
  tokenByAssertion(
    agent,
    assertion(key, { iss: agent.agentId, sub: agent.agentId, aud: ISSUER, jti: randomUUID(), ...times() }),
  );
const byPartner = (agent: TestAgent): Promise<string> =>
  tokenByAssertion(agent, partner.mint({ sub: SUBJECT, aud: ISSUER, ...times() }));

/** An agent of an organization of its own that proves itself in every way. */
interface Proven extends TestAgent {
  readonly organizationId: string;
  readonly keyId: string;
  readonly key: AssertionKey;
  readonly partnerId: string;
  readonly identityId: string;
  readonly second: TestAgent;
}

async function must(method: string, path: string, body: Json): Promise<Json> {
  const answer = await one.api.call(method, path, operator, body);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  return answer.body;
}

async function prove(organizationId: string, partnerId: string): Promise<Omit<Proven, 'second'>> {
  const agent = await one.api.agent(operator, { organizationId, scopes: SCOPES });
  const key = assertionKey();
  const { credentialId: keyId } = await must('POST', `/agents/${agent.agentId}/keys`, { jwk: key.jwk });
  const identity = await must('POST', `/agents/${agent.agentId}/federated-identities`, { partnerId, subject: SUBJECT });
  const identityId = identity['credentialId'] as string;
  return { ...agent, organizationId, key, keyId: keyId as string, partnerId, identityId };
}

async function proven(): Promise<Proven> {
  const organizationId = await addOrganization(one, operator);
  const made = await must('POST', '/federation/partners', { organizationId, name: 'cluster', issuer: partner.url });
  const agent = await prove(organizationId, made['partnerId'] as string);
  return { ...agent, second: await one.api.agent(operator, { organizationId, scopes: SCOPES }) };
}

/** A token by each way of the agent, and one of the second agent. */
async function tokensOf(agent: Proven) {
  return {
    secret: await other.api.token(agent),
    key: await byKey(agent, agent.key),
    partner: await byPartner(agent),
    second: await other.api.token(agent.second),
  };
}

type Way = keyof Awaited<ReturnType<typeof tokensOf>>;

const SELECTORS: readonly [name: string, selector: (agent: Proven) => Json, dies: readonly Way[], counts: Json][] = [
  ['a secret', ({ credentialId }) => ({ credentialId }), ['secret'], { agents: 1, credentials: 1, tokens: 1 }],
  ['a key', ({ keyId }) => ({ keyId }), ['key'], { agents: 1, credentials: 1, tokens: 1 }],
  [
    'a key as a credential',
    ({ keyId }) => ({ credentialId: keyId }),
    ['key'],
    { agents: 1, credentials: 1, tokens: 1 },
  ],
  [
    'a federated identity',
    ({ identityId }) => ({ credentialId: identityId }),
    ['partner'],
    { agents: 1, credentials: 1, tokens: 1 },
  ],
  ['a partner', ({ partnerId }) => ({ partnerId }), ['partner'], { agents: 1, credentials: 1, tokens: 1 }],
  ['an agent', ({ agentId }) => ({ agentId }), ['secret', 'key', 'partner'], { agents: 1, credentials: 3, tokens: 3 }],
  [
    'an organization',
    ({ organizationId }) => ({ organizationId }),
    ['secret', 'key', 'partner', 'second'],
    { agents: 2, credentials: 4, tokens: 4 },
  ],
];

describe.each(SELECTORS)('a revocation by %s, on one of two replicas', (_name, selector, dies, counts) => {
  it('ends what it names everywhere on the very next request, and nothing else', async () => {
    const agent = await proven();
    const before = await tokensOf(agent);
    expect(await revoked(selector(agent))).toMatchObject({ dryRun: false, ...counts });
    for (const [way, token] of Object.entries(before)) {
      expect([way, await alive(token)]).toEqual([way, !dies.includes(way as Way)]);
    }
  });

  it('lets what is issued after the answer live, within the same millisecond', async () => {
    const agent = await proven();
    clock.freeze(new Date(clock.nowMs()).toISOString());
    try {
      const before = await tokensOf(agent);
      await revoked(selector(agent));
      const after = await tokensOf(agent);
      expect(claimsOf(after.secret)['iat']).toBe(claimsOf(before.secret)['iat']);
      expect(await aliveEach(Object.values(after))).toEqual([true, true, true, true]);
      // So do those of a revocation up to that very instant.
      await revoked({ ...selector(agent), issuedBefore: new Date(clock.nowMs()).toISOString() });
      const last = await tokensOf(agent);
      expect(await aliveEach([...Object.values(after), ...Object.values(last)])).toEqual(Array(8).fill(true));
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  it('with issuedBefore ends what was issued before that instant, to the millisecond', async () => {
    const agent = await proven();
    const start = Math.ceil(clock.nowMs() / 1000) * 1000;
    const instants = [-1000, -1, 0, 1, 1000].map((offset) => new Date(start + offset).toISOString());
    try {
      const issued: Awaited<ReturnType<typeof tokensOf>>[] = [];
      for (const instant of instants) {
        clock.freeze(instant);
        issued.push(await tokensOf(agent));
      }
      const preview = await revoked({ ...selector(agent), issuedBefore: instants[2] }, { dryRun: true });
      const outcome = await revoked({ ...selector(agent), issuedBefore: instants[2] });
      const twice = { ...counts, tokens: 2 * (counts['tokens'] as number) };
      expect([preview, outcome]).toEqual([expect.objectContaining(twice), expect.objectContaining(twice)]);
      for (const [index, tokens] of issued.entries()) {
        for (const [way, token] of Object.entries(tokens)) {
          const lives = index >= 2 || !dies.includes(way as Way);
          expect([instants[index], way, await alive(token)]).toEqual([instants[index], way, lives]);
        }
      }
      // What the token says of itself agrees at every whole second.
      expect(claimsOf(issued[1]?.secret ?? '')['iat']).toBe(start / 1000 - 1);
      expect(claimsOf(issued[2]?.secret ?? '')['iat']).toBe(start / 1000);
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  it('tells beforehand what would die, and changes nothing by it', async () => {
    const agent = await proven();
    const before = await tokensOf(agent);
    const rows = () =>
      database.query(
        `SELECT (SELECT jsonb_agg(to_jsonb(o) ORDER BY organization_id) FROM organizations o) AS organizations,
          (SELECT jsonb_agg(to_jsonb(a) ORDER BY agent_id) FROM agents a) AS agents,
          (SELECT jsonb_agg(to_jsonb(c) - 'last_used_at' ORDER BY credential_id) FROM credentials c) AS credentials,
          (SELECT sequence FROM organization_ledgers WHERE organization_id = $1) AS sequence`,
        [agent.organizationId],
      );
    const unchanged = await rows();
    const nothing = { dryRun: true, effectiveAt: null, eventId: null, receipt: null };
    expect(await revoked(selector(agent), { dryRun: true })).toEqual({ ...nothing, ...counts });
    expect(await rows()).toEqual(unchanged);
    expect(await aliveEach(Object.values(before))).toEqual([true, true, true, true]);
  });

  it('may be asked for again, and nobody is the worse for it', async () => {
    const agent = await proven();
    await tokensOf(agent);
    const first = await revoked(selector(agent));
    const again = await revoked(selector(agent));
    expect(again).toMatchObject({ agents: 0, credentials: 0, tokens: 0 });
    expect(again['eventId']).not.toBe(first['eventId']);
    expect(await aliveEach(Object.values(await tokensOf(agent)))).toEqual([true, true, true, true]);
  });

  it('is one event in the log of the organization, and a receipt that names it', async () => {
    const agent = await proven();
    await tokensOf(agent);
    const issuedBefore = new Date(clock.nowMs()).toISOString();
    const outcome = await revoked({ ...selector(agent), issuedBefore });
    const { body: event } = await one.api.call('GET', `/audit/${outcome['eventId'] as string}`, operator);
    expect(event).toMatchObject({
      organizationId: agent.organizationId,
      action: expect.stringMatching(/^(credential|federation|agent|organization)\.tokens_revoked$/),
      outcome: 'success',
      actor: one.operator.clientId,
      details: expect.objectContaining({ issuedBefore }),
    });
    const { agents, credentials, tokens, eventId, effectiveAt } = outcome;
    const stated = claimsOf(outcome['receipt'] as string);
    expect(stated).toEqual({
      iss: ISSUER,
      organizationId: agent.organizationId,
      selector: { ...selector(agent), issuedBefore },
      actor: one.operator.clientId,
      eventId,
      sequence: event['sequence'],
      hash: event['hash'],
      effectiveAt,
      issuedAt: expect.any(String),
      agents,
      credentials,
      tokens,
    });
    expect(Date.parse(effectiveAt as string)).toBeGreaterThanOrEqual(Date.parse(event['occurredAt'] as string));
    expect(Date.parse(stated['issuedAt'] as string)).toBeGreaterThanOrEqual(Date.parse(effectiveAt as string));
  });
});

describe('revocations one after another', () => {
  it('add up: a later instant after an earlier one, and an earlier one after a later one', async () => {
    const agent = await proven();
    const start = Math.ceil(clock.nowMs() / 1000) * 1000;
    const at = (offset: number) => new Date(start + offset * 1000).toISOString();
    for (const selector of [
      { agentId: agent.agentId },
      { credentialId: agent.credentialId },
      { organizationId: agent.organizationId },
    ]) {
      try {
        const tokens: string[] = [];
        for (const second of [0, 1, 2, 3]) {
          clock.freeze(at(second));
          tokens.push(await other.api.token(agent));
        }
        await revoked({ ...selector, issuedBefore: at(1) });
        expect(await aliveEach(tokens)).toEqual([false, true, true, true]);
        await revoked({ ...selector, issuedBefore: at(3) });
        expect(await aliveEach(tokens)).toEqual([false, false, false, true]);
        await revoked({ ...selector, issuedBefore: at(2) });
        expect(await aliveEach(tokens)).toEqual([false, false, false, true]);
        const later = await other.api.token(agent);
        await revoked({ ...selector, issuedBefore: at(0) });
        expect(await aliveEach([tokens[3] ?? '', later])).toEqual([true, true]);
        await revoked(selector);
        expect(await aliveEach([...tokens, later])).toEqual(Array(5).fill(false));
        expect(await alive(await other.api.token(agent))).toBe(true);
      } finally {
        clock.set(new Date().toISOString());
      }
    }
  });

  it('of an organization, its agents and their credentials hold beside each other', async () => {
    const agent = await proven();
    const start = Math.ceil(clock.nowMs() / 1000) * 1000;
    const at = (offset: number) => new Date(start + offset * 1000).toISOString();
    try {
      const tokens: string[] = [];
      const seconds: string[] = [];
      for (const second of [0, 1, 2, 3]) {
        clock.freeze(at(second));
        tokens.push(await other.api.token(agent));
        seconds.push(await other.api.token(agent.second));
      }
      await revoked({ credentialId: agent.credentialId, issuedBefore: at(3) });
      await revoked({ agentId: agent.agentId, issuedBefore: at(2) });
      await revoked({ organizationId: agent.organizationId, issuedBefore: at(1) });
      expect(await aliveEach(tokens)).toEqual([false, false, false, true]);
      expect(await aliveEach(seconds)).toEqual([false, true, true, true]);
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  it('do not bring back what a suspension, a revoked credential or a decommissioning ended', async () => {
    const agent = await proven();
    const past = '2020-01-01T00:00:00Z';
    const before = await tokensOf(agent);
    await turnOrganization(one, operator, agent.organizationId, 'suspend');
    await turnOrganization(one, operator, agent.organizationId, 'reactivate');
    await revoked({ organizationId: agent.organizationId, issuedBefore: past });
    expect(await aliveEach(Object.values(before))).toEqual([false, false, false, false]);

    const between = await tokensOf(agent);
    await one.api.call('DELETE', `/agents/${agent.agentId}/credentials/${agent.credentialId}`, operator);
    await revoked({ credentialId: agent.credentialId, issuedBefore: past });
    expect(await alive(between.secret)).toBe(false);
    expect(await aliveEach([between.key, between.partner, between.second])).toEqual([true, true, true]);

    await one.api.call('DELETE', `/agents/${agent.agentId}`, operator);
    await revoked({ agentId: agent.agentId, issuedBefore: past });
    expect(await aliveEach(Object.values(between))).toEqual([false, false, false, true]);
  });
});

describe('the count', () => {
  it('is of what is alive: not expired, not revoked, alone or in bulk, and without a scope taken away', async () => {
    const agent = await proven();
    const count = async (selector: Json = { organizationId: agent.organizationId }) => {
      const { agents, credentials, tokens } = await revoked(selector, { dryRun: true });
      return [agents, credentials, tokens];
    };
    expect(await count()).toEqual([0, 0, 0]);
    const { secret } = await tokensOf(agent);
    const another = await other.api.token(agent, { scope: 'tokens:read' });
    expect(await count()).toEqual([2, 4, 5]);
    await one.api.revoke(operator, secret);
    expect(await count()).toEqual([2, 4, 4]);
    await one.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: ['tokens:read'] });
    expect(await count()).toEqual([2, 2, 2]);
    expect(await count({ agentId: agent.agentId })).toEqual([1, 1, 1]);
    expect(await one.api.introspect(operator, another)).toMatchObject({ active: true });
    await one.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: SCOPES });
    expect(await count()).toEqual([2, 2, 2]);
    await tokensOf(agent);
    expect(await count()).toEqual([2, 4, 6]);
    await one.api.call('DELETE', `/agents/${agent.agentId}/keys/${agent.keyId}?keepTokens=true`, operator);
    expect(await count()).toEqual([2, 4, 6]);
    await one.api.call('DELETE', `/agents/${agent.agentId}/credentials/${agent.credentialId}`, operator);
    expect(await count()).toEqual([2, 3, 4]);
    expect(await count({ credentialId: agent.credentialId })).toEqual([0, 0, 0]);
    await one.api.call('DELETE', `/federation/partners/${agent.partnerId}`, operator);
    expect(await count()).toEqual([2, 2, 3]);
    await one.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    expect(await count()).toEqual([1, 1, 2]);
    await turnOrganization(one, operator, agent.organizationId, 'suspend');
    expect(await count()).toEqual([0, 0, 0]);
  });

  it('leaves out what a revocation up to an instant ended, whatever it named', async () => {
    const agent = await proven();
    const start = Math.ceil(clock.nowMs() / 1000) * 1000;
    const at = (offset: number) => new Date(start + offset * 1000).toISOString();
    try {
      for (const second of [0, 1, 2]) {
        clock.freeze(at(second));
        await tokensOf(agent);
      }
      const count = async () => (await revoked({ organizationId: agent.organizationId }, { dryRun: true }))['tokens'];
      expect(await count()).toBe(12);
      await revoked({ credentialId: agent.credentialId, issuedBefore: at(1) });
      expect(await count()).toBe(11);
      await revoked({ partnerId: agent.partnerId, issuedBefore: at(2) });
      expect(await count()).toBe(9);
      await revoked({ agentId: agent.agentId, issuedBefore: at(1) });
      expect(await count()).toBe(8);
      await revoked({ organizationId: agent.organizationId, issuedBefore: at(2) });
      expect(await count()).toBe(4);
      await revoked({ partnerId: agent.partnerId });
      expect(await count()).toBe(3);
      clock.advance(3600);
      operator = await one.api.token(one.operator);
      expect(await count()).toBe(0);
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  it('goes by the revocation that reached farthest, whichever came last, and by each of what it names', async () => {
    const agent = await proven();
    const start = Math.ceil(clock.nowMs() / 1000) * 1000;
    const at = (offset: number) => new Date(start + offset * 1000).toISOString();
    try {
      for (const second of [0, 1, 2, 3]) {
        clock.freeze(at(second));
        await one.api.token(agent);
        await other.api.token(agent.second);
      }
      const { credentialId } = agent;
      for (const second of [2, 0, 1])
        await revoked({ credentialId: agent.second.credentialId, issuedBefore: at(second) });
      for (const second of [1, 3, 2, 2]) await revoked({ credentialId, issuedBefore: at(second) });
      const counts = [];
      for (const selector of [
        { credentialId },
        { credentialId: agent.second.credentialId },
        { organizationId: agent.organizationId },
      ])
        counts.push((await revoked(selector, { dryRun: true }))['tokens']);
      expect(counts).toEqual([1, 2, 3]);
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  it('leaves out what lost a scope, also one that was given back and taken again', async () => {
    const agent = await proven();
    const scopes = (given: string[]) => one.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: given });
    const count = async () => (await revoked({ agentId: agent.agentId }, { dryRun: true }))['tokens'];
    await one.api.token(agent);
    for (const given of [['tokens:read'], SCOPES]) await scopes(given);
    await one.api.token(agent);
    expect(await count()).toBe(1);
    for (const given of [['tokens:read'], SCOPES]) await scopes(given);
    expect(await count()).toBe(0);
    await one.api.token(agent);
    expect(await count()).toBe(1);
  });

  it('is not told of a partner that was deleted before it was made', async () => {
    const agent = await proven();
    await tokensOf(agent);
    const repository = one.app.get(LivingTokensRepository);
    const count = repository.count.bind(repository);
    const late = jest.spyOn(repository, 'count').mockImplementationOnce(async (...asked) => {
      await one.api.call('DELETE', `/federation/partners/${agent.partnerId}`, operator);
      return count(...asked);
    });
    expect(await revoked({ partnerId: agent.partnerId })).toMatchObject({ tokens: null });
    late.mockRestore();
  });

  it('is given up where it takes too long: a dry run is answered 503, and a revocation holds uncounted', async () => {
    const agent = await proven();
    const { secret } = await tokensOf(agent);
    const timeout = Object.assign(new Error('canceling statement due to statement timeout'), { code: '57014' });
    const slow = jest.spyOn(one.app.get(LivingTokensRepository), 'count').mockRejectedValue(timeout);
    const selector = { agentId: agent.agentId };
    const preview = await revoke(selector, { dryRun: true });
    expect([preview.status, preview.body['code'], await alive(secret)]).toEqual([503, 'unavailable', true]);
    const outcome = await revoked(selector);
    slow.mockRejectedValue(problems.unavailable);
    expect(await revoked(selector)).toMatchObject({ tokens: null });
    slow.mockRestore();
    const uncounted = { agents: null, credentials: null, tokens: null };
    expect(outcome).toMatchObject(uncounted);
    expect(claimsOf(outcome['receipt'] as string)).toMatchObject({ ...uncounted, selector });
    expect(await alive(secret)).toBe(false);
  });

  it('is made once at a time for an organization; those who ask meanwhile wait, whether they preview or revoke', async () => {
    const agent = await proven();
    const { secret } = await tokensOf(agent);
    const selector = { agentId: agent.agentId };
    const held = holdCounts(one);
    try {
      const first = revoke(selector, { dryRun: true });
      await until('a count is under way', () => held.counts() === 1);
      const second = revoke(selector, { dryRun: true });
      const third = revoked(selector);
      await until('it is revoked', () => isInactive(secret));
      expect(held.counts()).toBe(1);
      held.goOn();
      expect((await first).body).toMatchObject({ tokens: 3 });
      expect([(await second).status, (await third)['tokens'], held.most()]).toEqual([200, 3, 1]);
    } finally {
      held.restore();
    }
  });

  it('is waited for by ten of an organization: over it 429, and a revocation holds uncounted', async () => {
    const agent = await proven();
    const { secret } = await tokensOf(agent);
    const selector = { agentId: agent.agentId };
    const held = holdCounts(one);
    try {
      const first = revoke(selector, { dryRun: true });
      await until('a count is under way', () => held.counts() === 1);
      const others = Array.from({ length: 11 }, () => revoke(selector, { dryRun: true }));
      const refused = await Promise.race(others);
      expect([refused.status, refused.body['code'], refused.headers.get('retry-after')]).toEqual([
        429,
        'rate_limited',
        '5',
      ]);
      expect(await revoked(selector)).toMatchObject({ tokens: null });
      expect(await alive(secret)).toBe(false);
      held.goOn();
      expect((await first).status).toBe(200);
      await Promise.all(others);
    } finally {
      held.restore();
    }
  });

  it('is not waited for where the replica shuts down: a revocation is answered uncounted while it can be', async () => {
    const agent = await proven();
    const { secret } = await tokensOf(agent);
    const third = await startTestApp({ database, clock, env: { ISSUER } });
    const held = holdCounts(third);
    const first = revoke({ agentId: agent.agentId }, { dryRun: true }, operator, third);
    await until('a count is under way', () => held.counts() === 1);
    const second = revoke({ agentId: agent.agentId }, {}, operator, third);
    await until('it is revoked', () => isInactive(secret));
    const closed = third.close();
    const { status, body } = await second;
    expect([status, body['tokens'], held.counts()]).toEqual([200, null, 1]);
    held.goOn();
    expect((await first).status).toBe(200);
    await closed;
  });
});

describe('a storm of token requests on both replicas while tokens are revoked', () => {
  it.each([
    ['an agent', ({ agentId }: Proven) => ({ agentId })],
    ['a secret', ({ credentialId }: Proven) => ({ credentialId })],
    ['an organization', ({ organizationId }: Proven) => ({ organizationId })],
  ])('of %s leaves no token alive from before and kills none from after', async (_name, selector) => {
    const agent = await proven();
    const tokens: string[] = [];
    let going = true;
    const stop = () => (going = false);
    const worker = async (replica: TestApp) => {
      while (going) {
        const { status, body } = await replica.api.requestToken(agent);
        expect(status).toBe(200);
        tokens.push(body['access_token'] as string);
      }
    };
    const workers = [one, other, one, other, one, other].map((replica) => worker(replica));
    try {
      await until('tokens are issued', () => tokens.length > 40);
      const outcomes = [await revoked(selector(agent))];
      const soFar = tokens.length;
      await until('more tokens are issued', () => tokens.length > soFar + 40);
      const issuedBefore = new Date(clock.nowMs()).toISOString();
      outcomes.push(await revoked({ ...selector(agent), issuedBefore }));
      const then = tokens.length;
      await until('more tokens are issued', () => tokens.length > then + 40);
      stop();
      await Promise.all(workers);

      const places = await database.query<{ event_id: string; sequence: string }>(
        'SELECT event_id, sequence FROM audit_events WHERE organization_id = $1',
        [agent.organizationId],
      );
      const placeOf = new Map(places.map((row) => [row.event_id, Number(row.sequence)]));
      const [all = 0, upTo = 0] = outcomes.map(({ eventId }) => placeOf.get(eventId as string));
      const bound = Date.parse(issuedBefore);
      let [fromFirst, fromSecond] = [0, 0];
      for (const token of tokens) {
        const jti = claimsOf(token)['jti'] as string;
        const place = placeOf.get(jti) ?? 0;
        const issuedAtMs = Number.parseInt(jti.replaceAll('-', '').slice(0, 12), 16);
        const inFirst = place < all;
        const inSecond = !inFirst && place < upTo && issuedAtMs < bound;
        fromFirst += Number(inFirst);
        fromSecond += Number(inSecond);
        const { active } = await other.api.introspect(operator, token);
        expect([place, active]).toEqual([place, !inFirst && !inSecond]);
      }
      // Exact, though tokens were issued while it was counted.
      expect(outcomes.map(({ tokens: counted }) => counted)).toEqual([fromFirst, fromSecond]);
      expect(tokens.length - fromFirst - fromSecond).toBeGreaterThan(40);
    } finally {
      stop();
      await Promise.all(workers);
    }
  });
});

describe('a revocation is refused', () => {
  const id = randomUUID();

  it.each<[string, unknown, string]>([
    ['no selector', {}, '/selector'],
    ['a selector that is null', { selector: null }, '/selector'],
    ['a selector that is a list', { selector: [{ agentId: id }] }, '/selector'],
    ['a selector that is a text', { selector: id }, '/selector'],
    ['an empty selector', { selector: {} }, '/selector'],
    ['an instant alone', { selector: { issuedBefore: '2026-01-01T00:00:00Z' } }, '/selector'],
    ['two subjects', { selector: { agentId: id, credentialId: id } }, '/selector'],
    ['a subject and the organization', { selector: { agentId: id, organizationId: id } }, '/selector'],
    ['an id that is null', { selector: { agentId: null } }, '/selector/agentId'],
    ['an id that is a number', { selector: { agentId: 7 } }, '/selector/agentId'],
    ['an id that is a list', { selector: { agentId: [id] } }, '/selector/agentId'],
    ['an unknown member', { selector: { agentId: id, jti: id } }, '/selector/jti'],
    ['an unknown member beside the selector', { selector: { agentId: id }, force: true }, '/force'],
    ['a member that every object has', { selector: { agentId: id, toString: id } }, '/selector/toString'],
    ['an instant that is null', { selector: { agentId: id, issuedBefore: null } }, '/selector/issuedBefore'],
    ['an instant that is a number', { selector: { agentId: id, issuedBefore: 1 } }, '/selector/issuedBefore'],
    [
      'an instant without offset',
      { selector: { agentId: id, issuedBefore: '2026-01-01T00:00:00' } },
      '/selector/issuedBefore',
    ],
    ['a day that there is not', { selector: { agentId: id, issuedBefore: '2026-02-30' } }, '/selector/issuedBefore'],
    [
      'an instant in the future',
      { selector: { agentId: id, issuedBefore: '9999-12-31T23:59:59Z' } },
      '/selector/issuedBefore',
    ],
    ['a dry run that is a text', { selector: { agentId: id }, dryRun: 'true' }, '/dryRun'],
    ['a dry run that is null', { selector: { agentId: id }, dryRun: null }, '/dryRun'],
  ])('with 400 for %s', async (_name, body, pointer) => {
    const { status, body: problem } = await one.api.call('POST', '/revocations', operator, body);
    expect([status, problem['code']]).toEqual([400, 'validation_failed']);
    expect((problem['errors'] as { pointer: string }[]).map((fault) => fault.pointer)).toContain(pointer);
  });

  it('with 400 for an instant that is a millisecond in the future, and not for the present one', async () => {
    const agent = await proven();
    clock.freeze(new Date(clock.nowMs()).toISOString());
    try {
      const at = (ms: number) => ({ agentId: agent.agentId, issuedBefore: new Date(clock.nowMs() + ms).toISOString() });
      expect((await revoke(at(1))).status).toBe(400);
      expect((await revoke(at(0))).status).toBe(200);
      // The first instants that there are.
      expect((await revoke({ ...at(0), issuedBefore: '0001-01-01T00:00:00Z' })).status).toBe(200);
      expect(await revoked({ organizationId: agent.organizationId }, { dryRun: true })).toMatchObject({ tokens: 0 });
    } finally {
      clock.set(new Date().toISOString());
    }
  });

  const members = ['credentialId', 'keyId', 'partnerId', 'agentId', 'organizationId'];

  it('with 404 for an id that is unknown or none, whoever asks and whether it is dry or not', async () => {
    const tenant = await one.api.token(await one.api.agent(operator, { scopes: ['agents:write'] }));
    for (const member of members) {
      for (const named of [
        randomUUID(),
        '',
        'no-such-id',
        "' OR 1=1 --",
        `${randomUUID()} `,
        '../agents',
        'x'.repeat(60_000),
      ]) {
        for (const [token, dryRun] of [
          [operator, false],
          [operator, true],
          [tenant, false],
          [tenant, true],
        ] as const) {
          const { status } = await revoke({ [member]: named }, { dryRun }, token);
          const refusedFirst = member === 'organizationId' && token === tenant;
          expect([member, named, status]).toEqual([member, named, refusedFirst ? 403 : 404]);
        }
      }
    }
  });

  it('with 404 for what is there but no key, and for an identity whose partner is gone', async () => {
    const agent = await proven();
    for (const keyId of [agent.credentialId, agent.identityId, agent.agentId, agent.partnerId]) {
      expect((await revoke({ keyId })).status).toBe(404);
    }
    await one.api.call('DELETE', `/federation/partners/${agent.partnerId}`, operator);
    expect((await revoke({ credentialId: agent.identityId })).status).toBe(404);
    expect((await revoke({ partnerId: agent.partnerId })).status).toBe(404);
  });

  it('with 404 for what is another tenant’s, dry or not, and nothing of it dies', async () => {
    const theirs = await proven();
    const tokens = await tokensOf(theirs);
    const scopes = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== OPERATOR_SCOPE);
    const organizationId = await addOrganization(one, operator);
    const ours = await one.api.token(await one.api.agent(operator, { organizationId, scopes }));
    for (const [, selector] of SELECTORS) {
      for (const dryRun of [false, true]) {
        const { status } = await revoke(selector(theirs), { dryRun }, ours);
        expect([selector(theirs), status]).toEqual([
          selector(theirs),
          'organizationId' in selector(theirs) ? 403 : 404,
        ]);
      }
    }
    expect(await aliveEach(Object.values(tokens))).toEqual([true, true, true, true]);
  });

  it('with 403 for one’s own organization without admin:orgs, and without agents:write for anything', async () => {
    const agent = await proven();
    const { organizationId } = agent;
    const scopes = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== OPERATOR_SCOPE);
    const admin = await one.api.token(await one.api.agent(operator, { organizationId, scopes }));
    const asked = await revoke({ organizationId }, {}, admin);
    expect([asked.status, asked.headers.get('www-authenticate')]).toEqual([
      403,
      'Bearer error="insufficient_scope", scope="admin:orgs"',
    ]);
    const reader = scopes.filter((scope) => scope !== 'agents:write');
    const without = await one.api.token(await one.api.agent(operator, { organizationId, scopes: reader }));
    for (const [, selector] of SELECTORS) expect((await revoke(selector(agent), {}, without)).status).toBe(403);
  });

  it('with 403 where an agent is stronger than who asks, by whatever way it is named', async () => {
    const agent = await proven();
    const tokens = await tokensOf(agent);
    const { organizationId } = agent;
    const weak = await one.api.token(
      await one.api.agent(operator, { organizationId, scopes: ['agents:write', 'agents:read'] }),
    );
    for (const [name, selector] of SELECTORS.filter(([what]) => what !== 'an organization')) {
      for (const more of [{}, { dryRun: true }]) {
        const asked = await revoke(selector(agent), more, weak);
        expect([name, asked.status, asked.headers.get('www-authenticate')]).toEqual([
          name,
          403,
          'Bearer error="insufficient_scope", scope="tokens:read"',
        ]);
      }
    }
    // Half an operator: it reaches the organization, but not the agents in it that hold what it lacks.
    const half = await one.api.token(one.operator, { scope: 'agents:write admin:orgs' });
    expect((await revoke({ organizationId }, {}, half)).status).toBe(403);
    expect(await aliveEach(Object.values(tokens))).toEqual([true, true, true, true]);
    // An agent that had an identity of the partner counts though the identity is revoked: its tokens may live.
    await one.api.call(
      'DELETE',
      `/agents/${agent.agentId}/federated-identities/${agent.identityId}?keepTokens=true`,
      operator,
    );
    expect((await revoke({ partnerId: agent.partnerId }, {}, weak)).status).toBe(403);
    expect(await alive(tokens.partner)).toBe(true);
    await revoked({ partnerId: agent.partnerId });
    expect(await alive(tokens.partner)).toBe(false);
  });

  it('with 401 where the caller’s own token dies while the revocation waits, and it does nothing', async () => {
    const agent = await proven();
    const { secret } = await tokensOf(agent);
    const admin = await one.api.agent(operator, {
      organizationId: agent.organizationId,
      scopes: [...SCOPES, 'agents:write'],
    });
    const token = await one.api.token(admin);
    const hold = await holdLedgers(database);
    const waiting = revoke({ agentId: agent.agentId }, {}, token);
    await lockWaiters(database, 'SELECT 1 FROM organization_ledgers WHERE');
    await hold.query("UPDATE agents SET status = 'suspended' WHERE agent_id = $1", [admin.agentId]);
    await hold.release();
    expect((await waiting).status).toBe(401);
    expect(await alive(secret)).toBe(true);
  });
});

describe('a revocation by the operator', () => {
  it('of its own organization answers, kills the very token that asked, and locks nobody out', async () => {
    const { body } = await one.api.call('GET', `/agents/${one.operator.clientId}`, operator);
    const asked = await revoke({ organizationId: body['organizationId'] });
    expect(asked.status).toBe(200);
    expect((await other.api.call('GET', '/agents', operator)).status).toBe(401);
    operator = await other.api.token(one.operator);
    expect((await one.api.call('GET', '/agents', operator)).status).toBe(200);
  });

  it('of a suspended or decommissioned agent finds nothing alive and is no error', async () => {
    const agent = await proven();
    await tokensOf(agent);
    await one.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    expect(await revoked({ agentId: agent.agentId })).toMatchObject({ tokens: 0 });
    await one.api.call('DELETE', `/agents/${agent.agentId}`, operator);
    for (const selector of [{ agentId: agent.agentId }, { credentialId: agent.credentialId }]) {
      expect(await revoked(selector)).toMatchObject({ tokens: 0 });
    }
  });
});

describe('the receipt of a revocation', () => {
  it('is nothing else: no access token, no assertion, no checkpoint', async () => {
    const agent = await proven();
    const receipt = (await revoked({ agentId: agent.agentId }))['receipt'] as string;
    const header = JSON.parse(Buffer.from(receipt.split('.')[0] ?? '', 'base64url').toString('utf8')) as Json;
    expect(header).toMatchObject({ alg: 'ES256', typ: 'revocation-receipt+jwt' });
    expect((await other.api.call('GET', '/agents', receipt)).status).toBe(401);
    expect(await other.api.introspect(operator, receipt)).toEqual({ active: false });
    const asked = { grant_type: 'client_credentials', client_assertion_type: TYPE, client_assertion: receipt };
    expect((await other.api.form('/api/v1/token', { ...asked, client_id: agent.clientId })).status).toBe(401);
    const kept = await other.api.call('POST', '/audit/verify', operator, { checkpoint: receipt });
    expect(kept.body).toMatchObject({ valid: false, reason: 'checkpoint_not_authentic' });
  });

  it('verifies with the JWKS that everybody can read, under a key for this purpose only', async () => {
    const agent = await proven();
    const receipt = (await revoked({ agentId: agent.agentId }))['receipt'] as string;
    const { body } = await other.api.send<JSONWebKeySet>('GET', '/.well-known/jwks.json');
    const { protectedHeader } = await compactVerify(receipt, createLocalJWKSet(body));
    expect(body.keys.find(({ kid }) => kid === protectedHeader.kid)).toMatchObject({ purpose: 'audit' });
  });
});

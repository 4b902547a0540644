import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import canonicalize from 'canonicalize';
import { createHash } from 'node:crypto';
import { holdLedgers, ledgerOf, lockWaiters, withPatientStatements } from '../faults/conditions.js';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

const SCOPES = ['agents:read', 'tokens:read'];

/** Two replicas on one database, with clocks that stand at the same instant where a test freezes them. */
let database: TestDatabase;
let one: TestApp;
let other: TestApp;
let operator: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const clock = new SettableClock();
  const env = { ISSUER: 'https://issuer.example' };
  one = await withPatientStatements(await startTestApp({ database, clock, env }));
  other = await withPatientStatements(await startTestApp({ database, clock, env }));
  operator = await one.api.token(one.operator);
});
afterAll(async () => {
  await one.close();
  await other.close();
  await database.drop();
});

function status({ status: code }: Answer): number {
  return code;
}

/** An act on one replica, and what the other one says on the very next requests. */
interface Act {
  readonly name: string;
  act(token: string, agent: TestAgent): Promise<Answer>;
  /** The status of a token request after it. */
  readonly tokenStatus: number;
}

const ACTS: readonly Act[] = [
  { name: 'a revocation', act: (token) => one.api.revoke(operator, token), tokenStatus: 200 },
  {
    name: 'a suspension',
    act: (_token, { agentId }) => one.api.call('POST', `/agents/${agentId}/suspend`, operator),
    tokenStatus: 403,
  },
  {
    name: 'the deletion of a credential',
    act: (_token, { agentId, credentialId }) =>
      one.api.call('DELETE', `/agents/${agentId}/credentials/${credentialId}`, operator),
    tokenStatus: 401,
  },
  {
    name: 'a decommissioning',
    act: (_token, { agentId }) => one.api.call('DELETE', `/agents/${agentId}`, operator),
    tokenStatus: 401,
  },
  {
    name: 'the revocation of all tokens',
    act: (_token, { agentId }) => one.api.call('POST', `/agents/${agentId}/revoke-tokens`, operator),
    tokenStatus: 200,
  },
  {
    name: 'the removal of a scope',
    act: (_token, { agentId }) => one.api.call('PATCH', `/agents/${agentId}`, operator, { scopes: ['tokens:read'] }),
    tokenStatus: 400,
  },
];

describe('two replicas on one database', () => {
  // 6 acts, 17 times each: 102 times without a miss.
  it.each(ACTS)('refuse everywhere, on the very next request, what $name ended on one of them', async (act) => {
    for (let round = 1; round <= 17; round += 1) {
      const agent = await one.api.agent(operator, { scopes: SCOPES });
      const token = await other.api.token(agent);
      // The other replica has just seen it alive.
      expect(status(await other.api.call('GET', '/agents', token))).toBe(200);

      expect(status(await act.act(token, agent))).toBeLessThan(300);
      expect(status(await other.api.call('GET', '/agents', token))).toBe(401);
      expect(await other.api.introspect(operator, token)).toEqual({ active: false });
      const asked = await other.api.requestToken(agent, { scope: 'agents:read' });
      expect([act.name, status(asked)]).toEqual([act.name, act.tokenStatus]);
    }
  });

  it('accept at once on one what was allowed on the other', async () => {
    const agent = await one.api.agent(operator, { scopes: ['tokens:read'] });
    await one.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    expect(status(await other.api.requestToken(agent))).toBe(403);
    await one.api.call('POST', `/agents/${agent.agentId}/reactivate`, operator);
    expect(status(await other.api.requestToken(agent))).toBe(200);
    await one.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: SCOPES });
    const token = await other.api.token(agent, { scope: 'agents:read' });
    expect(status(await one.api.call('GET', '/agents', token))).toBe(200);
  });

  it('take a token for valid that was issued after the answer of revoke-tokens, within the same second', async () => {
    one.clock.freeze(new Date().toISOString());
    try {
      const agent = await one.api.agent(operator, { scopes: SCOPES });
      const before = await one.api.token(agent);
      const { body } = await other.api.call('POST', `/agents/${agent.agentId}/revoke-tokens`, operator);
      const after = await one.api.token(agent);
      expect(claimsOf(after)['iat']).toBe(claimsOf(before)['iat']);
      expect(Date.parse(body['revokedBefore'] as string)).toBe(one.clock.nowMs());
      for (const replica of [one, other]) {
        expect(status(await replica.api.call('GET', '/agents', before))).toBe(401);
        expect(status(await replica.api.call('GET', '/agents', after))).toBe(200);
      }
    } finally {
      one.clock.set(new Date().toISOString());
    }
  });

  it('write one gapless chain that verifies, both at once under load', async () => {
    const agents = await Promise.all([1, 2, 3, 4, 5].map(() => one.api.agent(operator, { scopes: SCOPES })));
    const before = await ledgerOf(database);
    const load = Array.from({ length: 240 }, async (_, index) => {
      const { api } = index % 2 === 0 ? one : other;
      const agent = agents[index % 4] as TestAgent;
      // Of an agent of its own: ten failures make its other requests wait.
      if (index % 24 === 5) return status(await api.requestToken({ ...(agents[4] as TestAgent), clientSecret: 'x' }));
      if (index % 24 === 11)
        return status(await api.call('PATCH', `/agents/${agent.agentId}`, operator, { name: 'x' }));
      return status(await api.requestToken(agent));
    });
    const statuses = await Promise.all(load);
    const refused = statuses.filter((code) => code === 401).length;
    expect(refused).toBe(10);
    expect(statuses.filter((code) => code === 200)).toHaveLength(230);
    const after = await ledgerOf(database);
    expect(after.issued - before.issued).toBe(220);
    // The refusals are of one agent and for one cause: the first is an event, the others are counted for a minute.
    expect(after.sequence - before.sequence).toBe(240 - 9);

    const verdicts = await Promise.all([one, other].map(({ api }) => api.call('GET', '/audit/verify', operator)));
    for (const { body } of verdicts) {
      expect(body).toMatchObject({
        valid: true,
        checked: after.sequence,
        firstSequence: 1,
        lastSequence: after.sequence,
      });
    }
  });

  it('have a chain that anybody can check with twenty lines', async () => {
    const events: Record<string, unknown>[] = [];
    let cursor: unknown = null;
    do {
      const query: string = typeof cursor === 'string' ? `&cursor=${encodeURIComponent(cursor)}` : '';
      const page = await other.api.call<{ data: Record<string, unknown>[]; nextCursor: string | null }>(
        'GET',
        `/audit?limit=200${query}`,
        operator,
      );
      events.unshift(...page.body.data.reverse());
      cursor = page.body.nextCursor;
    } while (cursor !== null);

    const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
    let previousHash = sha256(String(events[0]?.['organizationId']));
    events.forEach(({ hash, ...event }, index) => {
      expect(event['sequence']).toBe(index + 1);
      expect(event['previousHash']).toBe(previousHash);
      expect(sha256(canonicalize(event) ?? '')).toBe(hash);
      previousHash = String(hash);
    });
    expect(events.length).toBe((await ledgerOf(database)).sequence);
  });
});

describe('what changes between the lookup of a client and the commit of its token', () => {
  /** Holds the ledger, lets `first` wait for it, then `second` behind it, and lets go. */
  async function inOrder<A, B>(
    first: () => Promise<A>,
    firstStatement: string,
    second: () => Promise<B>,
  ): Promise<[A, B]> {
    const hold = await holdLedgers(database);
    const begun = first();
    await lockWaiters(database, firstStatement);
    const later = second();
    await lockWaiters(database, 'issue_tokens');
    await hold.release();
    return Promise.all([begun, later]);
  }

  const MANAGEMENT = 'SELECT 1 FROM organization_ledgers WHERE';

  it('is a suspension: nothing is issued', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const before = await ledgerOf(database);
    const [suspended, asked] = await inOrder(
      () => other.api.call('POST', `/agents/${agent.agentId}/suspend`, operator),
      MANAGEMENT,
      () => one.api.requestToken(agent),
    );
    expect(suspended.status).toBe(200);
    expect([asked.status, asked.body['error']]).toEqual([403, 'unauthorized_client']);
    expect((await ledgerOf(database)).issued).toBe(before.issued);
  });

  it('is a suspension by SQL under the lock: nothing is issued', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const before = await ledgerOf(database);
    const hold = await holdLedgers(database);
    const asked = one.api.requestToken(agent);
    await lockWaiters(database, 'issue_tokens');
    await hold.query("UPDATE agents SET status = 'suspended', generation = generation + 1 WHERE agent_id = $1", [
      agent.agentId,
    ]);
    await hold.release();
    expect((await asked).status).toBe(403);
    expect((await ledgerOf(database)).issued).toBe(before.issued);
  });

  it('is a suspension of the organization: nothing is issued', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const hold = await holdLedgers(database);
    const asked = one.api.requestToken(agent);
    await lockWaiters(database, 'issue_tokens');
    await hold.query("UPDATE organizations SET status = 'suspended'");
    await hold.release();
    expect((await asked).body['error_description']).toBe(
      'Organization is currently suspended and cannot obtain tokens.',
    );
    await database.query("UPDATE organizations SET status = 'active'");
  });

  it.each([
    [
      'the deletion of the credential',
      ({ agentId, credentialId }: TestAgent) => `/agents/${agentId}/credentials/${credentialId}`,
    ],
    ['the decommissioning of the agent', ({ agentId }: TestAgent) => `/agents/${agentId}`],
  ])('is %s: the client is none any more', async (_name, path) => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const [deleted, asked] = await inOrder(
      () => other.api.call('DELETE', path(agent), operator),
      MANAGEMENT,
      () => one.api.requestToken(agent),
    );
    expect(deleted.status).toBe(204);
    expect([asked.status, asked.body['error']]).toEqual([401, 'invalid_client']);
  });

  it('is the removal of a scope: it is not in the token', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const [changed, asked] = await inOrder(
      () => other.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: ['tokens:read'] }),
      MANAGEMENT,
      () => one.api.requestToken(agent),
    );
    expect(changed.status).toBe(200);
    expect([asked.status, asked.body['scope']]).toEqual([200, 'tokens:read']);
    const token = asked.body['access_token'] as string;
    expect(claimsOf(token)['scope']).toBe('tokens:read');
    expect(await other.api.introspect(operator, token)).toMatchObject({ active: true, scope: 'tokens:read' });
  });

  it('is the removal of the very scope that was asked for: nothing is issued', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const [, asked] = await inOrder(
      () => other.api.call('PATCH', `/agents/${agent.agentId}`, operator, { scopes: ['tokens:read'] }),
      MANAGEMENT,
      () => one.api.requestToken(agent, { scope: 'agents:read' }),
    );
    expect([asked.status, asked.body['error']]).toEqual([400, 'invalid_scope']);
  });

  it('is the revocation of all tokens: the token is signed anew and lives', async () => {
    const agent = await one.api.agent(operator, { scopes: SCOPES });
    const [, asked] = await inOrder(
      () => other.api.call('POST', `/agents/${agent.agentId}/revoke-tokens`, operator),
      MANAGEMENT,
      () => one.api.requestToken(agent),
    );
    expect(asked.status).toBe(200);
    expect(await other.api.introspect(operator, asked.body['access_token'] as string)).toMatchObject({ active: true });
  });
});

import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { TokenSigner } from '../../src/tokens/token-signer.js';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

describe('the quota', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;
  let organizationId: string;

  beforeAll(async () => {
    service = await startTestApp();
    service.clock.set('2026-11-10T12:00:00.000Z');
    operator = await service.api.token(service.operator, { scope: 'agents:read agents:write audit:read tokens:read' });
    agent = await service.api.agent(operator);
    organizationId = claimsOf(operator)['org'] as string;
  });
  afterAll(() => service.close());

  beforeEach(() =>
    service.database.query(
      "UPDATE organizations SET tier = 'free', limit_tokens_per_month = NULL, limit_agents = NULL",
    ),
  );

  const read = (): Promise<Answer> => service.api.call('GET', '/quota', operator);
  const tokens = async (): Promise<Json> => (await read()).body['tokens'] as Json;
  const used = async (): Promise<number> => Number((await tokens())['used']);
  const setUsed = (count: number, month = 202611): Promise<unknown> =>
    service.database.query('UPDATE organization_ledgers SET quota_month = $1, tokens_used = $2', [month, count]);
  const setLimit = (limit: number | null): Promise<unknown> =>
    service.database.query('UPDATE organizations SET limit_tokens_per_month = $1', [limit]);
  const ask = async (): Promise<number> => (await service.api.requestToken(agent)).status;
  const thresholds = async (): Promise<Json[]> => {
    const { body } = await service.api.call('GET', '/audit?action=quota.threshold&limit=200', operator);
    return (body['data'] as Json[]).reverse();
  };

  it('answers tier, month, tokens and agents', async () => {
    await setUsed(128);
    const { status, body } = await read();
    expect(status).toBe(200);
    expect(body).toEqual({
      tier: 'free',
      period: '2026-11',
      tokens: { limit: 10_000, used: 128, remaining: 9872, resetsAt: '2026-12-01T00:00:00.000Z' },
      agents: { limit: 100, used: 2 },
    });
  });

  it.each([
    ['free', 10_000, 100],
    ['pro', 1_000_000, 10_000],
    ['enterprise', null, null],
  ])('knows the limits of %s', async (tier, tokenLimit, agentLimit) => {
    await service.database.query('UPDATE organizations SET tier = $1', [tier]);
    await setUsed(1);
    const { body } = await read();
    expect(body).toMatchObject({
      tier,
      tokens: { limit: tokenLimit, used: 1, remaining: tokenLimit === null ? null : tokenLimit - 1 },
      agents: { limit: agentLimit },
    });
  });

  it('costs a signature at the first refusal only, and the next token is as good as any', async () => {
    const sign = jest.spyOn(service.app.get(TokenSigner), 'sign');
    try {
      await setUsed(5);
      await setLimit(5);
      for (let refused = 0; refused < 4; refused += 1) expect(await ask()).toBe(403);
      expect(sign).toHaveBeenCalledTimes(1);
      await setLimit(7);
      const token = await service.api.token(agent);
      expect(await service.api.introspect(operator, token)).toMatchObject({ active: true, sub: agent.agentId });
      expect(await ask()).toBe(200);
      expect(sign).toHaveBeenCalledTimes(3);
      expect(await ask()).toBe(403);
    } finally {
      sign.mockRestore();
    }
  });

  it('counts agents that are not decommissioned', async () => {
    const agentsUsed = async (): Promise<unknown> => ((await read()).body['agents'] as Json)['used'];
    const before = Number(await agentsUsed());
    const { agentId } = await service.api.agent(operator);
    await service.api.call('POST', `/agents/${agentId}/suspend`, operator);
    expect(await agentsUsed()).toBe(before + 1);
    await service.api.call('DELETE', `/agents/${agentId}`, operator);
    expect(await agentsUsed()).toBe(before);
  });

  it('counts tokens that were issued and nothing else', async () => {
    await setUsed(0);
    const token = await service.api.token(agent);
    await service.api.token(agent);
    expect(await used()).toBe(2);
    await service.api.requestToken({ ...agent, clientSecret: 'wrong' });
    await service.api.requestToken(agent, { scope: 'admin:orgs' });
    await service.api.requestToken(agent, { resource: 'urn:nobody' });
    await service.api.requestToken(agent, { grant_type: 'password' });
    await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    await service.api.requestToken(agent);
    await service.api.call('POST', `/agents/${agent.agentId}/reactivate`, operator);
    await service.api.revoke(token, token);
    await service.api.call('GET', '/agents', operator);
    expect(await used()).toBe(2);
  });

  it('does not count requests that it refuses, and says when to come again', async () => {
    await setLimit(3);
    await setUsed(2);
    expect(await ask()).toBe(200);
    const refused = await service.api.requestToken(agent);
    expect([refused.status, refused.body['error']]).toEqual([403, 'unauthorized_client']);
    const secondsLeft = (Date.parse('2026-12-01T00:00:00Z') - service.clock.nowMs()) / 1000;
    expect(Math.abs(Number(refused.headers.get('retry-after')) - secondsLeft)).toBeLessThan(10);
    expect(await ask()).toBe(403);
    expect(await tokens()).toMatchObject({ limit: 3, used: 3, remaining: 0 });
  });

  it('is exact when many ask at once', async () => {
    await setLimit(17);
    await setUsed(5);
    const statuses = await Promise.all(Array.from({ length: 40 }, ask));
    expect(statuses.filter((status) => status === 200)).toHaveLength(12);
    expect(statuses.filter((status) => status === 403)).toHaveLength(28);
    expect(await used()).toBe(17);
  });

  it('is shared by the agents of the organization', async () => {
    const other = await service.api.agent(operator);
    await setLimit(2);
    await setUsed(0);
    expect(await ask()).toBe(200);
    expect((await service.api.requestToken(other)).status).toBe(200);
    expect([await ask(), (await service.api.requestToken(other)).status]).toEqual([403, 403]);
  });

  it('follows a limit or a tier set in the row on the very next request', async () => {
    await setUsed(10_000);
    expect(await ask()).toBe(403);
    await service.database.query("UPDATE organizations SET tier = 'pro'");
    expect(await ask()).toBe(200);
    await setLimit(10_001);
    expect(await ask()).toBe(403);
    expect(await tokens()).toMatchObject({ limit: 10_001, used: 10_001, remaining: 0 });
    await setLimit(null);
    expect(await ask()).toBe(200);
    await service.database.query("UPDATE organizations SET tier = 'free'");
    expect(await ask()).toBe(403);
    expect(await tokens()).toMatchObject({ limit: 10_000, used: 10_002, remaining: 0 });
    await service.database.query("UPDATE organizations SET tier = 'enterprise'");
    expect(await ask()).toBe(200);
  });

  it('lets nobody through at a limit of 0', async () => {
    await setLimit(0);
    await setUsed(0);
    expect(await ask()).toBe(403);
    expect(await tokens()).toMatchObject({ limit: 0, used: 0, remaining: 0 });
  });

  it.each([
    ['pro', 5, 'Pro tier monthly token limit of 5 requests has been reached.'],
    ['enterprise', 1, 'Enterprise tier monthly token limit of 1 requests has been reached.'],
    ['pro', null, 'Pro tier monthly token limit of 1,000,000 requests has been reached.'],
  ])('names the %s tier and the limit in force, %s', async (tier, limit, text) => {
    await service.database.query('UPDATE organizations SET tier = $1', [tier]);
    await setLimit(limit);
    await setUsed(limit ?? 1_000_000);
    expect((await service.api.requestToken(agent)).body['error_description']).toBe(text);
  });

  describe('thresholds', () => {
    it('leave one event at 80 % and one at 100 %, in the order in which they are crossed', async () => {
      const before = (await thresholds()).length;
      await setLimit(10);
      await setUsed(0);
      const perToken: number[] = [];
      for (let count = 1; count <= 12; count += 1) {
        await ask();
        perToken.push((await thresholds()).length - before);
      }
      expect(perToken).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2]);
      const crossed = (await thresholds()).slice(before);
      expect(crossed).toMatchObject(
        [80, 100].map((thresholdPercent) => ({
          outcome: 'success',
          actor: null,
          target: { type: 'organization', id: organizationId },
          ip: null,
          userAgent: null,
          details: { limit: 10, period: '2026-11', thresholdPercent },
        })),
      );
    });

    it('are crossed once when many ask at once, also when both are crossed in one go', async () => {
      const before = (await thresholds()).length;
      await setLimit(20);
      await setUsed(10);
      await Promise.all(Array.from({ length: 30 }, ask));
      const crossed = (await thresholds()).slice(before);
      expect(crossed.map(({ details }) => (details as Json)['thresholdPercent'])).toEqual([80, 100]);
      const verdict = await service.api.call('GET', '/audit/verify', operator);
      expect(verdict.body).toMatchObject({ valid: true });
    });

    it('leave none where there is no limit', async () => {
      const before = (await thresholds()).length;
      await service.database.query("UPDATE organizations SET tier = 'enterprise'");
      await setUsed(7999);
      await Promise.all(Array.from({ length: 3 }, ask));
      expect(await thresholds()).toHaveLength(before);
    });

    it('come again in the next month', async () => {
      await setLimit(5);
      await setUsed(3);
      const before = (await thresholds()).length;
      service.clock.set('2026-11-30T23:59:59.000Z');
      await ask();
      service.clock.set('2026-12-01T00:00:00.000Z');
      const again = await service.api.token(service.operator);
      for (let count = 0; count < 3; count += 1) await ask();
      const { body } = await service.api.call('GET', '/audit?action=quota.threshold&limit=200', again);
      const crossed = (body['data'] as Json[]).reverse().slice(before);
      expect(crossed.map(({ details }) => details)).toEqual([
        { limit: 5, period: '2026-11', thresholdPercent: 80 },
        { limit: 5, period: '2026-12', thresholdPercent: 80 },
      ]);
    });
  });
});

describe('the month of the quota', () => {
  let service: TestApp;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    service.clock.set('2026-10-31T23:00:00.000Z');
    agent = await service.api.agent(await service.api.token(service.operator));
    await service.database.query('UPDATE organizations SET limit_tokens_per_month = 5');
  });
  afterAll(() => service.close());

  const quota = async (): Promise<Json> => {
    // Read by a token of now: months lie between the tests.
    await service.database.query('UPDATE organizations SET limit_tokens_per_month = NULL');
    const [ledger] = await service.database.query('SELECT quota_month, tokens_used FROM organization_ledgers');
    const token = await service.api.token(service.operator);
    await service.database.query('UPDATE organization_ledgers SET quota_month = $1, tokens_used = $2', [
      ledger?.['quota_month'],
      ledger?.['tokens_used'],
    ]);
    await service.database.query('UPDATE organizations SET limit_tokens_per_month = 5');
    return (await service.api.call('GET', '/quota', token)).body;
  };
  const ask = async (): Promise<number> => (await service.api.requestToken(agent)).status;

  it('begins anew at its first instant in UTC, not before', async () => {
    await service.database.query('UPDATE organization_ledgers SET quota_month = 202610, tokens_used = 5');
    service.clock.freeze('2026-10-31T23:59:59.999Z');
    expect(await ask()).toBe(403);
    expect(await quota()).toMatchObject({
      period: '2026-10',
      tokens: { used: 5, resetsAt: '2026-11-01T00:00:00.000Z' },
    });
    service.clock.freeze('2026-11-01T00:00:00.000Z');
    expect(await quota()).toMatchObject({
      period: '2026-11',
      tokens: { used: 0, resetsAt: '2026-12-01T00:00:00.000Z' },
    });
    expect(await ask()).toBe(200);
    expect(await quota()).toMatchObject({ period: '2026-11', tokens: { used: 1, remaining: 4 } });
  });

  it('turns with the year', async () => {
    service.clock.freeze('2026-12-31T23:59:59.999Z');
    for (let count = 0; count < 6; count += 1) await ask();
    expect(await ask()).toBe(403);
    expect(await quota()).toMatchObject({
      period: '2026-12',
      tokens: { used: 5, resetsAt: '2027-01-01T00:00:00.000Z' },
    });
    service.clock.freeze('2027-01-01T00:00:00.000Z');
    expect(await ask()).toBe(200);
    expect(await quota()).toMatchObject({ period: '2027-01', tokens: { used: 1 } });
  });

  it('stays where it is for a replica whose clock lags behind', async () => {
    service.clock.freeze('2027-02-01T00:00:00.000Z');
    for (let count = 0; count < 5; count += 1) expect(await ask()).toBe(200);
    service.clock.freeze('2027-01-31T23:59:59.000Z');
    expect(await ask()).toBe(403);
    service.clock.freeze('2027-02-01T00:00:01.000Z');
    expect(await ask()).toBe(403);
  });

  it('passes over months in which nothing was issued', async () => {
    service.clock.freeze('2028-02-29T12:00:00.000Z');
    expect(await quota()).toMatchObject({
      period: '2028-02',
      tokens: { used: 0, resetsAt: '2028-03-01T00:00:00.000Z' },
    });
    expect(await ask()).toBe(200);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { tellRefusals } from '../support/refusals.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

describe('the usage of an organization', () => {
  let service: TestApp;
  let count = 0;

  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  /** A token of the operator for the instant that the clock shows. */
  const operator = (): Promise<string> => service.api.token(service.operator);

  /** An organization with one agent, made at an instant. */
  async function tenant(instant: string, fields: Json = {}): Promise<{ id: string; agent: TestAgent }> {
    service.clock.set(instant);
    const by = await operator();
    count += 1;
    const { body } = await service.api.call('POST', '/organizations', by, {
      name: 'x',
      slug: `usage-${count}`,
      ...fields,
    });
    const id = body['organizationId'] as string;
    return { id, agent: await service.api.agent(by, { organizationId: id, scopes: ['agents:read'] }) };
  }

  const ask = async (id: string, query = ''): Promise<Answer> =>
    service.api.call('GET', `/organizations/${id}/usage${query}`, await operator());

  async function usage(id: string, query = ''): Promise<Json> {
    const { status, body, text } = await ask(id, query);
    if (status !== 200) throw new Error(`no usage: ${status} ${text}`);
    return body;
  }

  function pointers({ status, body }: Answer): string[] {
    expect([status, body['code']]).toEqual([400, 'validation_failed']);
    return (body['errors'] as { pointer: string }[]).map(({ pointer }) => pointer);
  }

  it('is empty where nothing happened: thirty-one days, no days, no months', async () => {
    const { id } = await tenant('2026-11-22T10:00:00.000Z');
    expect(await usage(id)).toEqual({
      organizationId: id,
      from: '2026-10-23',
      to: '2026-11-22',
      days: [],
      months: [],
      agents: { limit: 100, used: 1 },
    });
  });

  it('has issued tokens and refusals by reason, by day and month', async () => {
    const { id, agent } = await tenant('2026-11-05T12:00:00.000Z');
    const by = await operator();
    await service.api.token(agent);
    await service.api.token(agent);
    await service.api.requestToken({ ...agent, clientSecret: 'wrong' });
    await service.api.requestToken(agent, { scope: 'audit:read' });
    await service.api.requestToken(agent, { scope: 'nobody:x' });
    await service.api.requestToken(agent, { resource: 'urn:nobody' });
    await service.api.call('POST', `/agents/${agent.agentId}/suspend`, by);
    await service.api.requestToken(agent);
    await service.api.call('POST', `/agents/${agent.agentId}/reactivate`, by);
    await service.api.call('POST', `/organizations/${id}/suspend`, by);
    await service.api.requestToken(agent);
    await service.api.requestToken(agent);
    await service.api.call('POST', `/organizations/${id}/reactivate`, by);
    await service.api.call('PATCH', `/organizations/${id}`, by, { limits: { tokensPerMonth: 2 } });
    await service.api.requestToken(agent);
    await tellRefusals(service);
    const refusals = {
      agent_suspended: 1,
      invalid_client: 1,
      invalid_scope: 2,
      invalid_target: 1,
      organization_suspended: 2,
      quota_reached: 1,
    };
    expect(await usage(id)).toMatchObject({
      days: [{ day: '2026-11-05', tokens: 2, refusals }],
      months: [{ month: '2026-11', tokens: 2, refusals }],
    });
  });

  it('counts nothing that is no token request, and no failure of clients that nobody knows', async () => {
    const { id, agent } = await tenant('2026-11-06T12:00:00.000Z');
    const token = await service.api.token(agent);
    await service.api.call('GET', '/agents', token);
    await service.api.revoke(token, token);
    await service.api.requestToken(agent, { grant_type: 'password' });
    await service.api.requestToken({ clientId: '7b6e2a5e-6d52-4b8e-9d0c-0a3c9a5d2b11', clientSecret: 'x' });
    expect((await usage(id))['days']).toEqual([{ day: '2026-11-06', tokens: 1, refusals: {} }]);
  });

  it('turns at the first instant of the day and of the month, UTC', async () => {
    const { id, agent } = await tenant('2026-10-30T12:00:00.000Z', { limits: { tokensPerMonth: 2 } });
    const at = async (instant: string, times: number): Promise<number[]> => {
      service.clock.freeze(instant);
      const statuses: number[] = [];
      for (let index = 0; index < times; index += 1) statuses.push((await service.api.requestToken(agent)).status);
      return statuses;
    };
    expect(await at('2026-10-30T23:59:59.999Z', 1)).toEqual([200]);
    expect(await at('2026-10-31T00:00:00.000Z', 1)).toEqual([200]);
    expect(await at('2026-10-31T23:59:59.999Z', 2)).toEqual([403, 403]);
    expect(await at('2026-11-01T00:00:00.000Z', 3)).toEqual([200, 200, 403]);
    // What was refused before midnight and told after it belongs to the day on which it was refused.
    await tellRefusals(service);
    expect(await usage(id)).toMatchObject({
      to: '2026-11-01',
      days: [
        { day: '2026-10-30', tokens: 1, refusals: {} },
        { day: '2026-10-31', tokens: 1, refusals: { quota_reached: 2 } },
        { day: '2026-11-01', tokens: 2, refusals: { quota_reached: 1 } },
      ],
      months: [
        { month: '2026-10', tokens: 2, refusals: { quota_reached: 2 } },
        { month: '2026-11', tokens: 2, refusals: { quota_reached: 1 } },
      ],
    });
    const quota = await service.api.call('GET', `/quota?organizationId=${id}`, await operator());
    expect(quota.body).toMatchObject({ period: '2026-11', tokens: { used: 2, remaining: 0 } });
    const inOctober = await usage(id, '?to=2026-10-31');
    expect(inOctober['months']).toMatchObject([{ month: '2026-10', tokens: 2 }]);
  });

  it('turns with the year, on a leap day and where the clocks of many countries change', async () => {
    const { id, agent } = await tenant('2027-12-31T23:59:59.000Z');
    for (const instant of [
      '2027-12-31T23:59:59.999Z',
      '2028-01-01T00:00:00.000Z',
      '2028-02-29T12:00:00.000Z',
      '2028-03-26T01:30:00.000Z',
    ]) {
      service.clock.freeze(instant);
      await service.api.token(agent);
    }
    const { days, months } = await usage(id, '?from=2027-12-01&to=2028-03-31');
    expect((days as Json[]).map(({ day, tokens }) => [day, tokens])).toEqual(
      ['2027-12-31', '2028-01-01', '2028-02-29', '2028-03-26'].map((day) => [day, 1]),
    );
    expect((months as Json[]).map(({ month, tokens }) => [month, tokens])).toEqual(
      ['2027-12', '2028-01', '2028-02', '2028-03'].map((month) => [month, 1]),
    );
  });

  it('has the days that are asked for, and the twelve months up to the last of them', async () => {
    const { id, agent } = await tenant('2025-01-31T12:00:00.000Z');
    for (const day of ['2025-01-31', '2025-02-01', '2025-11-30', '2026-01-15', '2026-02-01']) {
      service.clock.freeze(`${day}T12:00:00.000Z`);
      await service.api.token(agent);
    }
    const days = async (query: string): Promise<unknown[]> =>
      ((await usage(id, query))['days'] as Json[]).map(({ day }) => day);
    const months = async (query: string): Promise<unknown[]> =>
      ((await usage(id, query))['months'] as Json[]).map(({ month }) => month);
    expect(await days('')).toEqual(['2026-01-15', '2026-02-01']);
    expect(await days('?from=2026-02-01')).toEqual(['2026-02-01']);
    expect(await days('?to=2026-01-31')).toEqual(['2026-01-15']);
    expect(await days('?from=2025-11-30&to=2026-01-15')).toEqual(['2025-11-30', '2026-01-15']);
    expect(await days('?from=2025-02-01&to=2026-02-01')).toEqual([
      '2025-02-01',
      '2025-11-30',
      '2026-01-15',
      '2026-02-01',
    ]);
    expect(await days('?from=2026-01-15&to=2026-01-15')).toEqual(['2026-01-15']);
    expect(await months('')).toEqual(['2025-11', '2026-01', '2026-02']);
    expect(await months('?to=2026-01-31')).toEqual(['2025-02', '2025-11', '2026-01']);
    expect(await usage(id, '?from=2026-01-15&to=2026-01-20')).toMatchObject({ from: '2026-01-15', to: '2026-01-20' });
  });

  it.each([
    ['?from=yesterday', '/from'],
    ['?from=2026-11-31', '/from'],
    ['?from=2026-02-30', '/from'],
    ['?from=2026-11-01T00:00:00Z', '/from'],
    ['?from=20261101', '/from'],
    ['?to=', '/to'],
    ['?to=2026-13-01', '/to'],
    ['?to=2026-11-22%0A', '/to'],
    ['?from=2026-11-02&to=2026-11-01', '/to'],
    ['?from=2025-11-01&to=2026-11-02', '/to'],
    ['?from=2026-11-01&from=2026-11-02', '/from'],
    ['?day=2026-11-01', '/day'],
    ['?limit=5', '/limit'],
  ])('refuses the query %s', async (query, pointer) => {
    const { id } = await tenant('2026-11-22T10:00:00.000Z');
    expect(pointers(await ask(id, query))).toContain(pointer);
  });

  it.each(['0000-01-01', '0000-12-31', '0001-01-01', '0001-01-31', '0099-06-01', '9999-12-31'])(
    'answers below 500 to days around %s',
    async (day) => {
      const { id } = await tenant('2026-11-22T10:00:00.000Z');
      for (const query of [`?to=${day}`, `?from=${day}`, `?from=${day}&to=${day}`]) {
        const { status } = await ask(id, query);
        expect([query, [200, 400].includes(status)]).toEqual([query, true]);
      }
    },
  );

  it('takes 366 days at most, so a leap year', async () => {
    const { id } = await tenant('2028-12-31T10:00:00.000Z');
    expect((await ask(id, '?from=2028-01-01&to=2028-12-31')).status).toBe(200);
    expect(pointers(await ask(id, '?from=2027-12-31&to=2028-12-31'))).toEqual(['/to']);
  });

  it('counts each event once, however many read at once, and goes on where it stopped', async () => {
    const { id, agent } = await tenant('2026-11-07T12:00:00.000Z');
    for (let index = 0; index < 4; index += 1) await service.api.token(agent);
    const by = await operator();
    const read = async (): Promise<unknown> =>
      (await service.api.call('GET', `/organizations/${id}/usage`, by)).body['days'];
    const answers = await Promise.all(Array.from({ length: 6 }, read));
    for (const answer of answers) expect(answer).toEqual([{ day: '2026-11-07', tokens: 4, refusals: {} }]);
    await Promise.all([service.api.token(agent), read(), service.api.token(agent), read()]);
    expect(await read()).toEqual([{ day: '2026-11-07', tokens: 6, refusals: {} }]);
    expect(await read()).toEqual([{ day: '2026-11-07', tokens: 6, refusals: {} }]);
  });

  it('agrees with the quota and with the log, whatever was asked at once', async () => {
    const { id, agent } = await tenant('2026-11-08T12:00:00.000Z', { limits: { tokensPerMonth: 9 } });
    await Promise.all(Array.from({ length: 15 }, () => service.api.requestToken(agent)));
    await tellRefusals(service);
    expect((await usage(id))['months']).toEqual([{ month: '2026-11', tokens: 9, refusals: { quota_reached: 6 } }]);
    const by = await operator();
    const quota = await service.api.call('GET', `/quota?organizationId=${id}`, by);
    expect(quota.body['tokens']).toMatchObject({ used: 9 });
    for (const [action, times] of [
      ['token.issued', 9],
      ['token.refused', 6],
    ] as const) {
      const log = await service.api.call('GET', `/audit?organizationId=${id}&action=${action}&limit=200`, by);
      const counts = (log.body['data'] as { details: { count?: number } }[]).map(({ details }) => details.count ?? 1);
      expect(counts.reduce((sum, each) => sum + each, 0)).toBe(times);
    }
  });

  it('is that of one organization only, and follows its agents and their limit', async () => {
    const one = await tenant('2026-11-09T12:00:00.000Z', { tier: 'pro' });
    const other = await tenant('2026-11-09T12:00:00.000Z', { limits: { agents: 5 } });
    await service.api.token(one.agent);
    const by = await operator();
    const { agentId } = await service.api.agent(by, { organizationId: other.id });
    expect(await usage(one.id)).toMatchObject({ days: [{ tokens: 1 }], agents: { limit: 10_000, used: 1 } });
    expect(await usage(other.id)).toMatchObject({ days: [], agents: { limit: 5, used: 2 } });
    await service.api.call('DELETE', `/agents/${agentId}`, by);
    expect(await usage(other.id)).toMatchObject({ agents: { limit: 5, used: 1 } });
    expect((await usage(other.id.toUpperCase()))['organizationId']).toBe(other.id);
    const own = claimsOf(by)['org'] as string;
    expect((await usage(own))['agents']).toMatchObject({ limit: null });
  });
});

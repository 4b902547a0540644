import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { RefusalsService } from '../../src/audit/refusals.service.js';
import type { TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

interface RefusalEvent {
  readonly details: { readonly reason: string; readonly count: number; readonly since?: string };
}

describe('refusals in the audit log', () => {
  let first: TestApp;
  let second: TestApp;
  let operator: string;

  const refusalsOf = async (agent: TestAgent) => {
    const found = await first.api.call('GET', `/audit?action=token.refused&agentId=${agent.agentId}`, operator);
    return (found.body['data'] as RefusalEvent[]).map(({ details }) => [details.reason, details.count]);
  };
  const rounds = async () => {
    // Twice, since the timer's own may be under way: the first call waits for it.
    for (const app of [first, second, first, second]) await app.app.get(RefusalsService).round();
  };
  const refuse = (service: TestApp, agent: TestAgent) => service.api.requestToken(agent, { scope: 'webhooks:read' });

  beforeAll(async () => {
    first = await startTestApp();
    second = await startTestApp({ database: first.database, clock: first.clock, env: { ISSUER: first.issuer } });
    first.clock.freeze(new Date().toISOString());
    operator = await first.api.token(first.operator);
  });
  afterAll(async () => {
    await second.close();
    await first.close();
  });

  it('are one event at once, and one a minute with a count, over all replicas', async () => {
    const agent = await first.api.agent(operator, { scopes: ['agents:read'] });
    expect((await refuse(first, agent)).status).toBe(400);
    expect(await refusalsOf(agent)).toEqual([['invalid_scope', 1]]);
    await Promise.all(Array.from({ length: 12 }, (_, index) => refuse(index % 2 === 0 ? first : second, agent)));
    await rounds();
    expect(await refusalsOf(agent)).toEqual([['invalid_scope', 1]]);
    first.clock.advance(61);
    await rounds();
    expect(await refusalsOf(agent)).toEqual([
      ['invalid_scope', 12],
      ['invalid_scope', 1],
    ]);
    await refuse(second, agent);
    first.clock.advance(61);
    await rounds();
    expect((await refusalsOf(agent))[0]).toEqual(['invalid_scope', 1]);
    first.clock.advance(61);
    await rounds();
    await rounds();
    expect(await first.database.query('SELECT 1 FROM audit_refusals')).toEqual([]);
    expect((await refusalsOf(agent)).reduce((sum, [, count]) => sum + Number(count), 0)).toBe(14);
  });

  it('count those that come at one time as one event', async () => {
    const agent = await first.api.agent(operator, { scopes: ['agents:read'] });
    await Promise.all(Array.from({ length: 10 }, (_, index) => refuse(index % 2 === 0 ? first : second, agent)));
    expect(await refusalsOf(agent)).toEqual([['invalid_scope', 1]]);
  });

  it('keep clients and causes apart', async () => {
    const agent = await first.api.agent(operator, { scopes: ['agents:read'] });
    const other = await first.api.agent(operator, { scopes: ['agents:read'] });
    await first.api.requestToken({ ...agent, clientSecret: 'wrong' });
    await refuse(first, agent);
    await refuse(first, other);
    await first.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
    expect((await first.api.requestToken(agent)).status).toBe(403);
    expect(await refusalsOf(agent)).toEqual([
      ['agent_suspended', 1],
      ['invalid_scope', 1],
      ['invalid_client', 1],
    ]);
    expect(await refusalsOf(other)).toEqual([['invalid_scope', 1]]);
  });

  it('lose no count when a replica stops', async () => {
    const agent = await first.api.agent(operator, { scopes: ['agents:read'] });
    const third = await startTestApp({ database: first.database, clock: first.clock, env: { ISSUER: first.issuer } });
    await refuse(first, agent);
    for (let number = 0; number < 5; number += 1) await refuse(third, agent);
    await third.close();
    first.clock.advance(61);
    await rounds();
    expect(await refusalsOf(agent)).toEqual([
      ['invalid_scope', 5],
      ['invalid_scope', 1],
    ]);
  });

  it('leave the chain whole', async () => {
    expect((await first.api.call('GET', '/audit/verify', operator)).body).toMatchObject({ valid: true });
  });
});

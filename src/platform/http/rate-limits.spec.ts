import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { FastifyReply } from 'fastify';
import { loadConfig } from '../config/load-config.js';
import type { Principal } from '../kernel/principal.js';
import { Problem } from '../kernel/problem.js';
import type { Tier } from '../kernel/tier.js';
import { RateLimits } from './rate-limits.js';

describe('the rates of the management endpoints', () => {
  beforeEach(() => {
    jest.useFakeTimers({ now: Date.parse('2026-11-01T00:00:00Z') });
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  function caller(agentId: string, tier: Tier = 'free', organizationId = 'o'): Principal {
    return {
      agentId,
      organizationId,
      tier,
      scopes: new Set(),
      credentialId: 'c',
      method: 'bearer',
      token: null,
    };
  }

  async function admit(limits: RateLimits, principal: Principal): Promise<{ headers: object; problem: unknown }> {
    const headers: Record<string, string> = {};
    const reply = { header: (name: string, value: string) => (headers[name] = value) } as unknown as FastifyReply;
    const problem = await limits.admit(principal, reply).catch((error: unknown) => error);
    return { headers, problem };
  }

  it('are counted for principal and organization, and told in the fields of the draft', async () => {
    const limits = new RateLimits(loadConfig({ RATE_LIMIT_FREE: '3', RATE_LIMIT_ORGANIZATION_FACTOR: '2' }));
    await admit(limits, caller('a'));
    jest.advanceTimersByTime(20_000);
    expect(await admit(limits, caller('a'))).toEqual({
      headers: {
        'ratelimit-policy': '"principal";q=3;w=60, "organization";q=6;w=60',
        ratelimit: '"principal";r=1;t=40, "organization";r=4;t=40',
      },
      problem: undefined,
    });
    expect((await admit(limits, caller('b'))).headers).toMatchObject({
      ratelimit: '"principal";r=2;t=60, "organization";r=3;t=40',
    });
  });

  it('refuse a principal beyond its number without counting that for its organization, for the rest of the minute', async () => {
    const limits = new RateLimits(loadConfig({ RATE_LIMIT_FREE: '2', RATE_LIMIT_ORGANIZATION_FACTOR: '2' }));
    for (let request = 0; request < 2; request += 1) await admit(limits, caller('a'));
    for (let request = 0; request < 5; request += 1) {
      const { headers, problem } = await admit(limits, caller('a'));
      expect(headers).toMatchObject({ ratelimit: '"principal";r=0;t=60' });
      expect(problem).toBeInstanceOf(Problem);
      expect(problem).toMatchObject({ code: 'rate_limited', headers: { 'Retry-After': '60' } });
    }
    expect((await admit(limits, caller('b'))).headers).toMatchObject({
      ratelimit: '"principal";r=1;t=60, "organization";r=1;t=60',
    });
    jest.advanceTimersByTime(60_001);
    expect((await admit(limits, caller('a'))).problem).toBeUndefined();
  });

  it('refuse all principals of an organization that has used up its own, and no other organization', async () => {
    const limits = new RateLimits(loadConfig({ RATE_LIMIT_FREE: '2', RATE_LIMIT_ORGANIZATION_FACTOR: '2' }));
    for (const agentId of ['a', 'a', 'b', 'b']) expect((await admit(limits, caller(agentId))).problem).toBeUndefined();
    expect(await admit(limits, caller('c'))).toMatchObject({
      headers: { ratelimit: '"principal";r=1;t=60, "organization";r=0;t=60' },
      problem: { detail: 'All agents of an organization together may make 4 requests a minute in this tier.' },
    });
    expect((await admit(limits, caller('d', 'free', 'another'))).problem).toBeUndefined();
  });

  it.each<[Tier, number]>([
    ['free', 60],
    ['pro', 600],
    ['enterprise', 6000],
  ])('of %s are %i a minute, ten times that for the organization', async (tier, quota) => {
    const { headers } = await admit(new RateLimits(loadConfig({})), caller('a', tier));
    expect(headers).toMatchObject({
      'ratelimit-policy': `"principal";q=${quota};w=60, "organization";q=${quota * 10};w=60`,
    });
  });

  it('of 0 are none: nothing is counted and nothing told', async () => {
    const limits = new RateLimits(loadConfig({ RATE_LIMIT_PRO: '0' }));
    expect(await admit(limits, caller('a', 'pro'))).toEqual({ headers: {}, problem: undefined });
  });
});

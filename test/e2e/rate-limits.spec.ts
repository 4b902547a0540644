import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { basic, type TestAgent } from '../support/api.js';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const OTHER_TIERS = { RATE_LIMIT_PRO: '7', RATE_LIMIT_ORGANIZATION_FACTOR: '2' };

describe('the rate limits of the management endpoints', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp({ env: OTHER_TIERS });
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  async function tenant(tier: string): Promise<{ organizationId: string; agent: TestAgent; token: string }> {
    const organizationId = await addOrganization(service, operator, { tier });
    const agent = await service.api.agent(operator, { organizationId, scopes: ['agents:read', 'agents:write'] });
    return { organizationId, agent, token: await service.api.token(agent) };
  }

  it.each([
    ['free', '"principal";q=60;w=60, "organization";q=120;w=60'],
    ['pro', '"principal";q=7;w=60, "organization";q=14;w=60'],
    ['enterprise', '"principal";q=6000;w=60, "organization";q=12000;w=60'],
  ])('are told in every answer to an agent of tier %s', async (tier, policy) => {
    const { agent, token } = await tenant(tier);
    const answer = await service.api.call('GET', `/agents/${agent.agentId}`, token);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('ratelimit-policy')).toBe(policy);
    const [, remaining, reset] = /^"principal";r=(\d+);t=(\d+), /.exec(answer.headers.get('ratelimit') ?? '') ?? [];
    expect(Number(remaining)).toBe(Number(/q=(\d+)/.exec(policy)?.[1]) - 1);
    expect(Number(reset)).toBeGreaterThan(50);
    expect(Number(reset)).toBeLessThanOrEqual(60);
  });

  it('refuse a request too many as a problem, whatever it asks for, and let other agents go on', async () => {
    const { organizationId, agent, token } = await tenant('pro');
    const answers = [];
    for (let request = 0; request < 5; request += 1) answers.push(await service.api.call('GET', '/agents', token));
    // Refused requests count as well: a scope that is missing, an object that does not exist.
    answers.push(await service.api.call('GET', '/audit', token));
    answers.push(await service.api.call('GET', '/agents/nobody', token));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 403, 404]);
    for (const path of ['/agents', '/audit', '/agents/nobody']) {
      const refused = await service.api.call('GET', path, token);
      expect(refused.status).toBe(429);
      expect(refused.headers.get('content-type')).toBe('application/problem+json');
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(refused.headers.get('ratelimit')).toMatch(/^"principal";r=0;t=\d+$/);
      expect(refused.body).toEqual({
        type: 'urn:sentryagent:problem:rate_limited',
        title: 'Too many requests',
        status: 429,
        detail: 'An agent may make 7 requests a minute in this tier.',
        code: 'rate_limited',
      });
    }
    const path = `/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`;
    const rotated = await service.api.send('POST', `/api/v1${path}`, { headers: basic(agent) });
    expect([rotated.status, rotated.body['code']]).toEqual([429, 'rate_limited']);
    const colleague = await service.api.agent(operator, { organizationId, scopes: ['agents:read'] });
    expect((await service.api.call('GET', '/agents', await service.api.token(colleague))).status).toBe(200);
  });

  it('follow the tier at once', async () => {
    const { organizationId, token } = await tenant('free');
    const policy = async () => (await service.api.call('GET', '/agents', token)).headers.get('ratelimit-policy');
    expect(await policy()).toContain('q=60;');
    await service.api.call('PATCH', `/organizations/${organizationId}`, operator, { tier: 'enterprise' });
    expect(await policy()).toContain('q=6000;');
  });

  it('are not counted or told where tokens are issued, introspected and revoked, nor at public endpoints', async () => {
    const { agent, token } = await tenant('pro');
    for (let request = 0; request < 10; request += 1) {
      const answers = [
        await service.api.requestToken(agent),
        await service.api.revoke(token, 'garbage'),
        await service.api.form('/api/v1/token/introspect', { token }, { Authorization: `Bearer ${operator}` }),
        await service.api.send('GET', '/.well-known/jwks.json'),
        await service.api.send('GET', '/health/live'),
      ];
      for (const { status, headers } of answers) expect([status, headers.get('ratelimit')]).toEqual([200, null]);
    }
    expect((await service.api.call('GET', '/agents', token)).status).toBe(200);
  });

  it('are not told to whoever shows no valid token', async () => {
    const { headers } = await service.api.call('GET', '/agents', 'garbage');
    expect([headers.get('ratelimit'), headers.get('ratelimit-policy')]).toEqual([null, null]);
  });
});

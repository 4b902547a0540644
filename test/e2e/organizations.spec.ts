import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

describe('organizations', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('gives a tenant its own API with its own scope, from the organization to the token', async () => {
    const { body: acme } = await service.api.call('POST', '/organizations', operator, { name: 'Acme', slug: 'acme' });
    expect(acme).toMatchObject({ name: 'Acme', slug: 'acme', tier: 'free', status: 'active' });
    const organizationId = acme['organizationId'] as string;
    const admin = await service.api.agent(operator, {
      organizationId,
      scopes: ['agents:read', 'agents:write', 'resources:read', 'resources:write', 'tokens:read'],
    });
    const token = await service.api.token(admin);
    const resource = await service.api.call('POST', '/resources', token, {
      identifier: 'https://invoices.acme.example',
      name: 'Invoices',
      scopes: [{ name: 'invoices:read', description: 'Read invoices' }],
      tokenTtlSeconds: 120,
    });
    expect(resource.status).toBe(201);
    const reader = await service.api.agent(token, { scopes: ['invoices:read'] });
    const { body } = await service.api.requestToken(reader);
    expect(body).toMatchObject({ scope: 'invoices:read', expires_in: 120 });
    const earned = body['access_token'] as string;
    expect(claimsOf(earned)).toMatchObject({ aud: 'https://invoices.acme.example', org: organizationId });
    expect(await service.api.introspect(token, earned)).toMatchObject({ active: true });

    await service.api.call('DELETE', `/resources/${String(resource.body['resourceId'])}`, token);
    expect(await service.api.introspect(token, earned)).toEqual({ active: false });
    const usage = await service.api.call('GET', `/organizations/${organizationId}/usage`, operator);
    expect(usage.body['days']).toEqual([{ day: expect.any(String), tokens: 2, refusals: {} }]);
  });
});

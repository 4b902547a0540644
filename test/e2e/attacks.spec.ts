import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { ExpiredRevocations } from '../../src/tokens/expired-revocations.js';
import { holdLedgers, until } from '../faults/conditions.js';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const TENANT_SCOPES = ['agents:read', 'agents:write', 'resources:read', 'resources:write', 'tokens:read'];

/** Attacks that worked once, each as the test that shows its defence. */
describe('attacks', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  /** An agent of a new tenant with every scope that a tenant can hold, and its token. */
  async function tenantAdmin(): Promise<{ agentId: string; token: string; organizationId: string }> {
    const organizationId = await addOrganization(service, operator);
    const agent = await service.api.agent(operator, { organizationId, scopes: TENANT_SCOPES });
    return { agentId: agent.agentId, token: await service.api.token(agent), organizationId };
  }

  it('an act that waits while its caller is suspended is refused when its turn comes', async () => {
    const rogue = await tenantAdmin();
    const victim = await service.api.agent(rogue.token);
    const hold = await holdLedgers(service.database);
    const act = service.api.call('POST', `/agents/${victim.agentId}/credentials`, rogue.token, {});
    await until('the act to wait for the lock', async () => {
      const rows = await service.database.query(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
          AND query LIKE '%organization_ledgers%'`,
      );
      return rows.length > 0;
    });
    await hold.query(
      `UPDATE agents SET status = 'suspended', generation = generation + 1, valid_from_generation = generation + 1
        WHERE agent_id = $1`,
      [rogue.agentId],
    );
    await hold.release();
    const { status, headers } = await act;
    expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer error="invalid_token"']);
    const { body } = await service.api.call('GET', `/agents/${victim.agentId}/credentials`, operator);
    expect(body['data']).toHaveLength(1);
  });

  it('an endless list is refused before its items are looked at', async () => {
    const { token } = await tenantAdmin();
    const scopes = Array.from({ length: 20_000 }, () => ({}));
    const started = performance.now();
    const { status, body } = await service.api.call('POST', '/resources', token, {
      identifier: 'https://endless.example',
      name: 'x',
      scopes,
    });
    expect([status, body['errors']]).toEqual([400, [{ pointer: '/scopes', detail: expect.any(String) }]]);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('no token is issued that would be too large to be introspected and revoked', async () => {
    const { token } = await tenantAdmin();
    const names = Array.from({ length: 100 }, (_, index) => `${String(index).padStart(3, '0')}${'x'.repeat(120)}`);
    await service.api.call('POST', '/resources', token, {
      identifier: 'https://large.example',
      name: 'x',
      scopes: names.map((name) => ({ name, description: name })),
    });
    const agent = await service.api.agent(token, { scopes: names });
    const { status, body } = await service.api.requestToken(agent);
    expect([status, body['error']]).toEqual([400, 'invalid_scope']);
    const narrow = await service.api.token(agent, { scope: names.slice(0, 40).join(' ') });
    expect(await service.api.introspect(token, narrow)).toMatchObject({ active: true });
    await service.api.revoke(operator, narrow);
    expect(await service.api.introspect(token, narrow)).toEqual({ active: false });
  });

  it.each([
    'https://API.trusted.example/v1',
    'https://api.trusted.example:443/v1',
    'https://api.trusted.example/v1/',
    'https://api.trusted.example//v1',
    'https://api.trusted.example/./v1',
    'https://api.trusted.example/%761',
    'https://api.trusted.example/v1?',
  ])("another tenant's audience cannot be had in the spelling %s", async (alias) => {
    const owner = await tenantAdmin();
    await service.api.call('POST', '/resources', owner.token, {
      identifier: 'https://api.trusted.example/v1',
      name: 'x',
    });
    const other = await tenantAdmin();
    const { status } = await service.api.call('POST', '/resources', other.token, { identifier: alias, name: 'x' });
    expect(status).toBe(409);
  });

  it('a user in an identifier is refused', async () => {
    const { token } = await tenantAdmin();
    const identifier = 'https://somebody@api.trusted.example/v1';
    expect((await service.api.call('POST', '/resources', token, { identifier, name: 'x' })).status).toBe(400);
  });

  it('an audience stays with the tenant that had it, after it was deleted', async () => {
    const owner = await tenantAdmin();
    const body = { identifier: 'https://deleted.example', name: 'x' };
    const { body: resource } = await service.api.call('POST', '/resources', owner.token, body);
    await service.api.call('DELETE', `/resources/${String(resource['resourceId'])}`, owner.token);
    const other = await tenantAdmin();
    expect((await service.api.call('POST', '/resources', other.token, body)).status).toBe(409);
    expect((await service.api.call('POST', '/resources', owner.token, body)).status).toBe(201);
  });

  it('scopes that come and go cannot fill the row of an agent', async () => {
    const admin = await tenantAdmin();
    const path = '/resources';
    const scopesOf = (round: number) =>
      Array.from({ length: 120 }, (_, index) => ({ name: `r${round}:${index}`, description: 'x' }));
    const { body } = await service.api.call('POST', path, admin.token, {
      identifier: `https://churn-${admin.organizationId}.example`,
      name: 'x',
      scopes: scopesOf(0),
    });
    const agent = await service.api.agent(admin.token, { scopes: scopesOf(0).map(({ name }) => name) });
    const token = await service.api.token(agent);
    for (const round of [1, 2, 3]) {
      const scopes = scopesOf(round);
      await service.api.call('PATCH', `${path}/${String(body['resourceId'])}`, admin.token, { scopes });
      const names = scopes.map(({ name }) => name);
      expect((await service.api.call('PATCH', `/agents/${agent.agentId}`, admin.token, { scopes: names })).status).toBe(
        200,
      );
    }
    const [row] = await service.database.query<{ count: string }>(
      'SELECT count(*) FROM agents, jsonb_object_keys(scope_removals) WHERE agent_id = $1',
      [agent.agentId],
    );
    expect(Number(row?.count)).toBeLessThanOrEqual(200);
    expect(await service.api.introspect(operator, token)).toEqual({ active: false });
  });

  it('revocations are deleted once their tokens have long expired, and not before', async () => {
    const agent = await service.api.agent(operator, { tokenTtlSeconds: 60 });
    const token = await service.api.token(agent);
    await service.api.revoke(token, token);
    const count = async () => (await service.database.query('SELECT 1 FROM token_revocations')).length;
    const expired = service.app.get(ExpiredRevocations, { strict: false });
    const before = await count();
    service.clock.advance(120);
    await expired.deleteSome();
    expect(await count()).toBe(before);
    service.clock.advance(2 * 3600);
    await expired.deleteSome();
    expect(await count()).toBe(0);
    operator = await service.api.token(service.operator);
  });

  it('a client that asks on and reads no answer fills no memory', async () => {
    const { hostname, port } = new URL(service.url);
    const server = service.app.getHttpServer();
    const connections = () =>
      new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));
    const before = await connections();
    const { heapUsed, external } = process.memoryUsage();
    const sockets = Array.from({ length: 20 }, () => connect(Number(port), hostname));
    for (const socket of sockets) {
      socket.on('error', () => undefined).pause();
      socket.write('GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1000));
    }
    await until('the service to end these connections', async () => (await connections()) <= before);
    const now = process.memoryUsage();
    expect(now.heapUsed + now.external - heapUsed - external).toBeLessThan(100 * 2 ** 20);
    for (const socket of sockets) socket.destroy();
    expect((await service.api.send('GET', '/health/live')).status).toBe(200);
  });

  it('the address that a proxy adds is not lost behind more fields than Node keeps', async () => {
    const behind = await startTestApp({ database: service.database, env: { TRUSTED_PROXIES: '127.0.0.1' } });
    try {
      const { hostname, port } = new URL(behind.url);
      const socket = connect(Number(port), hostname);
      const form = `grant_type=client_credentials&client_id=${service.operator.clientId}&client_secret=guess`;
      const fields = [
        ...['Host: x', 'Connection: close', 'Content-Type: application/x-www-form-urlencoded'],
        ...[`Content-Length: ${form.length}`, 'X-Forwarded-For: 192.0.2.1'],
        ...Array.from({ length: 1100 }, () => 'A: b'),
        'X-Forwarded-For: 198.51.100.1',
      ];
      socket.write(`POST /api/v1/token HTTP/1.1\r\n${fields.join('\r\n')}\r\n\r\n${form}`);
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
      const counted = await service.database.query("SELECT 1 FROM authentication_failures WHERE network = '192.0.2.1'");
      expect(counted).toEqual([]);
    } finally {
      await behind.close();
    }
  });

  it('what a proxy passes on that is no address does not reach the audit log', async () => {
    const behind = await startTestApp({ database: service.database, env: { TRUSTED_PROXIES: '127.0.0.1' } });
    try {
      const agent = await service.api.agent(operator);
      for (const forwarded of ['<script>alert(1)</script>', '203.0.113.7']) {
        await behind.api.form(
          '/api/v1/token',
          { grant_type: 'client_credentials', client_id: agent.clientId, client_secret: agent.clientSecret },
          { 'X-Forwarded-For': forwarded },
        );
      }
      const { body } = await service.api.call<{ data: { ip: string }[] }>(
        'GET',
        `/audit?agentId=${agent.agentId}&action=token.issued`,
        operator,
      );
      expect(body.data.map(({ ip }) => ip)).toEqual(['203.0.113.7', '127.0.0.1']);
    } finally {
      await behind.close();
    }
  });
});

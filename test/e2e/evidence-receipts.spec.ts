import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { claimsOf, type TestAgent } from '../support/api.js';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

describe('receipts', () => {
  let service: TestApp;
  let operator: string;
  let tenant: string;
  let tenantAgent: TestAgent;
  let tenantToken: string;

  const get = (path: string, caller = tenantToken) => service.api.call('GET', path, caller);

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    tenant = await addOrganization(service, operator);
    tenantAgent = await service.api.agent(operator, { organizationId: tenant, scopes: ['audit:read'] });
    tenantToken = await service.api.token(tenantAgent);
  });
  afterAll(() => service.close());

  it('are given for an event at once, under a checkpoint that covers it', async () => {
    const [event] = (await get('/audit?limit=1')).body['data'] as { eventId: string; sequence: number }[];
    const { status, body } = await get(`/audit/${event?.eventId}/receipt`);
    expect(status).toBe(200);
    expect(body).toEqual({
      event,
      leafIndex: (event?.sequence ?? 0) - 1,
      treeSize: expect.any(Number),
      inclusionPath: expect.any(Array),
      checkpoint: expect.any(String),
    });
    expect(claimsOf(body['checkpoint'] as string)).toMatchObject({
      organizationId: tenant,
      sequence: body['treeSize'],
    });
  });

  it('are found by the jti of a token', async () => {
    const { jti, sub } = claimsOf(tenantToken);
    const { status, body } = await get(`/audit/receipt?jti=${String(jti)}`);
    expect([status, body['event']]).toEqual([
      200,
      expect.objectContaining({ eventId: jti, action: 'token.issued', actor: sub, target: { type: 'token', id: jti } }),
    ]);
    expect((await get(`/audit/receipt?jti=${String(jti).toUpperCase()}`)).status).toBe(200);
  });

  it('of a token from before its jti was the id of its event are found by that event', async () => {
    const token = await service.api.token(tenantAgent);
    const { jti: eventId, iat } = claimsOf(token);
    const jti = randomUUID();
    await service.database.query('UPDATE audit_events SET target_id = $2 WHERE event_id = $1', [eventId, jti]);
    expect((await get(`/audit/receipt?jti=${jti}`)).status).toBe(404);
    const second = (offset: number) => new Date((Number(iat) + offset) * 1000).toISOString();
    const { body } = await get(`/audit?action=token.issued&from=${second(-1)}&to=${second(2)}`);
    const found = (body['data'] as { eventId: string; target: { id: string } }[]).find(
      ({ target }) => target.id === jti,
    );
    expect(found?.eventId).toBe(eventId);
    expect((await get(`/audit/${String(found?.eventId)}/receipt`)).status).toBe(200);
  });

  it('are nobody else’s, and of nothing else', async () => {
    const { jti: foreignJti } = claimsOf(operator);
    const [foreign] = (await get('/audit?limit=1', operator)).body['data'] as { eventId: string }[];
    const [created] = (await get('/audit?action=agent.created')).body['data'] as { eventId: string }[];
    for (const [path, status] of [
      [`/audit/${foreign?.eventId}/receipt`, 404],
      [`/audit/${randomUUID()}/receipt`, 404],
      ['/audit/not-an-id/receipt', 404],
      [`/audit/receipt?jti=${String(foreignJti)}`, 404],
      // An event of another kind is no token.
      [`/audit/receipt?jti=${created?.eventId}`, 404],
      ['/audit/receipt', 400],
      ['/audit/receipt?jti=x', 400],
      [`/audit/receipt?jti=${randomUUID()}&organizationId=${tenant}`, 400],
    ] as const) {
      expect([path, (await get(path)).status]).toEqual([path, status]);
    }
    expect((await get(`/audit/${created?.eventId}/receipt`, operator)).status).toBe(200);
    const other = await service.api.token(await service.api.agent(operator, { scopes: ['agents:read'] }));
    expect((await get(`/audit/${created?.eventId}/receipt`, other)).status).toBe(403);
  });

  it('prove that one checkpoint extends another, of one organization', async () => {
    await service.api.token(tenantAgent);
    await get('/audit/checkpoint');
    const [later, earlier] = (await get('/audit/checkpoints')).body['data'] as {
      sequence: number;
      checkpoint: string;
    }[];
    const { status, body } = await get(`/audit/consistency?from=${earlier?.sequence}&to=${later?.sequence}`);
    expect([status, body['from'], body['to']]).toEqual([200, earlier?.checkpoint, later?.checkpoint]);
    for (const [query, expected] of [
      [`from=${later?.sequence}&to=${earlier?.sequence}`, 400],
      [`from=${earlier?.sequence}`, 400],
      ['from=0&to=1', 400],
      ['from=1e3&to=x', 400],
      [`from=${earlier?.sequence}&to=${Number(later?.sequence) + 1}`, 404],
      [`from=${earlier?.sequence}&to=999999`, 404],
      [`from=${later?.sequence}&to=${later?.sequence}`, 200],
      [`from=-1&to=${later?.sequence}`, 400],
      [`from=${later?.sequence}&to=-1`, 400],
      [`from=0&to=0`, 400],
      [`from=1.5&to=${later?.sequence}`, 400],
      [`from=1&from=2&to=${later?.sequence}`, 400],
      [`from=1&to=9007199254740993`, 400],
      [`from=1&to=9007199254740991`, 404],
      [`from=9007199254740991&to=${later?.sequence}`, 400],
      [`from=1&to=2&organizationId=${claimsOf(operator)['org'] as string}`, 403],
    ] as const) {
      expect([query, (await get(`/audit/consistency?${query}`)).status]).toEqual([query, expected]);
    }
  });

  it('prove that a checkpoint extends any before it, stored or not', async () => {
    const [later] = (await get('/audit/checkpoints')).body['data'] as { sequence: number; checkpoint: string }[];
    const to = Number(later?.sequence);
    const stored = new Map(
      ((await get('/audit/checkpoints?limit=200')).body['data'] as { sequence: number; checkpoint: string }[]).map(
        ({ sequence, checkpoint }) => [sequence, checkpoint],
      ),
    );
    for (let from = 1; from <= to; from += 1) {
      const { status, body } = await get(`/audit/consistency?from=${from}&to=${to}`);
      expect([from, status, body['from'], body['to']]).toEqual([
        from,
        200,
        stored.get(from) ?? null,
        later?.checkpoint,
      ]);
    }
    expect(stored.has(1)).toBe(false);
  });

  it('are refused rather than given wrong where the log was changed', async () => {
    const { jti } = claimsOf(await service.api.token(tenantAgent));
    await get('/audit/checkpoint');
    await service.database.query('UPDATE audit_events SET hash = previous_hash WHERE event_id = $1', [jti]);
    const { status, body } = await get(`/audit/receipt?jti=${String(jti)}`);
    expect([status, body['code']]).toEqual([409, 'conflict']);
  });

  it('share no cursor with another tenant’s lists, nor one list with another', async () => {
    await service.api.call('GET', '/audit/checkpoint', operator);
    await service.api.token(service.operator);
    await service.api.call('GET', '/audit/checkpoint', operator);
    const cursorOf = async (path: string) => (await get(`${path}?limit=1`, operator)).body['nextCursor'] as string;
    for (const path of ['/audit', '/audit/checkpoints']) {
      for (const from of ['/audit', '/audit/checkpoints']) {
        const cursor = await cursorOf(from);
        expect([path, from, (await get(`${path}?cursor=${cursor}`)).status]).toEqual([path, from, 400]);
        const expected = path === from ? 200 : 400;
        expect([path, from, (await get(`${path}?cursor=${cursor}`, operator)).status]).toEqual([path, from, expected]);
      }
    }
  });

  it('leave other tenants’ exports and checkpoints alone', async () => {
    const foreign = claimsOf(operator)['org'] as string;
    expect((await get(`/audit/export?organizationId=${foreign}`)).status).toBe(403);
    const kept = (await get('/audit/checkpoint', operator)).body['checkpoint'];
    const verdict = await service.api.call('POST', '/audit/verify', tenantToken, { checkpoint: kept });
    expect(verdict.body).toMatchObject({ valid: false, brokenAt: null, reason: 'checkpoint_foreign' });
    const exported = await get(`/audit/export?organizationId=${tenant}`, operator);
    expect(exported.status).toBe(200);
    expect(exported.text).not.toContain(foreign);
    for (const query of ['fromSequence=0', 'fromSequence=x', 'unknown=1', 'organizationId=x']) {
      expect((await get(`/audit/export?${query}`)).status).toBe(400);
    }
  });
});

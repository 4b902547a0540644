import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { addOrganization } from '../support/organization.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const URL = 'https://hooks.example.com/agentidp?key=in-the-url';

describe('webhook subscriptions', () => {
  let service: TestApp;
  let operator: string;
  let organizationId: string;
  /** Of the other organization: may do everything with webhooks. */
  let token: string;

  beforeAll(async () => {
    service = await startTestApp({ env: { RATE_LIMIT_FREE: '0' } });
    operator = await service.api.token(service.operator);
    organizationId = await addOrganization(service.database);
    const scopes = ['webhooks:read', 'webhooks:write', 'audit:read'];
    token = await service.api.token(await service.api.agent(operator, { organizationId, scopes }));
  });
  afterAll(() => service.close());

  const call = (method: string, path: string, body?: unknown, as = token) => service.api.call(method, path, as, body);

  async function create(fields: Record<string, unknown> = {}, as = token): Promise<Record<string, unknown>> {
    const { status, body, text } = await call('POST', '/webhooks', { url: URL, events: ['*'], ...fields }, as);
    if (status !== 201) throw new Error(`no webhook: ${status} ${text}`);
    return body;
  }

  it('makes, reads, lists, changes and deletes a subscription; the secret is shown this once', async () => {
    const created = await call('POST', '/webhooks', {
      url: URL,
      events: ['agent.*', 'token.issued'],
      description: 'ours',
    });
    expect(created.status).toBe(201);
    const { signingSecret, ...rest } = created.body;
    expect(created.headers.get('location')).toBe(`/api/v1/webhooks/${String(rest['webhookId'])}`);
    expect(signingSecret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(rest).toEqual({
      webhookId: expect.any(String),
      organizationId,
      url: URL,
      events: ['agent.*', 'token.issued'],
      description: 'ours',
      status: 'active',
      disabledReason: null,
      previousSecretExpiresAt: null,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
    const path = `/webhooks/${String(rest['webhookId'])}`;
    expect((await call('GET', path)).body).toEqual(rest);
    expect((await call('GET', '/webhooks')).body['data']).toEqual([rest]);
    const changed = await call('PATCH', path, { status: 'disabled', events: ['quota.threshold'], description: null });
    expect(changed.status).toBe(200);
    expect(changed.body).toMatchObject({
      status: 'disabled',
      disabledReason: 'requested',
      events: ['quota.threshold'],
      description: null,
    });
    expect((await call('PATCH', path, { status: 'active' })).body).toMatchObject({ disabledReason: null });
    expect((await call('DELETE', path)).status).toBe(204);
    expect((await call('GET', path)).status).toBe(404);
    expect((await call('DELETE', path)).status).toBe(404);
  });

  it('audits each act, with no more of the URL than its origin', async () => {
    const { webhookId } = await create();
    await call('PATCH', `/webhooks/${String(webhookId)}`, { description: 'x' });
    await call('POST', `/webhooks/${String(webhookId)}/rotate-secret`);
    await call('DELETE', `/webhooks/${String(webhookId)}`);
    const { body, text } = await call('GET', '/audit?limit=4');
    const data = body['data'] as { action: string; target: unknown; details: Record<string, unknown> }[];
    expect(data.map(({ action }) => action)).toEqual([
      'webhook.deleted',
      'webhook.secret_rotated',
      'webhook.updated',
      'webhook.created',
    ]);
    for (const { target, details } of data) {
      expect(target).toEqual({ type: 'webhook', id: webhookId });
      expect(details['urlOrigin']).toBe('https://hooks.example.com');
    }
    expect(text).not.toMatch(/in-the-url|whsec_/);
  });

  it.each([
    [{ events: ['nothing.happened'] }, '/events/0'],
    [{ events: ['agent.created', 'agent'] }, '/events/1'],
    [{ events: ['agent.*.x'] }, '/events/0'],
    [{ events: ['*.*'] }, '/events/0'],
    [{ events: ['%'] }, '/events/0'],
    [{ events: [] }, '/events'],
    [{ events: ['*', '*'] }, '/events'],
    [{ events: '*' }, '/events'],
    [{ url: 'http://169.254.169.254/latest' }, '/url'],
    [{ url: 'http://localhost:5432/' }, '/url'],
    [{ url: 'https://0x7f000001/' }, '/url'],
    [{ url: 'https://user:secret@hooks.example.com/' }, '/url'],
    [{ url: 'ftp://hooks.example.com/' }, '/url'],
    [{ url: `https://hooks.example.com/${'x'.repeat(2048)}` }, '/url'],
    [{ url: null }, '/url'],
    [{ status: 'paused' }, '/status'],
    [{ signingSecret: 'whsec_mine' }, '/signingSecret'],
    [{ webhookId: randomUUID() }, '/webhookId'],
  ])('refuses %j', async (fields, pointer) => {
    const { status, body } = await call('POST', '/webhooks', { url: URL, events: ['*'], ...fields });
    expect(status).toBe(400);
    expect((body['errors'] as { pointer: string }[])[0]?.pointer).toBe(pointer);
  });

  it('refuses a forbidden URL in a change, too', async () => {
    const { webhookId } = await create();
    const { status } = await call('PATCH', `/webhooks/${String(webhookId)}`, { url: 'https://[::ffff:10.0.0.1]/' });
    expect(status).toBe(400);
    await call('DELETE', `/webhooks/${String(webhookId)}`);
  });

  it('keeps secrets sealed', async () => {
    const { webhookId, signingSecret } = await create();
    const key = Buffer.from(String(signingSecret).slice('whsec_'.length), 'base64');
    const [row] = await service.database.query<{ sealed_secret: Buffer }>(
      'SELECT sealed_secret FROM webhooks WHERE webhook_id = $1',
      [webhookId],
    );
    expect(row?.sealed_secret.includes(key)).toBe(false);
    await call('DELETE', `/webhooks/${String(webhookId)}`);
  });

  it('rotates the secret, with an overlap that ends', async () => {
    const { webhookId, signingSecret } = await create();
    const path = `/webhooks/${String(webhookId)}/rotate-secret`;
    const rotated = await call('POST', path, { overlapSeconds: 60 });
    expect(rotated.status).toBe(200);
    expect(rotated.body['signingSecret']).not.toBe(signingSecret);
    const ends = Date.parse(String(rotated.body['previousSecretExpiresAt'])) - service.clock.nowMs();
    expect(ends).toBeGreaterThan(50_000);
    expect(ends).toBeLessThanOrEqual(60_000);
    expect((await call('POST', path, { overlapSeconds: 0 })).body['previousSecretExpiresAt']).toBeNull();
    expect((await call('POST', path, { overlapSeconds: 604_801 })).status).toBe(400);
    expect((await call('POST', path, { overlapSeconds: null })).status).toBe(400);
    await call('DELETE', `/webhooks/${String(webhookId)}`);
  });

  it('never has more than the tier allows, disabled ones counted, however many ask at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => call('POST', '/webhooks', { url: URL, events: ['*'], status: 'disabled' })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(5);
    const refused = answers.filter(({ status }) => status === 403);
    expect(refused).toHaveLength(7);
    expect(refused[0]?.body).toMatchObject({ code: 'limit_reached', limit: 5, used: 5 });
    await service.database.query('UPDATE organizations SET limit_webhooks = 6 WHERE organization_id = $1', [
      organizationId,
    ]);
    await create();
    expect((await call('POST', '/webhooks', { url: URL, events: ['*'] })).body).toMatchObject({ limit: 6, used: 6 });
    const { body } = await call('GET', '/webhooks?limit=4');
    expect(body['data']).toHaveLength(4);
    const rest = await call('GET', `/webhooks?limit=4&cursor=${String(body['nextCursor'])}`);
    expect(rest.body['data']).toHaveLength(2);
    const both = [...(body['data'] as { webhookId: string }[]), ...(rest.body['data'] as { webhookId: string }[])];
    expect(new Set(both.map(({ webhookId }) => webhookId)).size).toBe(6);
    for (const { webhookId } of both) await call('DELETE', `/webhooks/${webhookId}`);
  });

  describe('as an attacker', () => {
    let foreign: string;
    let mine: string;

    beforeAll(async () => {
      foreign = String((await create({}, operator))['webhookId']);
      mine = String((await create({ events: ['quota.threshold'] }))['webhookId']);
    });

    const routes: [string, string, unknown][] = [
      ['GET', '', undefined],
      ['PATCH', '', { description: 'taken over' }],
      ['DELETE', '', undefined],
      ['POST', '/rotate-secret', undefined],
      ['POST', '/test', undefined],
      ['GET', '/deliveries', undefined],
      ['POST', `/deliveries/${randomUUID()}/redeliver`, undefined],
    ];

    it.each(routes)('finds nothing foreign, unknown or malformed at %s %s', async (method, path, body) => {
      for (const id of [foreign, foreign.toUpperCase(), randomUUID(), 'x', '%27%20OR%201=1', '..%2fagents']) {
        expect((await call(method, `/webhooks/${id}${path}`, body)).status).toBe(404);
      }
      expect((await call('GET', `/webhooks/${foreign}`, undefined, operator)).body['description']).toBeNull();
    });

    it.each(routes)('needs a token with the scope at %s %s', async (method, path, body) => {
      const target = `/webhooks/${mine}${path}`;
      expect((await service.api.send(method, `/api/v1${target}`)).status).toBe(401);
      const scopes = method === 'GET' ? ['webhooks:write'] : ['webhooks:read'];
      const weak = await service.api.token(await service.api.agent(operator, { organizationId, scopes }));
      expect((await call(method, target, body, weak)).status).toBe(403);
    });

    it('cannot name another organization, and the operator can', async () => {
      const { body } = await call('GET', '/webhooks', undefined, operator);
      const operators = (body['data'] as { organizationId: string }[])[0]?.organizationId;
      expect((await call('POST', '/webhooks', { url: URL, events: ['*'], organizationId: operators })).status).toBe(
        403,
      );
      expect((await call('GET', `/webhooks?organizationId=${operators}`)).status).toBe(403);
      const seen = await call('GET', `/webhooks?organizationId=${organizationId}`, undefined, operator);
      expect((seen.body['data'] as unknown[]).length).toBe(1);
      expect((await call('GET', `/webhooks/${mine}`, undefined, operator)).status).toBe(200);
    });

    it('cannot use a cursor of another list', async () => {
      const cursor = Buffer.from(JSON.stringify([`deliveries:${foreign}`, randomUUID()])).toString('base64url');
      expect((await call('GET', `/webhooks/${mine}/deliveries?cursor=${cursor}`)).status).toBe(400);
      expect((await call('GET', `/webhooks?cursor=${cursor}`)).status).toBe(400);
    });

    it('cannot fill the queue by hand', async () => {
      // Nobody works on it meanwhile: the lane is leased to somebody else.
      await service.database.query(
        `UPDATE webhook_lanes SET lease_owner = gen_random_uuid(), lease_until = 'infinity' WHERE webhook_id = $1`,
        [mine],
      );
      const answers: { status: number; headers: Headers; body: unknown }[] = [];
      while (answers.length < 110) {
        const some = Array.from({ length: 5 }, () => call('POST', `/webhooks/${mine}/test`));
        answers.push(...(await Promise.all(some)));
      }
      expect(answers.filter(({ status }) => status === 202)).toHaveLength(100);
      const refused = answers.filter(({ status }) => status === 429);
      expect(refused).toHaveLength(10);
      expect(refused[0]?.headers.get('retry-after')).toBe('10');
      expect(refused[0]?.body).toMatchObject({ code: 'rate_limited' });
    });

    it('sends nothing by hand to a disabled one, and what waited is given up', async () => {
      await call('PATCH', `/webhooks/${mine}`, { status: 'disabled' });
      expect((await call('POST', `/webhooks/${mine}/test`)).status).toBe(409);
      const { body } = await call('GET', `/webhooks/${mine}/deliveries?limit=200`);
      const data = body['data'] as { status: string }[];
      expect(data.map(({ status }) => status)).toEqual(Array.from({ length: 100 }, () => 'failed'));
    });
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

const NO_LIMITS = { tokensPerMonth: null, agents: null, auditRetentionDays: null, webhooks: null };
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** What an administrator of an organization may hold. */
const ADMINISTRATOR = ['agents:read', 'agents:write', 'tokens:read', 'audit:read', 'resources:read', 'resources:write'];

describe('organizations', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  const call = (method: string, path: string, body?: unknown): Promise<Answer> =>
    service.api.call(method, path, operator, body);
  const post = (body: unknown): Promise<Answer> => call('POST', '/organizations', body);
  const patch = (id: string, body: unknown): Promise<Answer> => call('PATCH', `/organizations/${id}`, body);
  const act = (id: string, name: string): Promise<Answer> => call('POST', `/organizations/${id}/${name}`);
  const read = (id: string): Promise<Answer> => call('GET', `/organizations/${id}`);
  const freshSlug = (): string => `o-${randomBytes(8).toString('hex')}`;

  /** Makes an organization and answers its id. */
  async function make(fields: Json = {}): Promise<string> {
    const { status, body, text } = await post({ name: 'Acme', slug: freshSlug(), ...fields });
    if (status !== 201) throw new Error(`no organization: ${status} ${text}`);
    return body['organizationId'] as string;
  }

  function pointers({ status, headers, body }: Answer): string[] {
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ status: 400, code: 'validation_failed' });
    return (body['errors'] as { pointer: string; detail: string }[]).map(({ pointer, detail }) => {
      expect(detail).not.toBe('');
      return pointer;
    });
  }

  it('gives a tenant its own API with its own scope, from the organization to the token', async () => {
    const { body: acme } = await post({ name: 'Acme', slug: 'acme' });
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
    const usage = await call('GET', `/organizations/${organizationId}/usage`);
    expect(usage.body['days']).toEqual([{ day: expect.any(String), tokens: 2, refusals: {} }]);
  });

  describe('making one', () => {
    it('answers 201 with all of it, and names its place', async () => {
      const slug = freshSlug();
      const limits = { tokensPerMonth: 5000, agents: 7, auditRetentionDays: 30, webhooks: 0 };
      const { status, headers, body } = await post({ name: 'Größe & Söhne', slug, tier: 'pro', limits });
      expect(status).toBe(201);
      expect(body).toEqual({
        organizationId: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
        name: 'Größe & Söhne',
        slug,
        tier: 'pro',
        status: 'active',
        limits,
        createdAt: expect.stringMatching(INSTANT),
        updatedAt: body['createdAt'],
      });
      expect(headers.get('location')).toBe(`/api/v1/organizations/${String(body['organizationId'])}`);
      expect((await read(body['organizationId'] as string)).body).toEqual(body);
    });

    it('needs name and slug only: the tier is free, the limits are the tier’s', async () => {
      const { status, body } = await post({ name: 'x', slug: freshSlug() });
      expect(status).toBe(201);
      expect(body).toMatchObject({ tier: 'free', status: 'active', limits: NO_LIMITS });
    });

    it.each(['a', '0', 'a-b', 'a--b', '9'.repeat(63), 'operator-2'])('takes the slug %s', async (slug) => {
      expect((await post({ name: 'x', slug })).body).toMatchObject({ slug });
    });

    it('takes limits and names at their bounds', async () => {
      const limits = {
        tokensPerMonth: 1_000_000_000_000,
        agents: 0,
        auditRetentionDays: 36_500,
        webhooks: 1_000_000_000_000,
      };
      const { status, body } = await post({ name: 'n'.repeat(128), slug: freshSlug(), limits });
      expect([status, body['limits']]).toEqual([201, limits]);
      expect((await post({ name: 'x', slug: freshSlug(), limits: { auditRetentionDays: 1 } })).status).toBe(201);
    });

    it.each<[string, Json, string]>([
      ['no name', { slug: 'n-1' }, '/name'],
      ['an empty name', { name: '', slug: 'n-1' }, '/name'],
      ['a name of 129 characters', { name: 'n'.repeat(129), slug: 'n-1' }, '/name'],
      ['a name that is a number', { name: 1, slug: 'n-1' }, '/name'],
      ['no slug', { name: 'x' }, '/slug'],
      ['an empty slug', { name: 'x', slug: '' }, '/slug'],
      ['a slug that is null', { name: 'x', slug: null }, '/slug'],
      ['a slug that is a list', { name: 'x', slug: ['a'] }, '/slug'],
      ['a slug in capitals', { name: 'x', slug: 'Acme' }, '/slug'],
      ['a slug with a space', { name: 'x', slug: 'a b' }, '/slug'],
      ['a slug with a dot', { name: 'x', slug: 'a.b' }, '/slug'],
      ['a slug with an underscore', { name: 'x', slug: 'a_b' }, '/slug'],
      ['a slug with a slash', { name: 'x', slug: '../a' }, '/slug'],
      ['a slug with a line break', { name: 'x', slug: 'acme\n' }, '/slug'],
      ['a slug that begins with a hyphen', { name: 'x', slug: '-a' }, '/slug'],
      ['a slug that ends with a hyphen', { name: 'x', slug: 'a-' }, '/slug'],
      ['a slug of 64 characters', { name: 'x', slug: 'a'.repeat(64) }, '/slug'],
      ['a slug in composed Unicode', { name: 'x', slug: 'caf\u00e9' }, '/slug'],
      ['a slug in decomposed Unicode', { name: 'x', slug: 'cafe\u0301' }, '/slug'],
      ['a slug in full-width letters', { name: 'x', slug: '\uff41\uff43\uff4d\uff45' }, '/slug'],
      ['a slug with a Cyrillic letter', { name: 'x', slug: '\u0430cme' }, '/slug'],
      ['a slug with an invisible character', { name: 'x', slug: 'ac\u200bme' }, '/slug'],
      ['an unknown tier', { name: 'x', slug: 'n-1', tier: 'gold' }, '/tier'],
      ['a tier in capitals', { name: 'x', slug: 'n-1', tier: 'Pro' }, '/tier'],
      ['a tier that is null', { name: 'x', slug: 'n-1', tier: null }, '/tier'],
      ['a tier that every object has', { name: 'x', slug: 'n-1', tier: 'constructor' }, '/tier'],
      ['limits that are null', { name: 'x', slug: 'n-1', limits: null }, '/limits'],
      ['limits that are a list', { name: 'x', slug: 'n-1', limits: [] }, '/limits'],
      ['limits that are a number', { name: 'x', slug: 'n-1', limits: 5 }, '/limits'],
      ['an unknown limit', { name: 'x', slug: 'n-1', limits: { tokens: 5 } }, '/limits/tokens'],
      ['a status', { name: 'x', slug: 'n-1', status: 'suspended' }, '/status'],
      ['an id', { name: 'x', slug: 'n-1', organizationId: randomUUID() }, '/organizationId'],
      ['to be the operator’s', { name: 'x', slug: 'n-1', isOperator: true }, '/isOperator'],
    ])('refuses %s and points at it', async (_what, body, pointer) => {
      expect([...new Set(pointers(await post(body)))]).toEqual([pointer]);
    });

    it.each(Object.keys(NO_LIMITS))('refuses a limit %s that is absurd', async (limit) => {
      for (const value of [-1, 0.5, 1_000_000_000_001, 1e308, '5', true, [], {}]) {
        const answer = await post({ name: 'x', slug: 'n-1', limits: { [limit]: value } });
        expect([value, [...new Set(pointers(answer))]]).toEqual([value, [`/limits/${limit}`]]);
      }
    });

    it('refuses a retention of 0 days, and one of more than a hundred years', async () => {
      for (const auditRetentionDays of [0, 36_501]) {
        const answer = await post({ name: 'x', slug: 'n-1', limits: { auditRetentionDays } });
        expect(pointers(answer)).toContain('/limits/auditRetentionDays');
      }
    });

    it('names every fault at once', async () => {
      const answer = await post({ slug: 'A', tier: 'gold', limits: { agents: -1, webhooks: 'many' }, colour: 'red' });
      expect(new Set(pointers(answer))).toEqual(
        new Set(['/name', '/slug', '/tier', '/limits/agents', '/limits/webhooks', '/colour']),
      );
    });

    it('answers below 500 to names that a database could choke on', async () => {
      for (const name of [
        '\u0000',
        'a\u0000b',
        '\ud800',
        '\uffff',
        "'; DROP TABLE organizations --",
        '💥'.repeat(64),
      ]) {
        const { status } = await post({ name, slug: freshSlug() });
        expect([name, [201, 400].includes(status)]).toEqual([name, true]);
      }
    });

    it('answers 409 for a slug that is taken, the operator’s too', async () => {
      const slug = freshSlug();
      const before = await make({ slug });
      for (const taken of [slug, 'operator']) {
        const { status, headers, body } = await post({ name: 'Other', slug: taken });
        expect([status, body['code']]).toEqual([409, 'conflict']);
        expect(headers.get('content-type')).toBe('application/problem+json');
      }
      await act(before, 'suspend');
      expect((await post({ name: 'Other', slug })).status).toBe(409);
    });

    it('gives a slug that many want at once to one of them', async () => {
      const slug = freshSlug();
      const answers = await Promise.all(Array.from({ length: 6 }, () => post({ name: 'x', slug })));
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409, 409, 409, 409, 409]);
    });
  });

  describe('reading', () => {
    it('takes an id in upper case for the same id', async () => {
      const id = await make();
      expect((await read(id.toUpperCase())).body['organizationId']).toBe(id);
    });

    it.each([randomUUID(), 'acme', '%20', '00000000-0000-0000-0000-00000000000g'])(
      'answers 404 for the id %s on every path',
      async (id) => {
        const answers = await Promise.all([
          read(id),
          patch(id, { name: 'y' }),
          act(id, 'suspend'),
          act(id, 'reactivate'),
          call('GET', `/organizations/${id}/usage`),
        ]);
        for (const { status, headers, body } of answers) {
          expect([status, body['code']]).toEqual([404, 'not_found']);
          expect(headers.get('content-type')).toBe('application/problem+json');
        }
      },
    );
  });

  describe('the list', () => {
    async function pages(query: string): Promise<string[][]> {
      const found: string[][] = [];
      let cursor = '';
      do {
        const { status, body, text } = await call('GET', `/organizations?${query}${cursor}`);
        if (status !== 200) throw new Error(`no list: ${status} ${text}`);
        found.push((body['data'] as Json[]).map((each) => each['organizationId'] as string));
        cursor = body['nextCursor'] === null ? '' : `&cursor=${body['nextCursor'] as string}`;
      } while (cursor !== '');
      return found;
    }

    it('pages newest first, each organization once, even where many were made in the same instant', async () => {
      const [latest, ...others] = await Promise.all(Array.from({ length: 6 }, () => make()));
      await service.database.query(
        `UPDATE organizations SET created_at = CASE organization_id WHEN $1 THEN '2039-01-01Z'::timestamptz
          ELSE '2038-01-01Z' END WHERE organization_id = ANY ($2::uuid[])`,
        [latest, [latest, ...others]],
      );
      const [first = [], second = [], ...more] = await pages('limit=3');
      expect(first[0]).toBe(latest);
      expect(new Set([...first, ...second])).toEqual(new Set([latest, ...others]));
      const seen = [first, second, ...more].flat();
      expect(new Set(seen).size).toBe(seen.length);
      const [row] = await service.database.query('SELECT count(*)::int AS count FROM organizations');
      expect(seen).toHaveLength(row?.['count'] as number);
    });

    it('narrows by status and tier', async () => {
      const a = await make({ tier: 'pro' });
      const b = await make({ tier: 'pro' });
      const c = await make({ tier: 'enterprise' });
      await act(a, 'suspend');
      const among = async (query: string): Promise<string[]> =>
        (await pages(query)).flat().filter((id) => [a, b, c].includes(id));
      expect(await among('limit=200')).toEqual([c, b, a]);
      expect(await among('tier=pro&limit=200')).toEqual([b, a]);
      expect(await among('status=suspended')).toEqual([a]);
      expect(await among('tier=pro&status=active')).toEqual([b]);
      expect(await among('tier=enterprise&status=suspended')).toEqual([]);
    });

    it.each([
      ['status=dead', '/status'],
      ['tier=gold', '/tier'],
      ['limit=0', '/limit'],
      ['limit=201', '/limit'],
      ['limit=all', '/limit'],
      ['slug=acme', '/slug'],
      ['cursor=x', '/cursor'],
      [`cursor=${Buffer.from('["organizations","2026-02-30T00:00:00.000Z","x"]').toString('base64url')}`, '/cursor'],
    ])('refuses the query %s', async (query, pointer) => {
      expect(pointers(await call('GET', `/organizations?${query}`))).toContain(pointer);
    });

    it('refuses a cursor of another list', async () => {
      await service.api.agent(operator);
      await service.api.agent(operator);
      const { body } = await call('GET', '/agents?limit=1');
      expect(pointers(await call('GET', `/organizations?cursor=${body['nextCursor'] as string}`))).toEqual(['/cursor']);
    });
  });

  describe('a change', () => {
    it('sets what it names and nothing else', async () => {
      const id = await make({ limits: { agents: 3 } });
      const changes = { name: 'Other', slug: freshSlug(), tier: 'enterprise' };
      for (const [member, value] of Object.entries(changes)) {
        const { body: before } = await read(id);
        const { status, body } = await patch(id, { [member]: value });
        expect([status, body]).toEqual([200, { ...before, [member]: value, updatedAt: body['updatedAt'] }]);
        expect(String(body['updatedAt']) >= String(before['updatedAt'])).toBe(true);
        expect((await read(id)).body).toEqual(body);
      }
      const { body: before } = await read(id);
      expect((await patch(id, {})).body).toMatchObject({ ...before, updatedAt: expect.any(String) });
    });

    it('merges limits; null goes back to the tier’s', async () => {
      const id = await make({ limits: { agents: 3, webhooks: 4 } });
      const limits = async (changed: Json): Promise<unknown> =>
        (await patch(id, { limits: changed })).body['limits'] ?? null;
      expect(await limits({ tokensPerMonth: 10 })).toEqual({
        ...NO_LIMITS,
        agents: 3,
        webhooks: 4,
        tokensPerMonth: 10,
      });
      expect(await limits({ agents: 0, auditRetentionDays: 9 })).toEqual({
        tokensPerMonth: 10,
        agents: 0,
        auditRetentionDays: 9,
        webhooks: 4,
      });
      expect(await limits({ agents: null, webhooks: null })).toEqual({
        ...NO_LIMITS,
        tokensPerMonth: 10,
        auditRetentionDays: 9,
      });
      expect(await limits({})).toEqual({ ...NO_LIMITS, tokensPerMonth: 10, auditRetentionDays: 9 });
      expect(await limits({ tokensPerMonth: null, auditRetentionDays: null })).toEqual(NO_LIMITS);
    });

    it('keeps the overrides when the tier changes', async () => {
      const id = await make({ limits: { agents: 3 } });
      expect((await patch(id, { tier: 'pro' })).body).toMatchObject({ tier: 'pro', limits: { agents: 3 } });
    });

    it('answers 409 for a slug that is taken, and 200 for its own', async () => {
      const slug = freshSlug();
      await make({ slug });
      const own = freshSlug();
      const id = await make({ slug: own });
      const { status, body } = await patch(id, { slug, name: 'never' });
      expect([status, body['code']]).toEqual([409, 'conflict']);
      expect((await read(id)).body).toMatchObject({ slug: own, name: 'Acme' });
      expect((await patch(id, { slug: own })).status).toBe(200);
    });

    it.each<[Json, string]>([
      [{ name: null }, '/name'],
      [{ slug: 'Über' }, '/slug'],
      [{ slug: null }, '/slug'],
      [{ tier: null }, '/tier'],
      [{ status: 'suspended' }, '/status'],
      [{ organizationId: randomUUID() }, '/organizationId'],
      [{ generation: 0 }, '/generation'],
      [{ limits: null }, '/limits'],
      [{ limits: { agents: -1 } }, '/limits/agents'],
      [{ limits: { agents: 1.5 } }, '/limits/agents'],
      [{ limits: { constructor: 1 } }, '/limits/constructor'],
      [{ limits: { toString: 1 } }, '/limits/toString'],
      [{ limits: { seats: 1 } }, '/limits/seats'],
    ])('refuses %j and leaves the organization as it is', async (body, pointer) => {
      const id = await make();
      const { body: before } = await read(id);
      expect([...new Set(pointers(await patch(id, body)))]).toEqual([pointer]);
      expect((await read(id)).body).toEqual(before);
    });

    it('takes two changes at once without losing either', async () => {
      const id = await make();
      await Promise.all([
        patch(id, { limits: { agents: 1 } }),
        patch(id, { limits: { webhooks: 2 } }),
        patch(id, { name: 'New' }),
        patch(id, { tier: 'pro' }),
      ]);
      expect((await read(id)).body).toMatchObject({
        name: 'New',
        tier: 'pro',
        limits: { ...NO_LIMITS, agents: 1, webhooks: 2 },
      });
    });
  });

  it('leave what is done to them in their own chain, with the operator as the actor', async () => {
    const slug = freshSlug();
    const id = await make({ slug, tier: 'pro' });
    await patch(id, { name: 'New', limits: { agents: 5, webhooks: null } });
    await act(id, 'suspend');
    await act(id, 'reactivate');
    await post({ name: 'x', slug });
    await patch(id, { slug: 'operator' });
    const log = await call('GET', `/audit?organizationId=${id}&limit=200`);
    const events = (log.body['data'] as Json[]).reverse();
    expect(events.map(({ sequence, action, details }) => [sequence, action, details])).toEqual([
      [1, 'organization.created', { name: 'Acme', slug, tier: 'pro' }],
      [2, 'organization.updated', { name: 'New', limits: { agents: 5, webhooks: null } }],
      [3, 'organization.suspended', {}],
      [4, 'organization.reactivated', {}],
    ]);
    for (const event of events) {
      expect(event).toMatchObject({
        organizationId: id,
        outcome: 'success',
        actor: service.operator.clientId,
        target: { type: 'organization', id },
      });
    }
    expect((await call('GET', `/audit/verify?organizationId=${id}`)).body).toMatchObject({ valid: true, checked: 4 });
  });

  it('take admin:orgs, whatever else the caller holds', async () => {
    const id = await make();
    const holder = await service.api.agent(operator, { organizationId: id, scopes: ADMINISTRATOR });
    const token = await service.api.token(holder);
    for (const [method, path, body] of [
      ['POST', '/organizations', { name: 'x', slug: freshSlug() }],
      ['GET', '/organizations', undefined],
      ['GET', `/organizations/${id}`, undefined],
      ['PATCH', `/organizations/${id}`, { tier: 'enterprise' }],
      ['POST', `/organizations/${id}/suspend`, undefined],
      ['POST', `/organizations/${id}/reactivate`, undefined],
      ['GET', `/organizations/${id}/usage`, undefined],
    ] as const) {
      const answer = await service.api.call(method, path, token, body);
      expect([method, path, answer.status, answer.body['code']]).toEqual([method, path, 403, 'insufficient_scope']);
      expect(answer.headers.get('www-authenticate')).toContain('scope="admin:orgs"');
    }
    expect((await read(id)).body).toMatchObject({ tier: 'free', status: 'active' });
  });

  describe('the first agent', () => {
    it('is made by the operator, who names the organization, and makes the next itself', async () => {
      const id = await make();
      const first = await service.api.agent(operator, { organizationId: id, scopes: ADMINISTRATOR });
      const token = await service.api.token(first);
      expect(claimsOf(token)['org']).toBe(id);
      const second = await service.api.agent(token, { scopes: ['agents:read'] });
      expect((await service.api.call('GET', `/agents/${second.agentId}`, token)).body['organizationId']).toBe(id);
      const list = await service.api.call('GET', '/agents', await service.api.token(second));
      expect((list.body['data'] as Json[]).map(({ agentId }) => agentId)).toEqual([second.agentId, first.agentId]);
    });

    it('is not made where there is no such organization', async () => {
      for (const organizationId of [randomUUID(), '00000000-0000-0000-0000-000000000000']) {
        const { status, body } = await call('POST', '/agents', { name: 'x', organizationId });
        expect([status, body['code']]).toEqual([404, 'not_found']);
      }
      expect(pointers(await call('POST', '/agents', { name: 'x', organizationId: 'acme' }))).toEqual([
        '/organizationId',
      ]);
    });
  });

  describe('suspension', () => {
    let id: string;
    let admin: TestAgent;
    let plain: TestAgent;
    let token: string;

    beforeAll(async () => {
      id = await make();
      admin = await service.api.agent(operator, { organizationId: id, scopes: ADMINISTRATOR });
      token = await service.api.token(admin);
      plain = await service.api.agent(token);
      await service.api.token(plain);
    });

    it('answers the organization, and 409 from the wrong state', async () => {
      const other = await make();
      const suspended = await act(other, 'suspend');
      expect([suspended.status, suspended.body]).toMatchObject([200, { organizationId: other, status: 'suspended' }]);
      expect((await read(other)).body).toEqual(suspended.body);
      const again = await act(other, 'suspend');
      expect([again.status, again.body['code']]).toEqual([409, 'conflict']);
      const active = await act(other, 'reactivate');
      expect([active.status, active.body]).toMatchObject([200, { organizationId: other, status: 'active' }]);
      const twice = await act(other, 'reactivate');
      expect([twice.status, twice.body['code']]).toEqual([409, 'conflict']);
    });

    it('lets one of two that come at once through', async () => {
      const other = await make();
      const answers = await Promise.all([act(other, 'suspend'), act(other, 'suspend')]);
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 409]);
    });

    it('gives no tokens, letter by letter, and takes those there are: from the next request, and for good', async () => {
      const tokenOfPlain = await service.api.token(plain);
      await act(id, 'suspend');
      for (const client of [admin, plain]) {
        const { status, headers, body } = await service.api.requestToken(client);
        expect([status, body]).toEqual([
          403,
          {
            error: 'unauthorized_client',
            error_description: 'Organization is currently suspended and cannot obtain tokens.',
          },
        ]);
        expect(headers.get('cache-control')).toBe('no-store');
        expect(headers.get('retry-after')).toBeNull();
      }
      for (const dead of [token, tokenOfPlain]) {
        expect(await service.api.introspect(operator, dead)).toEqual({ active: false });
      }
      for (const [method, path, body] of [
        ['GET', '/agents', undefined],
        ['POST', '/agents', { name: 'x' }],
        ['PATCH', `/agents/${plain.agentId}`, { name: 'y' }],
        ['POST', `/agents/${plain.agentId}/credentials`, {}],
        ['DELETE', `/agents/${plain.agentId}`, undefined],
        ['GET', '/quota', undefined],
        ['GET', '/audit', undefined],
        ['GET', '/resources', undefined],
        ['POST', '/resources', { identifier: 'urn:x', name: 'x' }],
      ] as const) {
        const answer = await service.api.call(method, path, token, body);
        expect([path, answer.status, answer.body['code']]).toEqual([path, 401, 'invalid_token']);
        expect(answer.headers.get('www-authenticate')).toContain('error="invalid_token"');
      }
      for (const path of ['/api/v1/token/introspect', '/api/v1/token/revoke']) {
        const answer = await service.api.form(path, { token: operator }, basic(admin));
        expect([path, answer.status, answer.body['error']]).toEqual([path, 401, 'invalid_client']);
      }
      const rotation = `/api/v1/agents/${admin.agentId}/credentials/${admin.credentialId}/rotate`;
      expect((await service.api.send('POST', rotation, { headers: basic(admin) })).status).toBe(401);

      await act(id, 'reactivate');
      for (const dead of [token, tokenOfPlain]) {
        expect(await service.api.introspect(operator, dead)).toEqual({ active: false });
      }
      expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
      token = await service.api.token(admin);
      expect((await service.api.call('GET', '/agents', token)).status).toBe(200);
      expect(await service.api.introspect(token, token)).toMatchObject({ active: true, org: id });
    });

    it('names itself before the monthly limit, and the agent’s own suspension before itself', async () => {
      const agent = await service.api.agent(token);
      await service.api.call('POST', `/agents/${agent.agentId}/suspend`, token);
      await patch(id, { limits: { tokensPerMonth: 0 } });
      await act(id, 'suspend');
      const ofAgent = await service.api.requestToken(agent);
      expect(ofAgent.body['error_description']).toBe('Agent is currently suspended and cannot obtain tokens.');
      const ofAdmin = await service.api.requestToken(admin);
      expect(ofAdmin.body['error_description']).toBe('Organization is currently suspended and cannot obtain tokens.');
      const wrong = await service.api.requestToken({ ...admin, clientSecret: 'wrong' });
      expect([wrong.status, wrong.body['error']]).toEqual([401, 'invalid_client']);
      await act(id, 'reactivate');
      expect((await service.api.requestToken(admin)).body['error_description']).toBe(
        'Free tier monthly token limit of 0 requests has been reached.',
      );
      await patch(id, { limits: { tokensPerMonth: null } });
      token = await service.api.token(admin);
    });

    it('leaves other organizations alone, and its own to the operator', async () => {
      const other = await make();
      const neighbour = await service.api.agent(operator, { organizationId: other, scopes: ADMINISTRATOR });
      const theirs = await service.api.token(neighbour);
      await act(id, 'suspend');
      expect((await service.api.call('GET', '/agents', theirs)).status).toBe(200);
      expect((await service.api.requestToken(neighbour)).status).toBe(200);
      expect((await call('GET', `/agents/${plain.agentId}`)).body).toMatchObject({ organizationId: id });
      expect((await call('GET', `/quota?organizationId=${id}`)).status).toBe(200);
      expect((await patch(id, { name: 'Still changeable' })).status).toBe(200);
      await act(id, 'reactivate');
      token = await service.api.token(admin);
    });

    it('holds on another replica from the next request on', async () => {
      const replica = await startTestApp({
        database: service.database,
        clock: service.clock,
        env: { ISSUER: service.issuer },
      });
      try {
        const earned = await service.api.token(plain);
        expect(await replica.api.introspect(operator, earned)).toMatchObject({ active: true });
        await act(id, 'suspend');
        expect(await replica.api.introspect(operator, earned)).toEqual({ active: false });
        expect((await replica.api.requestToken(plain)).status).toBe(403);
        await replica.api.call('POST', `/organizations/${id}/reactivate`, operator);
        expect((await service.api.requestToken(plain)).status).toBe(200);
        expect(await service.api.introspect(operator, earned)).toEqual({ active: false });
      } finally {
        await replica.close();
        token = await service.api.token(admin);
      }
    });

    it('is refused for the operator organization, which would leave nobody', async () => {
      const own = claimsOf(operator)['org'] as string;
      const { status, body } = await act(own, 'suspend');
      expect([status, body['code']]).toEqual([409, 'conflict']);
      expect((await read(own)).body).toMatchObject({ status: 'active', tier: 'enterprise', slug: 'operator' });
    });
  });

  describe('limits', () => {
    let id: string;
    let admin: TestAgent;
    let token: string;

    beforeAll(async () => {
      id = await make();
      admin = await service.api.agent(operator, { organizationId: id, scopes: ADMINISTRATOR });
      token = await service.api.token(admin);
    });

    const addAgent = (by = token): Promise<Answer> => service.api.call('POST', '/agents', by, { name: 'x' });
    const quota = async (): Promise<Json> => (await service.api.call('GET', '/quota', token)).body;
    const askToken = async (): Promise<number> => (await service.api.requestToken(admin)).status;

    it('are the tier’s, in the quota and in force, from the request after a change of tier on', async () => {
      for (const [tier, tokens, agents] of [
        ['pro', 1_000_000, 10_000],
        ['enterprise', null, null],
        ['free', 10_000, 100],
      ] as const) {
        await patch(id, { tier });
        expect(await quota()).toMatchObject({ tier, tokens: { limit: tokens }, agents: { limit: agents } });
      }
      await service.database.query(
        `INSERT INTO agents (organization_id, agent_id, name, status, created_at, updated_at)
          SELECT $1, gen_random_uuid(), 'filler', 'active', now(), now() FROM generate_series(1, 99)`,
        [id],
      );
      const { status, headers, body } = await addAgent();
      expect([status, body]).toMatchObject([403, { status: 403, code: 'limit_reached', limit: 100, used: 100 }]);
      expect(headers.get('content-type')).toBe('application/problem+json');
      await patch(id, { tier: 'pro' });
      expect((await addAgent()).status).toBe(201);
      await patch(id, { tier: 'free' });
      expect((await addAgent()).body).toMatchObject({ code: 'limit_reached', limit: 100, used: 101 });
      await service.database.query("DELETE FROM agents WHERE organization_id = $1 AND name = 'filler'", [id]);
      expect((await addAgent()).status).toBe(201);
    });

    it('may be an override, which holds from the request after it on, up and down', async () => {
      const { agents } = await quota();
      const { used } = agents as { used: number };
      await patch(id, { limits: { agents: used + 1 } });
      expect((await addAgent()).status).toBe(201);
      expect((await addAgent()).body).toMatchObject({ code: 'limit_reached', limit: used + 1, used: used + 1 });
      await patch(id, { limits: { agents: used + 2 } });
      expect((await addAgent()).status).toBe(201);
      await patch(id, { limits: { agents: 0 } });
      expect((await addAgent()).body).toMatchObject({ code: 'limit_reached', limit: 0, used: used + 2 });
      expect((await quota())['agents']).toEqual({ limit: 0, used: used + 2 });
      await patch(id, { limits: { agents: null } });
      expect((await addAgent()).status).toBe(201);
    });

    it('of agents bind the operator who adds one too', async () => {
      const { agents } = await quota();
      const { used } = agents as { used: number };
      await patch(id, { limits: { agents: used } });
      const { status, body } = await call('POST', '/agents', { name: 'x', organizationId: id });
      expect([status, body]).toMatchObject([403, { code: 'limit_reached', limit: used, used }]);
      await patch(id, { limits: { agents: null } });
    });

    it('of tokens may be an override, which holds from the request after it on, up and down', async () => {
      const used = async (): Promise<number> => Number(((await quota())['tokens'] as Json)['used']);
      const before = await used();
      await patch(id, { limits: { tokensPerMonth: before + 1 } });
      expect([await askToken(), await askToken()]).toEqual([200, 403]);
      expect((await quota())['tokens']).toMatchObject({ limit: before + 1, used: before + 1, remaining: 0 });
      const { body, headers } = await service.api.requestToken(admin);
      expect(body['error_description']).toBe(
        `Free tier monthly token limit of ${before + 1} requests has been reached.`,
      );
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
      await patch(id, { tier: 'pro' });
      expect((await service.api.requestToken(admin)).body['error_description']).toMatch(/^Pro tier monthly/);
      await patch(id, { limits: { tokensPerMonth: before + 2 } });
      expect([await askToken(), await askToken()]).toEqual([200, 403]);
      await patch(id, { limits: { tokensPerMonth: null } });
      expect(await askToken()).toBe(200);
      expect(await used()).toBe(before + 3);
      await patch(id, { tier: 'free' });
    });

    it('of one organization are not another’s', async () => {
      await patch(id, { limits: { agents: 0, tokensPerMonth: 0 } });
      const other = await make();
      const neighbour = await service.api.agent(operator, { organizationId: other, scopes: ['agents:write'] });
      expect((await addAgent(await service.api.token(neighbour))).status).toBe(201);
      await patch(id, { limits: { agents: null, tokensPerMonth: null } });
    });
  });

  describe('limits under concurrency, over two replicas', () => {
    let replica: TestApp;

    beforeAll(async () => {
      replica = await startTestApp({
        database: service.database,
        clock: service.clock,
        env: { ISSUER: service.issuer },
      });
    });
    afterAll(() => replica.close());

    const either = (index: number): TestApp => (index % 2 === 0 ? service : replica);

    it('are exact for agents: never one too many, and each refusal tells the limit', async () => {
      const id = await make({ limits: { agents: 9 } });
      const admin = await service.api.agent(operator, { organizationId: id, scopes: ['agents:read', 'agents:write'] });
      const token = await service.api.token(admin);
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) => either(index).api.call('POST', '/agents', token, { name: 'x' })),
      );
      expect(answers.filter(({ status }) => status === 201)).toHaveLength(8);
      const refused = answers.filter(({ status }) => status === 403);
      expect(refused).toHaveLength(12);
      for (const { body } of refused) expect(body).toMatchObject({ code: 'limit_reached', limit: 9, used: 9 });
      expect((await replica.api.call('GET', '/quota', token)).body['agents']).toEqual({ limit: 9, used: 9 });
    });

    it('are exact for tokens under an override', async () => {
      const id = await make({ tier: 'enterprise', limits: { tokensPerMonth: 11 } });
      const agent = await service.api.agent(operator, { organizationId: id });
      const answers = await Promise.all(
        Array.from({ length: 24 }, (_, index) => either(index).api.requestToken(agent)),
      );
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(11);
      const refused = answers.filter(({ status }) => status === 403);
      expect(refused).toHaveLength(13);
      for (const { body } of refused) {
        expect(body['error_description']).toBe('Enterprise tier monthly token limit of 11 requests has been reached.');
      }
      const quota = await call('GET', `/quota?organizationId=${id}`);
      expect(quota.body['tokens']).toMatchObject({ limit: 11, used: 11, remaining: 0 });
    });

    it('are exact while they are changed', async () => {
      const id = await make({ limits: { agents: 5 } });
      const admin = await service.api.agent(operator, { organizationId: id, scopes: ['agents:write'] });
      const token = await service.api.token(admin);
      const [, ...answers] = await Promise.all([
        patch(id, { limits: { agents: 8 } }),
        ...Array.from({ length: 16 }, (_, index) => either(index).api.call('POST', '/agents', token, { name: 'x' })),
      ]);
      const made = answers.filter(({ status }) => status === 201).length;
      expect(made).toBeGreaterThanOrEqual(4);
      expect(made).toBeLessThanOrEqual(7);
      for (const { status, body } of answers.filter((answer) => answer.status !== 201)) {
        expect([status, body['limit'] === body['used']]).toEqual([403, true]);
      }
      expect((await call('GET', `/quota?organizationId=${id}`)).body['agents']).toEqual({ limit: 8, used: made + 1 });
    });
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { Answer } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const ALL_FIELDS = {
  name: 'invoice-classifier',
  description: 'Sorts incoming invoices',
  owner: 'team-finance',
  type: 'classifier',
  version: '1.4.0',
  environment: 'staging',
  capabilities: ['invoices.classify', 'invoices.read'],
  labels: { costCentre: '4711', 'team/name': 'Finanzen – Süd' },
  scopes: ['agents:read', 'tokens:read'],
  tokenTtlSeconds: 900,
};

const DEFAULTS = {
  description: null,
  owner: null,
  type: null,
  version: null,
  environment: null,
  capabilities: [],
  labels: {},
  scopes: [],
  tokenTtlSeconds: null,
};

type Json = Record<string, unknown>;

describe('agents', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  const post = (body: unknown): Promise<Answer> => service.api.call('POST', '/agents', operator, body);
  const patch = (agentId: string, body: unknown): Promise<Answer> =>
    service.api.call('PATCH', `/agents/${agentId}`, operator, body);
  const act = (agentId: string, name: string): Promise<Answer> =>
    service.api.call('POST', `/agents/${agentId}/${name}`, operator);
  const read = (agentId: string): Promise<Answer> => service.api.call('GET', `/agents/${agentId}`, operator);
  const isActive = async (token: string): Promise<unknown> => (await service.api.introspect(operator, token))['active'];

  async function list(query: string): Promise<Json[]> {
    const { status, body, text } = await service.api.call('GET', `/agents?${query}`, operator);
    if (status !== 200) throw new Error(`no list: ${status} ${text}`);
    return body['data'] as Json[];
  }

  function pointers({ status, headers, body }: Answer): unknown {
    expect(status).toBe(400);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ status: 400, code: 'validation_failed', type: expect.any(String) });
    return (body['errors'] as { pointer: string; detail: string }[]).map(({ pointer, detail }) => {
      expect(detail).not.toBe('');
      return pointer;
    });
  }

  describe('registration', () => {
    it('takes every field, answers 201 with all of them, and names the place of the agent', async () => {
      const { status, headers, body } = await post(ALL_FIELDS);
      expect(status).toBe(201);
      expect(body).toEqual({
        ...ALL_FIELDS,
        agentId: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
        organizationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
        status: 'active',
        createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        updatedAt: body['createdAt'],
      });
      expect(headers.get('location')).toBe(`/api/v1/agents/${String(body['agentId'])}`);
      expect((await read(body['agentId'] as string)).body).toEqual(body);
    });

    it('needs a name only: the rest is null or empty', async () => {
      const { status, body } = await post({ name: 'x' });
      expect(status).toBe(201);
      expect(body).toMatchObject({ name: 'x', status: 'active', ...DEFAULTS });
    });

    it('takes null for what may be unknown', async () => {
      const { scopes: _scopes, labels: _labels, capabilities: _capabilities, ...nullable } = DEFAULTS;
      const { status, body } = await post({ name: 'x', ...nullable });
      expect(status).toBe(201);
      expect(body).toMatchObject(DEFAULTS);
    });

    it.each<[string, Json, string]>([
      ['no name', {}, '/name'],
      ['an empty name', { name: '' }, '/name'],
      ['a name of 129 characters', { name: 'n'.repeat(129) }, '/name'],
      ['a name that is null', { name: null }, '/name'],
      ['a name that is a number', { name: 7 }, '/name'],
      ['a description of 1,025 characters', { name: 'x', description: 'd'.repeat(1025) }, '/description'],
      ['a description that is an object', { name: 'x', description: {} }, '/description'],
      ['an owner of 257 characters', { name: 'x', owner: 'o'.repeat(257) }, '/owner'],
      ['an owner that is a list', { name: 'x', owner: ['a'] }, '/owner'],
      ['a type of 65 characters', { name: 'x', type: 't'.repeat(65) }, '/type'],
      ['a version of 65 characters', { name: 'x', version: 'v'.repeat(65) }, '/version'],
      ['a version that is a number', { name: 'x', version: 1.4 }, '/version'],
      ['an unknown environment', { name: 'x', environment: 'prod' }, '/environment'],
      ['65 capabilities', { name: 'x', capabilities: Array.from({ length: 65 }, (_, i) => `c${i}`) }, '/capabilities'],
      ['capabilities that are no list', { name: 'x', capabilities: 'a' }, '/capabilities'],
      ['capabilities that are null', { name: 'x', capabilities: null }, '/capabilities'],
      ['a capability twice', { name: 'x', capabilities: ['a', 'a'] }, '/capabilities'],
      ['an empty capability', { name: 'x', capabilities: ['a', ''] }, '/capabilities/1'],
      ['a capability of 129 characters', { name: 'x', capabilities: ['c'.repeat(129)] }, '/capabilities/0'],
      ['a capability that is a number', { name: 'x', capabilities: [1] }, '/capabilities/0'],
      ['labels that are a list', { name: 'x', labels: ['a'] }, '/labels'],
      ['labels that are null', { name: 'x', labels: null }, '/labels'],
      ['a label that is a number', { name: 'x', labels: { a: 1 } }, '/labels'],
      ['a label key with a space', { name: 'x', labels: { 'a b': 'c' } }, '/labels'],
      ['a label of 257 characters', { name: 'x', labels: { a: 'v'.repeat(257) } }, '/labels'],
      [
        '65 labels',
        { name: 'x', labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])) },
        '/labels',
      ],
      ['scopes in one string', { name: 'x', scopes: 'agents:read' }, '/scopes'],
      ['scopes that are null', { name: 'x', scopes: null }, '/scopes'],
      ['a scope twice', { name: 'x', scopes: ['agents:read', 'agents:read'] }, '/scopes'],
      ['a scope with a space', { name: 'x', scopes: ['agents:read', 'agents: write'] }, '/scopes/1'],
      ['an empty scope', { name: 'x', scopes: [''] }, '/scopes/0'],
      ['a lifetime of 59 seconds', { name: 'x', tokenTtlSeconds: 59 }, '/tokenTtlSeconds'],
      ['a lifetime of 86,401 seconds', { name: 'x', tokenTtlSeconds: 86_401 }, '/tokenTtlSeconds'],
      ['a lifetime of half seconds', { name: 'x', tokenTtlSeconds: 90.5 }, '/tokenTtlSeconds'],
      ['a lifetime in a string', { name: 'x', tokenTtlSeconds: '90' }, '/tokenTtlSeconds'],
      ['an organization that is no UUID', { name: 'x', organizationId: 'mine' }, '/organizationId'],
      ['a status', { name: 'x', status: 'suspended' }, '/status'],
      ['an id', { name: 'x', agentId: randomUUID() }, '/agentId'],
      ['an unknown member whose name has a slash', { name: 'x', 'a/b~c': 1 }, '/a~1b~0c'],
    ])('refuses %s and points at it', async (_what, body, pointer) => {
      const found = pointers(await post(body)) as string[];
      expect([...new Set(found)]).toEqual([pointer]);
    });

    it('names every fault at once', async () => {
      const answer = await post({ name: '', environment: 'moon', tokenTtlSeconds: 1, colour: 'red' });
      expect(new Set(pointers(answer) as string[])).toEqual(
        new Set(['/name', '/environment', '/tokenTtlSeconds', '/colour']),
      );
    });

    it('takes every field at its bounds', async () => {
      const body = {
        name: 'n'.repeat(128),
        description: 'd'.repeat(1024),
        owner: 'o'.repeat(256),
        type: 't'.repeat(64),
        version: 'v'.repeat(64),
        capabilities: Array.from({ length: 64 }, (_, i) => `${'c'.repeat(120)}${i}`),
        labels: Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`${'k'.repeat(60)}${i}`, 'v'.repeat(256)])),
      };
      const first = await post({ ...body, tokenTtlSeconds: 60 });
      expect(first.status).toBe(201);
      expect(first.body).toMatchObject(body);
      expect((await post({ name: 'x', tokenTtlSeconds: 86_400 })).status).toBe(201);
    });

    it.each(['[]', '"x"', '7', 'null', '{', ''])('refuses the body %j', async (body) => {
      const answer = await service.api.send('POST', '/api/v1/agents', {
        headers: { Authorization: `Bearer ${operator}`, 'Content-Type': 'application/json' },
        body,
      });
      expect(pointers(answer)).toEqual(['']);
    });
  });

  describe('reading', () => {
    it('takes an id in upper case for the same id', async () => {
      const { body } = await post({ name: 'x' });
      expect((await read(String(body['agentId']).toUpperCase())).body).toEqual(body);
    });

    it.each([randomUUID(), 'nobody', '%20', '00000000-0000-0000-0000-00000000000g'])(
      'answers 404 for the id %s on every path',
      async (id) => {
        const answers = await Promise.all([
          read(id),
          patch(id, { name: 'y' }),
          act(id, 'suspend'),
          act(id, 'reactivate'),
          act(id, 'revoke-tokens'),
          service.api.call('DELETE', `/agents/${id}`, operator),
        ]);
        for (const { status, headers, body } of answers) {
          expect([status, body['code']]).toEqual([404, 'not_found']);
          expect(headers.get('content-type')).toBe('application/problem+json');
        }
      },
    );
  });

  describe('the list', () => {
    it('narrows by each filter, and by several at once', async () => {
      const mark = randomUUID();
      const make = async (fields: Json): Promise<unknown> =>
        (await post({ name: 'l', owner: mark, ...fields })).body['agentId'];
      const a = await make({ type: 'crawler', environment: 'production' });
      const b = await make({ type: 'crawler', environment: 'development' });
      const c = await make({ type: 'planner', environment: 'production' });
      await act(String(b), 'suspend');
      await service.api.call('DELETE', `/agents/${String(c)}`, operator);
      const ids = async (query: string): Promise<unknown> =>
        (await list(`owner=${mark}&${query}`)).map((x) => x['agentId']);

      expect(await ids('')).toEqual([c, b, a]);
      expect(await ids('type=crawler')).toEqual([b, a]);
      expect(await ids('environment=production')).toEqual([c, a]);
      expect(await ids('status=active')).toEqual([a]);
      expect(await ids('status=suspended')).toEqual([b]);
      expect(await ids('status=decommissioned')).toEqual([c]);
      expect(await ids('type=crawler&environment=production&status=active')).toEqual([a]);
      expect(await ids('type=nothing')).toEqual([]);
    });

    it('narrows by labels: with a value, with any value, several of them', async () => {
      const owner = randomUUID();
      const make = async (labels: Json): Promise<unknown> => (await post({ name: 'l', owner, labels })).body['agentId'];
      const a = await make({ team: 'red', zone: 'a:b' });
      const b = await make({ team: 'blue', zone: '' });
      const c = await make({ other: 'red' });
      const ids = async (query: string): Promise<unknown> =>
        (await list(`owner=${owner}&${query}`)).map((x) => x['agentId']);

      expect(await ids('label=team:red')).toEqual([a]);
      expect(await ids('label=team')).toEqual([b, a]);
      expect(await ids('label=team&label=zone:a:b')).toEqual([a]);
      expect(await ids('label=zone:')).toEqual([b]);
      expect(await ids('label=other:red')).toEqual([c]);
      expect(await ids('label=team:red&label=other')).toEqual([]);
    });

    it.each([
      ['status=dead', '/status'],
      ['environment=moon', '/environment'],
      ['label=%20a', '/label'],
      [`type=${'t'.repeat(65)}`, '/type'],
      ['limit=0', '/limit'],
      ['limit=201', '/limit'],
      ['limit=-1', '/limit'],
      ['limit=ten', '/limit'],
      ['limit=1.5', '/limit'],
      ['limit=', '/limit'],
      ['colour=red', '/colour'],
      ['organizationId=mine', '/organizationId'],
      ['status=active&status=suspended', '/status'],
    ])('refuses the query %s', async (query, pointer) => {
      const found = pointers(await service.api.call('GET', `/agents?${query}`, operator)) as string[];
      expect(found.map((each) => each.replace(/\/\d+$/, ''))).toContain(pointer);
    });

    it('pages newest first, each agent once, even where many were made in the same instant', async () => {
      const owner = randomUUID();
      const made = await Promise.all(
        Array.from({ length: 7 }, async () => (await post({ name: 'p', owner })).body['agentId'] as string),
      );
      await service.database.query(`UPDATE agents SET created_at = '2026-01-01T00:00:00Z' WHERE owner = $1`, [owner]);
      const seen: string[] = [];
      let cursor = '';
      let pages = 0;
      do {
        const { body } = await service.api.call('GET', `/agents?owner=${owner}&limit=3${cursor}`, operator);
        const data = body['data'] as Json[];
        seen.push(...data.map((agent) => agent['agentId'] as string));
        cursor = typeof body['nextCursor'] === 'string' ? `&cursor=${body['nextCursor']}` : '';
        pages += 1;
      } while (cursor !== '');
      expect(pages).toBe(3);
      expect(seen).toHaveLength(7);
      expect(new Set(seen)).toEqual(new Set(made));
    });

    it('answers no cursor where the page holds the rest exactly', async () => {
      const owner = randomUUID();
      await post({ name: 'p', owner });
      await post({ name: 'p', owner });
      const { body } = await service.api.call('GET', `/agents?owner=${owner}&limit=2`, operator);
      expect(body['data']).toHaveLength(2);
      expect(body['nextCursor']).toBeNull();
    });

    it('does not lose its place when an agent is registered in between', async () => {
      const owner = randomUUID();
      const first = (await post({ name: 'p', owner })).body['agentId'];
      await post({ name: 'p', owner });
      const page = await service.api.call('GET', `/agents?owner=${owner}&limit=1`, operator);
      await post({ name: 'p', owner });
      const rest = await list(`owner=${owner}&cursor=${String(page.body['nextCursor'])}`);
      expect(rest.map((agent) => agent['agentId'])).toEqual([first]);
    });

    it('refuses cursors that are garbled, of another list, or name no instant', async () => {
      await post({ name: 'p' });
      const page = await service.api.call('GET', '/agents?limit=1', operator);
      const good = String(page.body['nextCursor']);
      const [place, createdAt, agentId] = JSON.parse(Buffer.from(good, 'base64url').toString()) as string[];
      const forge = (...parts: unknown[]): string => Buffer.from(JSON.stringify(parts)).toString('base64url');
      const audit = await service.api.call('GET', '/audit?limit=1', operator);
      const bad = [
        'x',
        good.slice(1),
        `${good.slice(0, -4)}AAAA`,
        String(audit.body['nextCursor']),
        forge('agents:someone-else', createdAt, agentId),
        forge(place, createdAt),
        forge(place, createdAt, "' OR 1=1 --"),
        forge(place, '2026-13-45T99:99:99.999Z', agentId),
        forge(place, '2026-02-30T00:00:00.000Z', agentId),
        forge(place, '0000-01-01T00:00:00.000Z', agentId),
        forge(place, 7, agentId),
        'a'.repeat(1025),
      ];
      for (const cursor of bad) {
        expect(pointers(await service.api.call('GET', `/agents?cursor=${cursor}`, operator))).toEqual(['/cursor']);
      }
      expect((await service.api.call('GET', `/agents?cursor=${good}`, operator)).status).toBe(200);
    });

    it('takes 1 and 200 as the limit', async () => {
      expect(await list('limit=1')).toHaveLength(1);
      expect((await list('limit=200')).length).toBeGreaterThan(1);
    });
  });

  describe('a change', () => {
    it.each(Object.entries(ALL_FIELDS))('sets %s and nothing else', async (field, value) => {
      const { body: before } = await post({ name: 'before' });
      const { status, body } = await patch(before['agentId'] as string, { [field]: value });
      expect(status).toBe(200);
      expect(body).toEqual({ ...before, [field]: value, updatedAt: body['updatedAt'] });
      expect(String(body['updatedAt']) >= String(before['updatedAt'])).toBe(true);
      expect((await read(before['agentId'] as string)).body).toEqual(body);
    });

    it.each(['description', 'owner', 'type', 'version', 'environment', 'tokenTtlSeconds'])(
      'clears %s by null',
      async (field) => {
        const { body: before } = await post(ALL_FIELDS);
        const { status, body } = await patch(before['agentId'] as string, { [field]: null });
        expect(status).toBe(200);
        expect(body).toEqual({ ...before, [field]: null, updatedAt: body['updatedAt'] });
      },
    );

    it('empties lists and labels by empty ones', async () => {
      const { body: before } = await post(ALL_FIELDS);
      const empty = { capabilities: [], labels: {}, scopes: [] };
      const { body } = await patch(before['agentId'] as string, empty);
      expect(body).toEqual({ ...before, ...empty, updatedAt: body['updatedAt'] });
    });

    it('changes nothing for an empty object', async () => {
      const { body: before } = await post(ALL_FIELDS);
      const { status, body } = await patch(before['agentId'] as string, {});
      expect(status).toBe(200);
      expect(body).toEqual({ ...before, updatedAt: body['updatedAt'] });
    });

    it.each<[Json, string]>([
      [{ nickname: 'x' }, '/nickname'],
      [{ status: 'suspended' }, '/status'],
      [{ agentId: randomUUID() }, '/agentId'],
      [{ organizationId: randomUUID() }, '/organizationId'],
      [{ generation: 9 }, '/generation'],
      [{ createdAt: '2020-01-01T00:00:00Z' }, '/createdAt'],
      [{ constructor: 'x' }, '/constructor'],
      [{ name: null }, '/name'],
      [{ name: '' }, '/name'],
      [{ labels: null }, '/labels'],
      [{ scopes: null }, '/scopes'],
      [{ capabilities: [''] }, '/capabilities/0'],
      [{ tokenTtlSeconds: 59 }, '/tokenTtlSeconds'],
    ])('refuses %j and leaves the agent as it is', async (body, pointer) => {
      const { body: before } = await post(ALL_FIELDS);
      const found = pointers(await patch(before['agentId'] as string, body)) as string[];
      expect([...new Set(found)]).toEqual([pointer]);
      expect((await read(before['agentId'] as string)).body).toEqual(before);
    });

    it('takes two changes at once without losing either', async () => {
      const { body } = await post({ name: 'x' });
      const id = body['agentId'] as string;
      await Promise.all([patch(id, { owner: 'a' }), patch(id, { version: '2' }), patch(id, { type: 't' })]);
      expect((await read(id)).body).toMatchObject({ owner: 'a', version: '2', type: 't' });
    });

    it('kills the tokens that hold a scope taken away, and no others', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
      const both = await service.api.token(agent);
      const kept = await service.api.token(agent, { scope: 'tokens:read' });
      const lost = await service.api.token(agent, { scope: 'agents:read' });
      await patch(agent.agentId, { scopes: ['tokens:read'] });
      expect(await Promise.all([both, kept, lost].map(isActive))).toEqual([false, true, false]);
      expect((await service.api.call('GET', '/agents', lost)).status).toBe(401);
      expect((await service.api.requestToken(agent, { scope: 'agents:read' })).body['error']).toBe('invalid_scope');
    });

    it('does not revive tokens when the scope is granted again; new ones live', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
      const old = await service.api.token(agent, { scope: 'agents:read' });
      const kept = await service.api.token(agent, { scope: 'tokens:read' });
      await patch(agent.agentId, { scopes: [] });
      await patch(agent.agentId, { scopes: ['agents:read', 'tokens:read'] });
      const fresh = await service.api.token(agent, { scope: 'agents:read' });
      expect(await Promise.all([old, kept, fresh].map(isActive))).toEqual([false, false, true]);
      await patch(agent.agentId, { scopes: ['tokens:read', 'agents:read', 'audit:read'] });
      expect(await Promise.all([old, kept, fresh].map(isActive))).toEqual([false, false, true]);
    });

    it('leaves tokens alive when anything but the scopes changes', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read'] });
      const token = await service.api.token(agent);
      const { scopes: _scopes, ...rest } = ALL_FIELDS;
      await patch(agent.agentId, rest);
      expect(await isActive(token)).toBe(true);
    });
  });

  describe('the lifetime of its tokens', () => {
    it('is the agent’s own where that is shorter than the configured one', async () => {
      const agent = await service.api.agent(operator, { tokenTtlSeconds: 120 });
      expect((await service.api.requestToken(agent)).body['expires_in']).toBe(120);
    });

    it('is the configured one where the agent’s is longer, or there is none', async () => {
      const agent = await service.api.agent(operator, { tokenTtlSeconds: 86_400 });
      expect((await service.api.requestToken(agent)).body['expires_in']).toBe(3600);
      await patch(agent.agentId, { tokenTtlSeconds: null });
      expect((await service.api.requestToken(agent)).body['expires_in']).toBe(3600);
    });
  });

  describe('suspension', () => {
    it('answers the suspended agent, and the active one again', async () => {
      const { agentId } = await service.api.agent(operator);
      const suspended = await act(agentId, 'suspend');
      expect([suspended.status, suspended.body['status']]).toEqual([200, 'suspended']);
      expect((await read(agentId)).body).toEqual(suspended.body);
      const active = await act(agentId, 'reactivate');
      expect([active.status, active.body['status']]).toEqual([200, 'active']);
    });

    it('answers 409 from the wrong state', async () => {
      const { agentId } = await service.api.agent(operator);
      expect((await act(agentId, 'reactivate')).body).toMatchObject({ status: 409, code: 'conflict' });
      await act(agentId, 'suspend');
      expect((await act(agentId, 'suspend')).body).toMatchObject({ status: 409, code: 'conflict' });
      await service.api.call('DELETE', `/agents/${agentId}`, operator);
      expect((await act(agentId, 'suspend')).status).toBe(409);
      expect((await act(agentId, 'reactivate')).status).toBe(409);
    });

    it('kills tokens for good: those from before stay dead when the agent works again', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read'] });
      const before = await service.api.token(agent);
      await act(agent.agentId, 'suspend');
      expect(await isActive(before)).toBe(false);
      expect((await service.api.call('GET', '/agents', before)).status).toBe(401);
      await act(agent.agentId, 'reactivate');
      expect(await isActive(before)).toBe(false);
      expect(await isActive(await service.api.token(agent))).toBe(true);
    });

    it('lets one of two that come at once through', async () => {
      const { agentId } = await service.api.agent(operator);
      const answers = await Promise.all([act(agentId, 'suspend'), act(agentId, 'suspend'), act(agentId, 'suspend')]);
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 409, 409]);
    });
  });

  describe('decommissioning', () => {
    it('answers 204, kills credentials and tokens, and leaves the record readable', async () => {
      const agent = await service.api.agent(operator, { ...ALL_FIELDS, scopes: ['agents:read'] });
      const token = await service.api.token(agent);
      const { status, text } = await service.api.call('DELETE', `/agents/${agent.agentId}`, operator);
      expect([status, text]).toEqual([204, '']);
      expect(await isActive(token)).toBe(false);
      expect((await service.api.requestToken(agent)).body['error']).toBe('invalid_client');
      expect((await read(agent.agentId)).body).toMatchObject({
        agentId: agent.agentId,
        name: ALL_FIELDS.name,
        labels: ALL_FIELDS.labels,
        status: 'decommissioned',
      });
      const credentials = await service.api.call('GET', `/agents/${agent.agentId}/credentials`, operator);
      expect(credentials.body['data']).toMatchObject([{ status: 'revoked', revokedAt: expect.any(String) }]);
    });

    it('is terminal: every later act is 409, and doing it again changes nothing', async () => {
      const agent = await service.api.agent(operator);
      const remove = (): Promise<Answer> => service.api.call('DELETE', `/agents/${agent.agentId}`, operator);
      await remove();
      const { body: record } = await read(agent.agentId);
      expect((await remove()).status).toBe(204);
      expect((await patch(agent.agentId, { name: 'y' })).body).toMatchObject({ status: 409, code: 'conflict' });
      expect((await act(agent.agentId, 'suspend')).status).toBe(409);
      expect((await act(agent.agentId, 'reactivate')).status).toBe(409);
      const secret = await service.api.call('POST', `/agents/${agent.agentId}/credentials`, operator, {});
      expect(secret.status).toBe(409);
      expect((await read(agent.agentId)).body).toEqual(record);
    });

    it('takes a suspended agent too', async () => {
      const { agentId } = await service.api.agent(operator);
      await act(agentId, 'suspend');
      expect((await service.api.call('DELETE', `/agents/${agentId}`, operator)).status).toBe(204);
    });
  });

  describe('revoking all tokens', () => {
    it('answers the instant, kills what was issued before, and lets what comes after live', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read'] });
      const other = await service.api.agent(operator, { scopes: ['agents:read'] });
      const old = await Promise.all([service.api.token(agent), service.api.token(agent)]);
      const bystander = await service.api.token(other);
      const { status, body } = await act(agent.agentId, 'revoke-tokens');
      const fresh = await service.api.token(agent);
      expect(status).toBe(200);
      expect(Object.keys(body)).toEqual(['revokedBefore']);
      expect(Math.abs(Date.parse(String(body['revokedBefore'])) - service.clock.nowMs())).toBeLessThan(60_000);
      expect(await Promise.all([...old, fresh, bystander].map(isActive))).toEqual([false, false, true, true]);
    });

    it('lets a token live that is issued within the same second', async () => {
      const agent = await service.api.agent(operator);
      for (let round = 0; round < 5; round += 1) {
        const old = await service.api.token(agent);
        await act(agent.agentId, 'revoke-tokens');
        const fresh = await service.api.token(agent);
        expect([await isActive(old), await isActive(fresh)]).toEqual([false, true]);
      }
    });

    it('keeps the credentials and the state of the agent', async () => {
      const agent = await service.api.agent(operator);
      await act(agent.agentId, 'revoke-tokens');
      expect((await read(agent.agentId)).body['status']).toBe('active');
      expect((await service.api.requestToken(agent)).status).toBe(200);
    });
  });
});

describe('the limit of agents', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  const post = (): Promise<Answer> => service.api.call('POST', '/agents', operator, { name: 'x' });
  const setLimit = (limit: number | null): Promise<unknown> =>
    service.database.query('UPDATE organizations SET limit_agents = $1', [limit]);

  it('answers 403 limit_reached with limit and used', async () => {
    await setLimit(2);
    expect((await post()).status).toBe(201);
    const { status, headers, body } = await post();
    expect(status).toBe(403);
    expect(headers.get('content-type')).toBe('application/problem+json');
    expect(body).toMatchObject({ status: 403, code: 'limit_reached', limit: 2, used: 2 });
  });

  it('does not count decommissioned agents, but suspended ones', async () => {
    await setLimit(3);
    const { agentId } = (await post()).body;
    await service.api.call('POST', `/agents/${String(agentId)}/suspend`, operator);
    expect((await post()).status).toBe(403);
    await service.api.call('DELETE', `/agents/${String(agentId)}`, operator);
    expect((await post()).status).toBe(201);
  });

  it('is the tier’s: 100 for free', async () => {
    await setLimit(null);
    await service.database.query("UPDATE organizations SET tier = 'free'");
    await service.database.query(
      `INSERT INTO agents (organization_id, agent_id, name, status, created_at, updated_at)
        SELECT organization_id, gen_random_uuid(), 'filler', 'active', now(), now()
          FROM organizations, generate_series(1, 99 - (SELECT count(*)::int FROM agents WHERE status <> 'decommissioned'))`,
    );
    expect((await post()).status).toBe(201);
    expect((await post()).body).toMatchObject({ code: 'limit_reached', limit: 100, used: 100 });
    await service.database.query("UPDATE organizations SET tier = 'enterprise'");
    expect((await post()).status).toBe(201);
  });

  it('is exact when many are registered at once', async () => {
    const [row] = await service.database.query<{ count: number }>(
      "SELECT count(*)::int AS count FROM agents WHERE status <> 'decommissioned'",
    );
    await setLimit((row?.count ?? 0) + 5);
    const answers = await Promise.all(Array.from({ length: 15 }, post));
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 201)).toHaveLength(5);
    expect(statuses.filter((status) => status === 403)).toHaveLength(10);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { holdLedgers, lockWaiters } from '../faults/conditions.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;
type Scope = { name: string; description: string };

const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const ADMINISTRATOR = ['agents:read', 'agents:write', 'tokens:read', 'audit:read', 'resources:read', 'resources:write'];

describe('resource servers', () => {
  let service: TestApp;
  let operator: string;
  let organizationId: string;
  let admin: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    [organizationId, admin] = await tenant();
  });
  afterAll(() => service.close());

  const fresh = (): string => randomBytes(6).toString('hex');
  const freshUri = (): string => `https://${fresh()}.example`;
  const scope = (name: string): Scope => ({ name, description: `What ${name} allows` });
  const call = (method: string, path: string, body?: unknown, by = admin): Promise<Answer> =>
    service.api.call(method, path, by, body);
  const post = (body: unknown, by = admin): Promise<Answer> => call('POST', '/resources', body, by);
  const patch = (id: string, body: unknown, by = admin): Promise<Answer> => call('PATCH', `/resources/${id}`, body, by);
  const read = (id: string, by = admin): Promise<Answer> => call('GET', `/resources/${id}`, undefined, by);
  const isActive = async (token: string): Promise<unknown> => (await service.api.introspect(operator, token))['active'];

  /** An organization without limits, and a token of its administrator. */
  async function tenant(): Promise<[string, string]> {
    const made = await service.api.call('POST', '/organizations', operator, {
      name: 'x',
      slug: `o-${fresh()}`,
      tier: 'enterprise',
    });
    const id = made.body['organizationId'] as string;
    const agent = await service.api.agent(operator, { organizationId: id, scopes: ADMINISTRATOR });
    return [id, await service.api.token(agent)];
  }

  /** Registers a resource server with scopes of these names. */
  async function make(
    names: readonly string[] = [],
    fields: Json = {},
    by = admin,
  ): Promise<{ id: string; identifier: string }> {
    const identifier = freshUri();
    const { status, body, text } = await post({ identifier, name: 'x', scopes: names.map(scope), ...fields }, by);
    if (status !== 201) throw new Error(`no resource server: ${status} ${text}`);
    return { id: body['resourceId'] as string, identifier: body['identifier'] as string };
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

  describe('registration', () => {
    it('takes every field, answers 201 with all of them, and names the place', async () => {
      const fields = {
        identifier: freshUri(),
        name: 'Rechnungen – Süd',
        scopes: [scope('z:first'), scope('a:second'), scope('!#[]~')],
        tokenTtlSeconds: 300,
      };
      const { status, headers, body } = await post(fields);
      expect(status).toBe(201);
      expect(body).toEqual({
        ...fields,
        resourceId: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
        organizationId,
        createdAt: expect.stringMatching(INSTANT),
        updatedAt: body['createdAt'],
      });
      expect(headers.get('location')).toBe(`/api/v1/resources/${String(body['resourceId'])}`);
      expect((await read(body['resourceId'] as string)).body).toEqual(body);
    });

    it('needs identifier and name only', async () => {
      const { status, body } = await post({ identifier: freshUri(), name: 'x' });
      expect(status).toBe(201);
      expect(body).toMatchObject({ scopes: [], tokenTtlSeconds: null });
    });

    it.each([
      'https://api.example',
      'https://root.example/',
      'https://api.example/v1?tenant=7',
      'http://127.0.0.1:8080/mcp',
      'https://[::1]:8443/',
      'urn:example:invoices',
      'urn:uuid:0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f',
      'api://invoices',
      'tag:acme.example,2026:invoices',
      'https://api.example/caf%C3%A9',
    ])('takes the identifier %s as it is written', async (identifier) => {
      const { status, body } = await post({ identifier, name: 'x' });
      expect([status, body['identifier']]).toEqual([201, identifier]);
    });

    it('takes every field at its bounds', async () => {
      const scopes = Array.from({ length: 200 }, (_, index) => ({
        name: `${'s'.repeat(120)}${fresh().slice(0, 4)}${String(index).padStart(4, '0')}`,
        description: 'd'.repeat(index === 0 ? 256 : 100),
      }));
      const identifier = `https://${fresh()}.example/`.padEnd(512, 'x');
      const { status, body } = await post({ identifier, name: 'n'.repeat(128), scopes, tokenTtlSeconds: 60 });
      expect(status).toBe(201);
      expect(body['scopes']).toEqual(scopes);
      expect((await post({ identifier: freshUri(), name: 'x', tokenTtlSeconds: 86_400 })).status).toBe(201);
    });

    it.each<[string, unknown]>([
      ['none', undefined],
      ['null', null],
      ['an empty one', ''],
      ['a number', 7],
      ['a list', ['https://a.example']],
      ['a relative one', '/api/v1'],
      ['one without a scheme', 'invoices.example.com'],
      ['one with a relative scheme', '//invoices.example.com'],
      ['a scheme alone', 'https:'],
      ['a host that is none', 'https://'],
      ['one with a fragment', 'https://a.example/#invoices'],
      ['one with an empty fragment', 'https://a.example/#'],
      ['one with a space', 'https://a.example/in voices'],
      ['one with a space at its end', 'https://a.example '],
      ['one with a line break', 'https://a.example\n'],
      ['one with a quote', 'https://a.example/"'],
      ['one with a backslash', 'https://a.example\\b'],
      ['one with a name and a password', 'https://user:secret@a.example'],
      ['one with a name', 'https://user@a.example'],
      ['one with a broken percent sign', 'https://a.example/%zz'],
      ['an international host', 'https://b\u00fccher.example'],
      ['an international path, composed', 'https://a.example/caf\u00e9'],
      ['an international path, decomposed', 'https://a.example/cafe\u0301'],
      ['a host with a Cyrillic letter', 'https://\u0430cme.example'],
      ['a full-width scheme', '\uff48ttps://a.example'],
      ['one with an invisible character', 'https://a.example/\u200b'],
      ['one of 513 characters', 'https://a.example/'.padEnd(513, 'x')],
    ])('refuses as the identifier %s', async (_what, identifier) => {
      expect([...new Set(pointers(await post({ identifier, name: 'x' })))]).toEqual(['/identifier']);
    });

    it('refuses the issuer itself as the identifier, in any case and with any slashes', async () => {
      for (const own of [service.issuer, `${service.issuer}/`, `${service.issuer}//`, service.issuer.toUpperCase()]) {
        expect([own, pointers(await post({ identifier: own, name: 'x' }))]).toEqual([own, ['/identifier']]);
        expect(pointers(await post({ identifier: own, name: 'x' }, operator))).toEqual(['/identifier']);
      }
    });

    it.each<[string, Json, string]>([
      ['no name', {}, '/name'],
      ['an empty name', { name: '' }, '/name'],
      ['a name of 129 characters', { name: 'n'.repeat(129) }, '/name'],
      ['scopes that are null', { name: 'x', scopes: null }, '/scopes'],
      ['scopes in a string', { name: 'x', scopes: 'invoices:read' }, '/scopes'],
      ['201 scopes', { name: 'x', scopes: Array.from({ length: 201 }, (_, i) => scope(`s${i}`)) }, '/scopes'],
      ['a scope that is a string', { name: 'x', scopes: ['a'] }, '/scopes/0'],
      ['a scope that is null', { name: 'x', scopes: [scope('a'), null] }, '/scopes/1'],
      ['a scope that is a list', { name: 'x', scopes: [[]] }, '/scopes/0'],
      ['a scope without a description', { name: 'x', scopes: [{ name: 'a' }] }, '/scopes/0/description'],
      ['an empty description', { name: 'x', scopes: [{ name: 'a', description: '' }] }, '/scopes/0/description'],
      [
        'a description of 257 characters',
        { name: 'x', scopes: [{ name: 'a', description: 'd'.repeat(257) }] },
        '/scopes/0/description',
      ],
      ['a scope with an unknown member', { name: 'x', scopes: [{ ...scope('a'), id: 1 }] }, '/scopes/0/id'],
      ['a lifetime of 59 seconds', { name: 'x', tokenTtlSeconds: 59 }, '/tokenTtlSeconds'],
      ['a negative lifetime', { name: 'x', tokenTtlSeconds: -1 }, '/tokenTtlSeconds'],
      ['a lifetime of 86,401 seconds', { name: 'x', tokenTtlSeconds: 86_401 }, '/tokenTtlSeconds'],
      ['a lifetime in a string', { name: 'x', tokenTtlSeconds: '300' }, '/tokenTtlSeconds'],
      ['an organization that is no UUID', { name: 'x', organizationId: 'mine' }, '/organizationId'],
      ['an unknown member', { name: 'x', audience: 'y' }, '/audience'],
    ])('refuses %s and points at it', async (_what, fields, pointer) => {
      const found = pointers(await post({ identifier: freshUri(), ...fields }));
      expect([...new Set(found)]).toEqual([pointer]);
    });

    it.each<[string, unknown]>([
      ['is empty', ''],
      ['has a space', 'invoices read'],
      ['has a double quote', 'invoices"read'],
      ['has a backslash', 'invoices\\read'],
      ['has a tab', 'invoices\tread'],
      ['has a line break at its end', 'invoices:read\n'],
      ['has a control character', 'invoices\u007fread'],
      ['is not ASCII', 'fakt\u00fcren:lesen'],
      ['is not ASCII, decomposed', 'faktu\u0308ren:lesen'],
      ['has an invisible character', 'invoices\u200b:read'],
      ['has 129 characters', 's'.repeat(129)],
      ['is a number', 5],
      ['is null', null],
    ])('refuses a scope whose name %s (RFC 6749 §3.3)', async (_what, name) => {
      const scopes = [scope('fine'), { name, description: 'x' }];
      const found = pointers(await post({ identifier: freshUri(), name: 'x', scopes }));
      expect([...new Set(found)]).toEqual(['/scopes/1/name']);
    });

    it.each([...BUILT_IN_SCOPE_NAMES])('refuses the built-in scope %s in any case', async (name) => {
      for (const variant of [name, name.toUpperCase(), `${name.charAt(0).toUpperCase()}${name.slice(1)}`]) {
        const scopes = [scope('fine'), scope(variant)];
        const answer = await post({ identifier: freshUri(), name: 'x', scopes }, operator);
        expect([variant, pointers(answer)]).toEqual([variant, ['/scopes/1/name']]);
      }
    });

    it('refuses a scope that stands twice, whatever its case, and points at the later one', async () => {
      for (const twice of ['orders:read', 'Orders:READ']) {
        const scopes = [scope('orders:read'), scope('other'), scope(twice)];
        expect(pointers(await post({ identifier: freshUri(), name: 'x', scopes }))).toEqual(['/scopes/2/name']);
      }
    });

    it('answers 409 for an identifier that is taken anywhere, also where only the case differs', async () => {
      const [, other] = await tenant();
      const { identifier } = await make([], { identifier: `https://${fresh()}.example/Path` });
      for (const taken of [identifier, identifier.toLowerCase(), identifier.toUpperCase()]) {
        for (const by of [admin, other, operator]) {
          const { status, headers, body } = await post({ identifier: taken, name: 'x' }, by);
          expect([taken, status, body['code']]).toEqual([taken, 409, 'conflict']);
          expect(headers.get('content-type')).toBe('application/problem+json');
        }
      }
    });

    it('answers 409 for the same URI in another spelling (RFC 3986 §6.2)', async () => {
      const [, other] = await tenant();
      const host = `${fresh()}.example`;
      await make([], { identifier: `https://${host}/a/b` });
      for (const spelling of [
        `https://${host}/a/b/`,
        `https://${host}/a//b`,
        `https://${host}:443/a/b`,
        `HTTPS://${host.toUpperCase()}/a/b`,
        `https://${host}/a/./b`,
        `https://${host}/x/../a/b`,
        `https://${host}/%61/b`,
        `https://${host}/a/b?`,
      ]) {
        for (const by of [admin, other]) {
          const { status, body } = await post({ identifier: spelling, name: 'x' }, by);
          expect([spelling, status, body['code']]).toEqual([spelling, 409, 'conflict']);
        }
      }
      for (const another of [
        `http://${host}/a/b`,
        `https://${host}:8443/a/b`,
        `https://${host}/a`,
        `https://${host}/a/b?c`,
      ]) {
        const { status } = await post({ identifier: another, name: 'x' }, other);
        expect([another, status]).toEqual([another, 201]);
      }
    });

    it('keeps a deleted identifier for its organization: nobody else gets the audience of its tokens', async () => {
      const [, other] = await tenant();
      const { id, identifier } = await make();
      await call('DELETE', `/resources/${id}`);
      for (const spelling of [identifier, `${identifier}/`, identifier.toUpperCase()]) {
        const { status, body } = await post({ identifier: spelling, name: 'x' }, other);
        expect([spelling, status, body['code']]).toEqual([spelling, 409, 'conflict']);
      }
      expect((await post({ identifier: `${identifier}/`, name: 'x' })).status).toBe(201);
    });

    it('gives an identifier that many want at once to one of them', async () => {
      const [, other] = await tenant();
      const identifier = freshUri();
      const answers = await Promise.all(
        [admin, other, operator, admin, other].map((by, index) =>
          post({ identifier: index % 2 === 0 ? identifier : identifier.toUpperCase(), name: 'x' }, by),
        ),
      );
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409, 409, 409, 409]);
    });

    it('answers 409 for a scope that another of the organization declares, whatever its case', async () => {
      const name = `stock-${fresh()}:read`;
      await make([name]);
      for (const taken of [name, name.toUpperCase()]) {
        const identifier = freshUri();
        const { status, body } = await post({ identifier, name: 'x', scopes: [scope('fine'), scope(taken)] });
        expect([taken, status, body['code']]).toEqual([taken, 409, 'conflict']);
        // Nothing of the refused one is left.
        expect((await post({ identifier, name: 'x' })).status).toBe(201);
      }
      const [, other] = await tenant();
      expect((await post({ identifier: freshUri(), name: 'x', scopes: [scope(name)] }, other)).status).toBe(201);
    });

    it('gives a scope that two want at once to one of them', async () => {
      const scopes = [scope(`race-${fresh()}`)];
      const answers = await Promise.all(
        Array.from({ length: 4 }, () => post({ identifier: freshUri(), name: 'x', scopes })),
      );
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, 409, 409, 409]);
    });
  });

  describe('reading and changing', () => {
    it('answers 404 for ids that are malformed, unknown or another organization’s, on every path', async () => {
      const [, other] = await tenant();
      const { id: foreign } = await make(['secret:scope'], {}, other);
      for (const id of [randomUUID(), 'invoices', '%20', foreign, foreign.toUpperCase()]) {
        const answers = await Promise.all([read(id), patch(id, { name: 'y' }), call('DELETE', `/resources/${id}`)]);
        for (const { status, body, text } of answers) {
          expect([id, status, body['code']]).toEqual([id, 404, 'not_found']);
          expect(text).not.toContain('secret');
        }
      }
      expect((await read(foreign, other)).status).toBe(200);
    });

    it('takes an id in upper case for the same id', async () => {
      const { id } = await make();
      expect((await read(id.toUpperCase())).body['resourceId']).toBe(id);
    });

    it('sets what it names and nothing else', async () => {
      const { id } = await make([`keep-${fresh()}`], { tokenTtlSeconds: 600 });
      for (const [member, value] of Object.entries({
        name: 'Other',
        tokenTtlSeconds: 120,
        scopes: [scope(`b-${fresh()}`), scope(`a-${fresh()}`)],
      })) {
        const { body: before } = await read(id);
        const { status, body } = await patch(id, { [member]: value });
        expect([status, body]).toEqual([200, { ...before, [member]: value, updatedAt: body['updatedAt'] }]);
        expect((await read(id)).body).toEqual(body);
      }
      expect((await patch(id, { tokenTtlSeconds: null })).body['tokenTtlSeconds']).toBeNull();
      const { body: before } = await read(id);
      expect((await patch(id, {})).body).toEqual({ ...before, updatedAt: expect.any(String) });
    });

    it('may reorder, redescribe and recase its own scopes', async () => {
      const [a, b] = [`a-${fresh()}`, `b-${fresh()}`];
      const { id } = await make([a, b]);
      const scopes = [{ name: b.toUpperCase(), description: 'new' }, scope(a)];
      expect((await patch(id, { scopes })).body['scopes']).toEqual(scopes);
    });

    it('takes a scope that another no longer declares', async () => {
      const name = `wander-${fresh()}`;
      const { id: first } = await make([name]);
      const { id: second } = await make();
      expect((await patch(second, { scopes: [scope(name.toUpperCase())] })).status).toBe(409);
      expect((await patch(first, { scopes: [] })).status).toBe(200);
      expect((await patch(second, { scopes: [scope(name)] })).status).toBe(200);
    });

    it.each<[Json, string]>([
      [{ identifier: 'https://other.example' }, '/identifier'],
      [{ resourceId: randomUUID() }, '/resourceId'],
      [{ organizationId: randomUUID() }, '/organizationId'],
      [{ name: null }, '/name'],
      [{ name: '' }, '/name'],
      [{ scopes: null }, '/scopes'],
      [{ scopes: [scope('a'), scope('A')] }, '/scopes/1/name'],
      [{ scopes: [scope('admin:orgs')] }, '/scopes/0/name'],
      [{ scopes: [{ name: 'a b', description: 'x' }] }, '/scopes/0/name'],
      [{ scopes: [{ ...scope('a'), constructor: 1 }] }, '/scopes/0/constructor'],
      [{ tokenTtlSeconds: 59 }, '/tokenTtlSeconds'],
    ])('refuses %j and leaves it as it is', async (body, pointer) => {
      const { id } = await make([`s-${fresh()}`]);
      const { body: before } = await read(id);
      expect([...new Set(pointers(await patch(id, body)))]).toEqual([pointer]);
      expect((await read(id)).body).toEqual(before);
    });

    it('takes two changes at once without losing either', async () => {
      const { id } = await make();
      const scopes = [scope(`s-${fresh()}`)];
      await Promise.all([patch(id, { name: 'New' }), patch(id, { tokenTtlSeconds: 99 }), patch(id, { scopes })]);
      expect((await read(id)).body).toMatchObject({ name: 'New', tokenTtlSeconds: 99, scopes });
    });

    it('frees identifier and scopes when it is deleted: 204, then 404', async () => {
      const name = `s-${fresh()}`;
      const { id, identifier } = await make([name]);
      const { status, text } = await call('DELETE', `/resources/${id}`);
      expect([status, text]).toEqual([204, '']);
      expect([(await read(id)).status, (await call('DELETE', `/resources/${id}`)).status]).toEqual([404, 404]);
      expect((await post({ identifier, name: 'x', scopes: [scope(name)] })).status).toBe(201);
    });
  });

  describe('the list', () => {
    const list = async (query: string, by: string): Promise<{ ids: unknown[]; next: string | null }> => {
      const { status, body, text } = await call('GET', `/resources?${query}`, undefined, by);
      if (status !== 200) throw new Error(`no list: ${status} ${text}`);
      const ids = (body['data'] as Json[]).map(({ resourceId }) => resourceId);
      return { ids, next: body['nextCursor'] as string | null };
    };

    it('pages newest first with scopes, each once, even where many were made in the same instant', async () => {
      const [own, by] = await tenant();
      const made: string[] = [];
      for (let index = 0; index < 5; index += 1) made.push((await make([`s${index}:b`, `s${index}:a`], {}, by)).id);
      expect((await list('', by)).ids).toEqual([...made].reverse());
      await service.database.query(
        "UPDATE resource_servers SET created_at = '2026-01-01Z' WHERE organization_id = $1",
        [own],
      );
      const seen: unknown[] = [];
      let cursor: string | null = '';
      while (cursor !== null) {
        const page = await list(`limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`, by);
        seen.push(...page.ids);
        cursor = page.next;
      }
      expect([seen.length, new Set(seen)]).toEqual([5, new Set(made)]);
      const { body } = await call('GET', '/resources?limit=200', undefined, by);
      for (const each of body['data'] as { resourceId: string; scopes: Scope[] }[]) {
        const index = made.indexOf(each.resourceId);
        expect(each.scopes).toEqual([scope(`s${index}:b`), scope(`s${index}:a`)]);
      }
    });

    it('has its own organization’s only, and the operator may name another', async () => {
      const [own, by] = await tenant();
      const { id } = await make([], {}, by);
      expect((await list('', by)).ids).toEqual([id]);
      expect((await list(`organizationId=${own}`, by)).ids).toEqual([id]);
      expect((await list('limit=200', admin)).ids).not.toContain(id);
      expect((await list('limit=200', operator)).ids).not.toContain(id);
      expect((await list(`organizationId=${own.toUpperCase()}`, operator)).ids).toEqual([id]);
      expect((await list(`organizationId=${randomUUID()}`, operator)).ids).toEqual([]);
      const { status, body } = await call('GET', `/resources?organizationId=${own}`);
      expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
    });

    it('refuses cursors of another list or another organization, and limits out of range', async () => {
      const [, by] = await tenant();
      await make([], {}, by);
      await make([], {}, by);
      const { next } = await list('limit=1', by);
      expect((await list(`limit=1&cursor=${next}`, by)).ids).toHaveLength(1);
      expect(pointers(await call('GET', `/resources?cursor=${next}`))).toEqual(['/cursor']);
      expect(pointers(await call('GET', `/agents?cursor=${next}`, undefined, by))).toEqual(['/cursor']);
      for (const limit of ['0', '201', '-1', 'x', '1.5']) {
        expect(pointers(await call('GET', `/resources?limit=${limit}`))).toContain('/limit');
      }
    });
  });

  it('are bounded: the thousand-and-first is refused with limit and used', async () => {
    const [own, by] = await tenant();
    const { id } = await make([], {}, by);
    await service.database.query(
      `INSERT INTO resource_servers
        SELECT (jsonb_populate_record(r, jsonb_build_object('resource_id', gen_random_uuid(),
            'identifier', r.identifier || n, 'identifier_key', r.identifier || n))).*
          FROM generate_series(1, 999) n, resource_servers r WHERE r.organization_id = $1`,
      [own],
    );
    const { status, body } = await post({ identifier: freshUri(), name: 'x' }, by);
    expect([status, body]).toMatchObject([403, { code: 'limit_reached', limit: 1000, used: 1000 }]);
    await call('DELETE', `/resources/${id}`, undefined, by);
    expect((await post({ identifier: freshUri(), name: 'x' }, by)).status).toBe(201);
  });

  it('are reached by the operator: by the body when they are made, by their path from then on', async () => {
    const identifier = freshUri();
    const name = `s-${fresh()}`;
    const made = await post({ identifier, name: 'x', scopes: [scope(name)], organizationId }, operator);
    expect([made.status, made.body['organizationId']]).toEqual([201, organizationId]);
    const id = made.body['resourceId'] as string;
    expect((await read(id)).body).toEqual(made.body);
    expect((await read(id, operator)).body).toEqual(made.body);
    expect((await patch(id, { name: 'By the operator' }, operator)).status).toBe(200);
    expect((await read(id)).body['name']).toBe('By the operator');
    expect((await call('DELETE', `/resources/${id}`, undefined, operator)).status).toBe(204);
    expect((await read(id)).status).toBe(404);
    expect((await post({ identifier, name: 'x', organizationId: randomUUID() }, operator)).status).toBe(404);
    const log = await call('GET', '/audit?limit=3');
    expect((log.body['data'] as Json[]).map(({ action, actor }) => [action, actor])).toEqual(
      ['deleted', 'updated', 'created'].map((what) => [`resource.${what}`, service.operator.clientId]),
    );
  });

  it('cannot be named for another organization by anybody else', async () => {
    const [other] = await tenant();
    for (const foreign of [other, randomUUID()]) {
      const { status, body } = await post({ identifier: freshUri(), name: 'x', organizationId: foreign });
      expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
    }
    expect((await post({ identifier: freshUri(), name: 'x', organizationId })).status).toBe(201);
  });

  it('leave what is done to them in the chain: scopes, what was removed and whom it touched', async () => {
    const [own, by] = await tenant();
    const { id, identifier } = await make(['x:a', 'x:b'], {}, by);
    await service.api.agent(by, { scopes: ['x:a', 'x:b'] });
    await service.api.agent(by, { scopes: ['x:b'] });
    await patch(id, { scopes: [scope('x:a'), scope('x:c')] }, by);
    await call('DELETE', `/resources/${id}`, undefined, by);
    const events: Json[] = [];
    for (const action of ['resource.created', 'resource.updated', 'resource.deleted']) {
      events.push(...((await call('GET', `/audit?action=${action}`, undefined, by)).body['data'] as Json[]));
    }
    expect(events.map(({ details }) => details)).toEqual([
      { identifier, scopes: ['x:a', 'x:b'] },
      { scopes: ['x:a', 'x:c'], scopesRemoved: ['x:b'], agentsAffected: 2 },
      { identifier, scopesRemoved: ['x:a', 'x:c'], agentsAffected: 1 },
    ]);
    for (const event of events) {
      expect(event).toMatchObject({ organizationId: own, outcome: 'success', target: { type: 'resource', id } });
    }
  });

  describe('their scopes', () => {
    it('are granted by whoever may write agents, in their own organization only', async () => {
      const name = `s-${fresh()}`;
      await make([name]);
      const [other, theirs] = await tenant();
      const reader = await service.api.agent(admin, { scopes: [name] });
      expect((await service.api.requestToken(reader)).body['scope']).toBe(name);
      for (const [by, body] of [
        [theirs, { name: 'x', scopes: [name] }],
        [operator, { name: 'x', scopes: [name] }],
        [operator, { name: 'x', scopes: [name], organizationId: other }],
        [admin, { name: 'x', scopes: [name.toUpperCase()] }],
        [admin, { name: 'x', scopes: [`${name}-not`] }],
      ] as const) {
        const answer = await call('POST', '/agents', body, by);
        expect([answer.status, answer.body['code']]).toEqual([403, 'insufficient_scope']);
      }
      const byOperator = await call('POST', '/agents', { name: 'x', scopes: [name], organizationId }, operator);
      expect(byOperator.status).toBe(201);
    });

    it.each(['one is removed', 'the resource server is deleted', 'the last one is removed'])(
      'go from agents and kill tokens when %s; other tokens live on, and granting again revives nothing',
      async (how) => {
        const [gone, stays] = [`gone-${fresh()}`, `stays-${fresh()}`];
        const { id, identifier } = await make([gone]);
        await make([stays]);
        const agent = await service.api.agent(admin, { scopes: ['agents:read', gone, stays] });
        const untouched = await service.api.agent(admin, { scopes: [stays] });
        const everything = await service.api.token(agent);
        const lost = await service.api.token(agent, { scope: gone });
        const kept = await service.api.token(agent, { scope: stays });
        const ours = await service.api.token(agent, { scope: 'agents:read' });
        const theirs = await service.api.token(untouched);

        if (how === 'one is removed') await patch(id, { scopes: [scope(`new-${fresh()}`)] });
        else if (how === 'the last one is removed') await patch(id, { scopes: [] });
        else await call('DELETE', `/resources/${id}`);

        const states = async (): Promise<unknown[]> =>
          Promise.all([everything, lost, kept, ours, theirs].map((token) => isActive(token)));
        expect(await states()).toEqual([false, false, true, true, true]);
        expect((await service.api.call('GET', '/agents', ours)).status).toBe(200);
        expect((await service.api.call('GET', '/agents', everything)).status).toBe(401);
        const { body } = await call('GET', `/agents/${agent.agentId}`);
        expect(body['scopes']).toEqual(['agents:read', stays]);

        const refused = await service.api.requestToken(agent, { scope: gone });
        expect([refused.status, refused.body['error']]).toEqual([400, 'invalid_scope']);
        expect((await service.api.requestToken(agent)).body['scope']).toBe(`agents:read ${stays}`);
        expect((await call('PATCH', `/agents/${agent.agentId}`, { scopes: [gone] })).status).toBe(403);
        expect((await service.api.requestToken(agent, { resource: identifier })).body['error']).toBe('invalid_target');

        if (how === 'the resource server is deleted') await post({ identifier, name: 'x', scopes: [scope(gone)] });
        else await patch(id, { scopes: [scope(gone)] });
        await call('PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:read', gone, stays] });
        expect(await states()).toEqual([false, false, true, true, true]);
        expect(await isActive(await service.api.token(agent, { scope: gone }))).toBe(true);
      },
    );

    it('go from an agent when it is changed: its tokens with the scope die, for good', async () => {
      const name = `s-${fresh()}`;
      await make([name]);
      const agent = await service.api.agent(admin, { scopes: [name] });
      const token = await service.api.token(agent);
      await call('PATCH', `/agents/${agent.agentId}`, { scopes: [] });
      expect(await isActive(token)).toBe(false);
      await call('PATCH', `/agents/${agent.agentId}`, { scopes: [name] });
      expect(await isActive(token)).toBe(false);
    });

    it('may have the names that every object has', async () => {
      const [, by] = await tenant();
      const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
      const { id } = await make(names, {}, by);
      const agent = await service.api.agent(by, { scopes: names });
      const token = await service.api.token(agent, { scope: '__proto__ constructor' });
      const { body } = await service.api.requestToken(agent);
      expect(body['scope']).toBe(names.join(' '));
      await patch(id, { scopes: names.slice(2).map(scope) }, by);
      expect(await isActive(token)).toBe(false);
      await patch(id, { scopes: names.map(scope) }, by);
      await call('PATCH', `/agents/${agent.agentId}`, { scopes: names }, by);
      expect(await isActive(token)).toBe(false);
      expect(await isActive(await service.api.token(agent, { scope: '__proto__' }))).toBe(true);
      await call('PATCH', `/agents/${agent.agentId}`, { scopes: [] }, by);
    });

    it('are gone for a token that is asked for at the same time: issued or not, none lives', async () => {
      const name = `s-${fresh()}`;
      const { id } = await make([name]);
      const agent = await service.api.agent(admin, { scopes: [name] });
      const [answers] = await Promise.all([
        Promise.all(Array.from({ length: 8 }, () => service.api.requestToken(agent, { scope: name }))),
        patch(id, { scopes: [] }),
      ]);
      for (const { status, body } of answers) {
        expect([200, 400]).toContain(status);
        if (status === 200) expect(await isActive(body['access_token'] as string)).toBe(false);
        else expect(body['error']).toBe('invalid_scope');
      }
    });
  });

  it('give a token its audience though the agent is granted other scopes while it is issued', async () => {
    const name = `s-${fresh()}`;
    const { identifier } = await make([name], { tokenTtlSeconds: 180 });
    const agent = await service.api.agent(admin, { scopes: ['agents:read'] });
    const hold = await holdLedgers(service.database);
    const pending = service.api.requestToken(agent);
    await lockWaiters(service.database, 'issue_tokens');
    await hold.query('UPDATE agents SET scopes = $2, generation = generation + 1 WHERE agent_id = $1', [
      agent.agentId,
      [name],
    ]);
    await hold.release();
    const { status, body } = await pending;
    expect([status, body['scope'], body['expires_in']]).toEqual([200, name, 180]);
    const token = body['access_token'] as string;
    expect(claimsOf(token)['aud']).toBe(identifier);
    expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
    expect(await isActive(token)).toBe(true);
  });

  describe('the lifetime of their tokens', () => {
    const lifetime = async (agent: TestAgent, more: Record<string, string> = {}): Promise<unknown> => {
      const { body } = await service.api.requestToken(agent, more);
      const { iat, exp } = claimsOf(body['access_token'] as string);
      expect(Number(exp) - Number(iat)).toBe(body['expires_in']);
      return body['expires_in'];
    };

    it('is the smallest of the resource server’s, the agent’s and the configured one', async () => {
      const [short, long, none] = [`short-${fresh()}`, `long-${fresh()}`, `none-${fresh()}`];
      const { id } = await make([short], { tokenTtlSeconds: 120 });
      await make([long], { tokenTtlSeconds: 86_400 });
      await make([none]);
      const agent = await service.api.agent(admin, { scopes: ['agents:read', short, long, none] });
      expect(await lifetime(agent, { scope: short })).toBe(120);
      expect(await lifetime(agent, { scope: long })).toBe(3600);
      expect(await lifetime(agent, { scope: none })).toBe(3600);
      expect(await lifetime(agent, { scope: 'agents:read' })).toBe(3600);
      expect(await lifetime(agent)).toBe(120);
      await call('PATCH', `/agents/${agent.agentId}`, { tokenTtlSeconds: 90 });
      expect(await lifetime(agent, { scope: short })).toBe(90);
      await call('PATCH', `/agents/${agent.agentId}`, { tokenTtlSeconds: 600 });
      expect(await lifetime(agent, { scope: short })).toBe(120);
      expect(await lifetime(agent, { scope: long })).toBe(600);
      await patch(id, { tokenTtlSeconds: 61 });
      expect(await lifetime(agent, { scope: short })).toBe(61);
      await patch(id, { tokenTtlSeconds: null });
      expect(await lifetime(agent, { scope: short })).toBe(600);
    });
  });

  describe('the audience', () => {
    let agent: TestAgent;
    let invoices: string;
    let mail: string;
    let emptyApi: string;
    let foreign: string;
    const [read1, write1, send] = ['inv:read', 'inv:write', 'mail:send'];
    const both = 'agents:read tokens:read';

    beforeAll(async () => {
      const [own, by] = await tenant();
      ({ identifier: invoices } = await make([read1, write1], {}, by));
      ({ identifier: mail } = await make([send], {}, by));
      ({ identifier: emptyApi } = await make(['void:x'], {}, by));
      ({ identifier: foreign } = await make(['foreign:x']));
      const scopes = ['agents:read', 'tokens:read', read1, write1, send];
      agent = await service.api.agent(by, { scopes });
      expect((await call('GET', `/agents/${agent.agentId}`, undefined, by)).body['organizationId']).toBe(own);
    });

    const ask = async (more: Record<string, string>): Promise<[unknown, unknown]> => {
      const { status, body, text } = await service.api.requestToken(agent, more);
      if (status !== 200) return [status, body['error']];
      const claims = claimsOf(body['access_token'] as string);
      if (claims['scope'] !== body['scope']) throw new Error(`the answer contradicts the token: ${text}`);
      return [claims['aud'], claims['scope']];
    };

    it('is a list only where scope is omitted: that of all scopes of the agent', async () => {
      const all = `${both} ${read1} ${write1} ${send}`;
      expect(await ask({})).toEqual([[service.issuer, invoices, mail], all]);
      expect(await ask({ scope: '' })).toEqual([[service.issuer, invoices, mail], all]);
    });

    it('is that of the scopes that are named', async () => {
      expect(await ask({ scope: both })).toEqual([service.issuer, both]);
      expect(await ask({ scope: `${write1} ${read1}` })).toEqual([invoices, `${write1} ${read1}`]);
      expect(await ask({ scope: send })).toEqual([mail, send]);
    });

    it('is the named resource, with all scopes that the agent has there', async () => {
      expect(await ask({ resource: invoices })).toEqual([invoices, `${read1} ${write1}`]);
      expect(await ask({ resource: mail, scope: '' })).toEqual([mail, send]);
      expect(await ask({ resource: service.issuer })).toEqual([service.issuer, both]);
      expect(await ask({ resource: invoices, scope: read1 })).toEqual([invoices, read1]);
    });

    it('is the issuer for an agent without scopes', async () => {
      const bare = await service.api.agent(admin);
      expect(claimsOf(await service.api.token(bare))).toMatchObject({ aud: service.issuer, scope: '' });
    });

    it.each([
      ['two resource servers', () => ({ scope: `${read1} ${send}` })],
      ['our own API and a resource server', () => ({ scope: `agents:read ${send}` })],
      ['another than the resource that is named', () => ({ scope: send, resource: invoices })],
      ['the named resource and another', () => ({ scope: `${read1} ${send}`, resource: invoices })],
      ['our own API, with another resource named', () => ({ scope: 'agents:read', resource: invoices })],
      ['a resource server, with our own API named', () => ({ scope: send, resource: service.issuer })],
      ['the resource that is named, though not granted', () => ({ scope: 'void:x', resource: emptyApi })],
      ['another organization', () => ({ scope: 'foreign:x' })],
      ['nobody', () => ({ scope: 'nobody:x' })],
      ['our own API, in capitals', () => ({ scope: 'AGENTS:READ' })],
    ])('is refused with invalid_scope for scopes of %s', async (_what, more) => {
      expect(await ask(more())).toEqual([400, 'invalid_scope']);
    });

    it.each([
      ['is unknown', () => ({ resource: 'https://nobody.example' })],
      ['is unknown, with a scope named', () => ({ resource: 'https://nobody.example', scope: read1 })],
      ['is another organization’s', () => ({ resource: foreign })],
      ['is another organization’s, with its scope named', () => ({ resource: foreign, scope: 'foreign:x' })],
      ['differs in case', () => ({ resource: invoices.toUpperCase() })],
      ['differs by a slash', () => ({ resource: `${invoices}/` })],
      ['has a fragment', () => ({ resource: `${invoices}#x` })],
      ['is not absolute', () => ({ resource: 'invoices' })],
      ['has nothing for the agent', () => ({ resource: emptyApi })],
    ])('is refused with invalid_target for a resource that %s', async (_what, more) => {
      expect(await ask(more())).toEqual([400, 'invalid_target']);
    });

    it('is refused with invalid_target for a repeated resource, equal or not', async () => {
      for (const second of [invoices, mail]) {
        const form: [string, string][] = [
          ['grant_type', 'client_credentials'],
          ['resource', invoices],
          ['resource', second],
        ];
        const { status, body } = await service.api.form('/api/v1/token', form, basic(agent));
        expect([status, body['error']]).toEqual([400, 'invalid_target']);
      }
    });

    it('must be the issuer at our own API: a token for another resource is 401 invalid_token there', async () => {
      for (const more of [{ scope: read1 }, { resource: mail }]) {
        const token = await service.api.token(agent, more);
        for (const path of ['/agents', '/quota']) {
          const answer = await service.api.call('GET', path, token);
          expect([path, answer.status, answer.body['code']]).toEqual([path, 401, 'invalid_token']);
          expect(answer.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
        }
        for (const path of ['/api/v1/token/introspect', '/api/v1/token/revoke']) {
          const answer = await service.api.form(path, { token }, { Authorization: `Bearer ${token}` });
          expect([path, answer.status, answer.body['error']]).toEqual([path, 401, 'invalid_token']);
        }
        expect(await isActive(token)).toBe(true);
      }
      const list = await service.api.token(agent);
      expect((await service.api.call('GET', '/agents', list)).status).toBe(200);
    });

    it('cannot be made our own by a scope with a name like ours', async () => {
      const [, by] = await tenant();
      await make(['agents:read2', 'xagents:read'], {}, by);
      const sly = await service.api.agent(by, { scopes: ['agents:read2', 'xagents:read'] });
      const token = await service.api.token(sly);
      expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
    });

    it('is told by introspection to its own organization, and to the operator', async () => {
      const token = await service.api.token(agent, { resource: invoices });
      const { iat, exp, jti, org } = claimsOf(token);
      const seen = {
        active: true,
        sub: agent.agentId,
        client_id: agent.agentId,
        scope: `${read1} ${write1}`,
        token_type: 'Bearer',
        iat,
        exp,
        iss: service.issuer,
        aud: invoices,
        jti,
        org,
      };
      const ours = await service.api.token(agent, { resource: service.issuer });
      expect(await service.api.introspect(ours, token)).toEqual(seen);
      expect(await service.api.introspect(operator, token)).toEqual(seen);
      expect(await service.api.introspect(admin, token)).toEqual({ active: false });
    });
  });
});

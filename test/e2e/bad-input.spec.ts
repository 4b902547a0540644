import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { basic, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Body = NonNullable<RequestInit['body']>;

const FORM = 'application/x-www-form-urlencoded';
const JSON_TYPE = 'application/json';
const OAUTH_PATHS = ['/api/v1/token', '/api/v1/token/introspect', '/api/v1/token/revoke'] as const;
const UNKNOWN_ID = '00000000-0000-4000-8000-000000000000';
const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** Whatever is sent: a clear 4xx in the shape of the endpoint, never a 5xx, and the service goes on as if nothing was. */
describe('bad input', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;
  let form: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { name: 'the one agent', scopes: ['agents:read', 'tokens:read'] });
    const { clientId, clientSecret } = agent;
    form = `grant_type=client_credentials&client_id=${clientId}&client_secret=${clientSecret}`;
  });
  afterAll(() => service.close());

  afterEach(async () => {
    service.clock.advance(61);
    operator = await service.api.token(service.operator);
  });

  function expectOAuthError(answer: Answer, status: number, error = 'invalid_request'): void {
    expect([answer.status, answer.body['error']]).toEqual([status, error]);
    expect(Object.keys(answer.body)).toEqual(['error', 'error_description']);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(answer.headers.get('cache-control')).toBe('no-store');
  }

  function expectProblem(answer: Answer, status: number, code: string, pointer?: string): void {
    expect([answer.status, answer.body['code']]).toEqual([status, code]);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(answer.body).toMatchObject({ type: expect.any(String), title: expect.any(String), status });
    if (pointer === undefined) return;
    const errors = answer.body['errors'] as { pointer: string; detail: string }[];
    expect(errors.map((fault) => fault.pointer)).toContain(pointer);
    expect(errors.every(({ detail }) => detail !== '')).toBe(true);
  }

  const post = (path: string, body: Body, type: string | undefined, more: Record<string, string> = {}) =>
    service.api.send('POST', path, {
      // A string would get a media type of its own.
      body: typeof body === 'string' ? Buffer.from(body) : body,
      headers: { ...(type === undefined ? {} : { 'Content-Type': type }), ...more },
    });
  const bearer = () => ({ Authorization: `Bearer ${operator}` });

  describe.each(OAUTH_PATHS)('the form of %s', (path) => {
    it.each<[string, () => [Body, string | undefined, Record<string, string>?]]>([
      ['JSON', () => ['{"grant_type":"client_credentials"}', JSON_TYPE]],
      ['plain text', () => [form, 'text/plain']],
      ['XML', () => ['<token/>', 'application/xml']],
      ['bytes', () => [form, 'application/octet-stream']],
      ['multipart', () => [multipart(), undefined]],
      ['no media type', () => [form, undefined]],
      ['a media type that is none', () => [form, 'nonsense']],
      ['an empty subtype', () => [form, 'application/']],
      ['two media types', () => [form, `${FORM}, ${JSON_TYPE}`]],
      ['a longer media type', () => [form, `${FORM}x`]],
      ['charset iso-8859-1', () => [form, `${FORM}; charset=iso-8859-1`]],
      ['charset utf-16, quoted', () => [form, `${FORM}; charset="utf-16"`]],
      ['a content coding', () => [form, FORM, { 'Content-Encoding': 'gzip' }]],
      ['a bare percent sign', () => ['%', FORM]],
      ['a cut escape', () => [`${form}&token=%4`, FORM]],
      ['a wrong escape', () => [`${form}&token=%zz`, FORM]],
      ['a wrong escape in a name', () => [`${form}&tok%zz=a`, FORM]],
      ['an overlong encoding', () => [`${form}&token=%c0%80`, FORM]],
      ['an encoded surrogate', () => [`${form}&token=%ed%a0%80`, FORM]],
      ['an encoded byte that is no UTF-8', () => [`${form}&token=%ff`, FORM]],
      ['a byte that is no UTF-8', () => [latin1(`${form}&token=\xff`), FORM]],
      ['half a character', () => [latin1(`${form}&token=\xe2\x82`), FORM]],
      ['NUL', () => [`${form}&token=a\0b`, FORM]],
      ['NUL in a name', () => [`${form}&tok\0en=a`, FORM]],
      ['an encoded NUL', () => [`${form}&token=a%00b`, FORM]],
      ['an encoded NUL in a name', () => [`${form}&tok%00en=a`, FORM]],
      ['too many parameters', () => [`${form}&${Array.from({ length: 65 }, (_, n) => `p${n}=1`).join('&')}`, FORM]],
      ['nothing', () => ['', FORM]],
      ['nothing but separators', () => ['&&=&', FORM]],
      ['brackets', () => [`grant_type[]=client_credentials&token[0]=x`, FORM]],
      ['a repeated parameter', () => [`grant_type=client_credentials&token=a&a=1&a=2`, FORM]],
      ['a repeated parameter, encoded', () => [`grant_type=client_credentials&token=a&t%6fken=b`, FORM]],
    ])('%s is refused', async (_, make) => {
      const [body, type, more] = make();
      const authentication = path === '/api/v1/token' ? {} : bearer();
      const withoutSecret = typeof body === 'string' && path !== '/api/v1/token' ? body.replace(form, 'x=y') : body;
      expectOAuthError(await post(path, withoutSecret, type, { ...authentication, ...more }), 400);
    });

    it('over 64 KiB is 413', async () => {
      for (const type of [FORM, JSON_TYPE, 'text/plain', undefined]) {
        const { status, body } = await post(path, 'x'.repeat(65_537), type, bearer());
        // What is no form is refused before it is read.
        expect([type === FORM ? 413 : 400, type === FORM ? 413 : status]).toContain(status);
        expect(body['error']).toBe('invalid_request');
      }
    });
  });

  it('names that every object has are parameters like any other', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '__proto__[admin]'];
    const { status } = await post('/api/v1/token', `${form}&${names.map((name) => `${name}=x`).join('&')}`, FORM);
    expect(status).toBe(200);
    expect(({} as Record<string, unknown>)['admin']).toBeUndefined();
  });

  it.each([
    ['a client_id that is no UUID', 'client_id=x', 'client_secret=y'],
    ['a client_id of 60,000 characters', `client_id=${'x'.repeat(60_000)}`, 'client_secret=y'],
    ['a secret of 60,000 characters', `client_id=${UNKNOWN_ID}`, `client_secret=${'x'.repeat(60_000)}`],
    ['a secret beyond ASCII', `client_id=${UNKNOWN_ID}`, 'client_secret=%F0%9F%98%80%EF%BF%BF'],
    ['SQL', "client_id=' OR 1=1 --", "client_secret=' OR 1=1 --"],
    ['an emoji where a prefix is cut', `client_id=${UNKNOWN_ID}`, 'client_secret=sas_1234567%F0%9F%98%80'],
  ])('%s is 401 at the token endpoint', async (_, clientId, secret) => {
    const answer = await post('/api/v1/token', `grant_type=client_credentials&${clientId}&${secret}`, FORM);
    expectOAuthError(answer, 401, 'invalid_client');
    const known = secret.replace(/^client_secret=/, `client_id=${agent.clientId}&client_secret=`);
    expectOAuthError(
      await post('/api/v1/token', `grant_type=client_credentials&${known}`, FORM),
      401,
      'invalid_client',
    );
  });

  describe('JSON bodies', () => {
    const bodies: [string, string | Buffer, string][] = [
      ['nothing', '', ''],
      ['no JSON', 'nonsense', ''],
      ['half an object', '{"name":"x"', ''],
      ['a comma too many', '{"name":"x",}', ''],
      ['single quotes', "{'name':'x'}", ''],
      ['a byte order mark', '\ufeff{"name":"x"}', ''],
      ['NaN', '{"name":"x","tokenTtlSeconds":NaN}', ''],
      ['a hexadecimal number', '{"name":"x","tokenTtlSeconds":0x40}', ''],
      ['two values', '{"name":"x"}{"name":"y"}', ''],
      ['null', 'null', ''],
      ['an array', '[]', ''],
      ['an array of objects', '[{"name":"x"}]', ''],
      ['a string', '"name"', ''],
      ['a number', '1', ''],
      ['true', 'true', ''],
      ['bytes that are no UTF-8', latin1('{"name":"\xff"}'), ''],
      ['half a character', latin1('{"name":"\xe2\x82"}'), ''],
      ['UTF-16', Buffer.from('{"name":"x"}', 'utf16le'), ''],
      ['a raw NUL', '{"name":"a\0b"}', ''],
      ['an escaped NUL', '{"name":"a\\u0000b"}', '/name'],
      ['an escaped NUL in a label', '{"name":"x","labels":{"a":"\\u0000"}}', '/labels/a'],
      ['an escaped NUL in a name', '{"name":"x","labels":{"a\\u0000":"b"}}', '/labels'],
      ['an escaped NUL in an unknown name', '{"name":"x","a\\u0000":"b"}', ''],
      ['a high surrogate alone', '{"name":"\\ud800"}', '/name'],
      ['a low surrogate alone', '{"name":"a\\udc00b"}', '/name'],
      ['surrogates in the wrong order', '{"name":"\\udc00\\ud800"}', '/name'],
      ['a lone surrogate in a list', '{"name":"x","capabilities":["ok","\\ud83d"]}', '/capabilities/1'],
      ['an unknown member', '{"name":"x","surprise":1}', '/surprise'],
      ['a member that the service sets', '{"name":"x","status":"active"}', '/status'],
      ['an id', `{"name":"x","agentId":"${UNKNOWN_ID}"}`, '/agentId'],
      ['a column of the table', '{"name":"x","valid_from_generation":1}', '/valid_from_generation'],
      ['a generation', '{"name":"x","generation":0}', '/generation'],
      ['1e999', '{"name":"x","tokenTtlSeconds":1e999}', '/tokenTtlSeconds'],
      ['-1e999', '{"name":"x","tokenTtlSeconds":-1e999}', '/tokenTtlSeconds'],
      ['1e308', '{"name":"x","tokenTtlSeconds":1e308}', '/tokenTtlSeconds'],
      ['2^53+1', '{"name":"x","tokenTtlSeconds":9007199254740993}', '/tokenTtlSeconds'],
      ['2^31', '{"name":"x","tokenTtlSeconds":2147483648}', '/tokenTtlSeconds'],
      ['a fraction', '{"name":"x","tokenTtlSeconds":60.5}', '/tokenTtlSeconds'],
      ['a number in quotes', '{"name":"x","tokenTtlSeconds":"600"}', '/tokenTtlSeconds'],
      ['a number too small', '{"name":"x","tokenTtlSeconds":59}', '/tokenTtlSeconds'],
      ['1e999 in an unknown member', '{"name":"x","a":{"b":[1,1e999]}}', '/a/b/1'],
      ['__proto__', '{"name":"x","__proto__":{"scopes":["admin:orgs"]}}', ''],
      ['__proto__ in labels', '{"name":"x","labels":{"__proto__":{"polluted":"yes"}}}', '/labels'],
      ['constructor', '{"name":"x","constructor":1}', '/constructor'],
      ['constructor.prototype', '{"name":"x","constructor":{"prototype":{"polluted":"yes"}}}', ''],
      ['hasOwnProperty', '{"name":"x","hasOwnProperty":1}', '/hasOwnProperty'],
      ['toString', '{"name":"x","toString":1}', '/toString'],
      ['then', '{"name":"x","then":1}', '/then'],
      ['33 levels', `{"name":"x","labels":${'{"a":'.repeat(32)}1${'}'.repeat(32)}}`, ''],
      ['30,000 levels', '['.repeat(30_000), ''],
      ['30,000 closed levels', `{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}`, ''],
      ['a name that is null', '{"name":null}', '/name'],
      ['an empty name', '{"name":""}', '/name'],
      ['a name that is an object', '{"name":{"$gt":""}}', '/name'],
      ['a name that is a list', '{"name":["x"]}', '/name'],
      ['a name of 129 characters', JSON.stringify({ name: 'x'.repeat(129) }), '/name'],
      ['an environment nobody knows', '{"name":"x","environment":"moon"}', '/environment'],
      ['capabilities that are a string', '{"name":"x","capabilities":"all"}', '/capabilities'],
      ['capabilities that are an object', '{"name":"x","capabilities":{"length":1,"0":"a"}}', '/capabilities'],
      ['a capability that is null', '{"name":"x","capabilities":["a",null]}', '/capabilities/1'],
      [
        'too many capabilities',
        JSON.stringify({ name: 'x', capabilities: Array.from({ length: 65 }, String) }),
        '/capabilities',
      ],
      ['labels that are a list', '{"name":"x","labels":["a"]}', '/labels'],
      ['labels that are null', '{"name":"x","labels":null}', '/labels'],
      ['a label that is a number', '{"name":"x","labels":{"a":1}}', '/labels'],
      ['a label with an empty name', '{"name":"x","labels":{"":"a"}}', '/labels'],
      ['scopes that are a string', '{"name":"x","scopes":"agents:read"}', '/scopes'],
      ['a scope with a space', '{"name":"x","scopes":["agents:read agents:write"]}', '/scopes/0'],
      ['a scope with a line break', '{"name":"x","scopes":["a\\r\\nSet-Cookie: x"]}', '/scopes/0'],
      ['a repeated scope', '{"name":"x","scopes":["agents:read","agents:read"]}', '/scopes'],
    ];

    it.each(bodies)('of a new agent: %s', async (_, body, pointer) => {
      expectProblem(await post('/api/v1/agents', body, JSON_TYPE, bearer()), 400, 'validation_failed', pointer);
    });

    it.each(bodies.slice(1))('of a change: %s', async (_, body, pointer) => {
      const answer = await service.api.send('PATCH', `/api/v1/agents/${agent.agentId}`, {
        body: Buffer.from(body as string),
        headers: { 'Content-Type': JSON_TYPE, ...bearer() },
      });
      expectProblem(answer, 400, 'validation_failed', pointer);
    });

    it.each([
      ['an organization that is no UUID', '{"name":"x","organizationId":"mine"}', '/organizationId'],
      ['an organization that is null', '{"name":"x","organizationId":null}', '/organizationId'],
      ['no name', '{"owner":"x"}', '/name'],
    ])('of a new agent only: %s', async (_, body, pointer) => {
      expectProblem(await post('/api/v1/agents', body, JSON_TYPE, bearer()), 400, 'validation_failed', pointer);
    });

    it.each([
      ['a date that is none', '{"expiresAt":"tomorrow"}', '/expiresAt'],
      ['a day that is not', '{"expiresAt":"2030-02-30T00:00:00Z"}', '/expiresAt'],
      ['a second that is not', '{"expiresAt":"2030-01-01T00:00:60Z"}', '/expiresAt'],
      ['a week', '{"expiresAt":"2030-W01-1"}', '/expiresAt'],
      ['the past', '{"expiresAt":"2000-01-01T00:00:00Z"}', '/expiresAt'],
      ['a year of six digits', '{"expiresAt":"+275760-09-13T00:00:00Z"}', '/expiresAt'],
      ['an instant as a number', '{"expiresAt":1900000000}', '/expiresAt'],
      ['an instant as an object', '{"expiresAt":{}}', '/expiresAt'],
      ['an unknown member', '{"clientSecret":"mine"}', '/clientSecret'],
      ['an empty name', '{"name":""}', '/name'],
      ['null', 'null', ''],
      ['an array', '[]', ''],
    ])('of a new secret: %s', async (_, body, pointer) => {
      const path = `/api/v1/agents/${agent.agentId}/credentials`;
      expectProblem(await post(path, body, JSON_TYPE, bearer()), 400, 'validation_failed', pointer);
    });

    it.each(['-1', '604801', '0.5', '1e999', '1e308', '9007199254740993', '"60"', '[]', '{}', 'true'])(
      'of a rotation: an overlap of %s',
      async (overlap) => {
        const path = `/api/v1/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`;
        const answer = await post(path, `{"overlapSeconds":${overlap}}`, JSON_TYPE, bearer());
        expectProblem(answer, 400, 'validation_failed', '/overlapSeconds');
      },
    );

    it('of a new secret: the last instant that a calendar of four digits has, and what lies beyond', async () => {
      const path = `/api/v1/agents/${agent.agentId}/credentials`;
      for (const expiresAt of ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59-23:59']) {
        const { status } = await post(path, JSON.stringify({ expiresAt }), JSON_TYPE, bearer());
        expect([201, 400]).toContain(status);
      }
      expect((await service.api.call('GET', `/agents/${agent.agentId}/credentials`, operator)).status).toBe(200);
    });

    it.each<[string, () => [Body, string | undefined, Record<string, string>?]]>([
      ['a form', () => ['name=x', FORM]],
      ['plain text', () => ['{"name":"x"}', 'text/plain']],
      ['XML', () => ['<name/>', 'application/xml']],
      ['multipart', () => [multipart(), undefined]],
      ['no media type', () => ['{"name":"x"}', undefined]],
      ['a media type that is none', () => ['{"name":"x"}', 'nonsense']],
      ['another +json', () => ['{"name":"x"}', 'application/merge-patch+json']],
      ['charset iso-8859-1', () => ['{"name":"x"}', `${JSON_TYPE}; charset=iso-8859-1`]],
      ['charset utf-16', () => ['{"name":"x"}', `${JSON_TYPE};charset=UTF-16`]],
      ['a content coding', () => ['{"name":"x"}', JSON_TYPE, { 'Content-Encoding': 'br' }]],
    ])('%s is 415', async (_, make) => {
      const [body, type, more] = make();
      expectProblem(await post('/api/v1/agents', body, type, { ...bearer(), ...more }), 415, 'unsupported_media_type');
    });

    it('over 64 KiB is 413, also where it would be valid', async () => {
      const fill = (size: number) => JSON.stringify({ name: 'x' }).padEnd(size, ' ');
      expectProblem(await post('/api/v1/agents', fill(65_537), JSON_TYPE, bearer()), 413, 'payload_too_large');
      expectProblem(await post('/api/v1/agents', 'x'.repeat(1_000_000), JSON_TYPE), 413, 'payload_too_large');
    });

    it('labels may be called as members of every object are, and are kept', async () => {
      const labels = { toString: 'b', hasOwnProperty: 'c', valueOf: 'd', then: 'e' };
      const created = await service.api.call('POST', '/agents', operator, { name: 'labelled', labels });
      const path = `/agents/${String(created.body['agentId'])}`;
      expect((await service.api.call('GET', path, operator)).body['labels']).toEqual(labels);
      const { body } = await service.api.call('PATCH', path, operator, { labels: { valueOf: 'z' } });
      expect(body['labels']).toEqual({ valueOf: 'z' });
      expect((await service.api.call('GET', '/agents?label=valueOf:z', operator)).body['data']).toHaveLength(1);
      await service.api.call('DELETE', path, operator);
    });

    it('a label called constructor, which cannot be kept, is refused and not lost', async () => {
      const body = { name: 'x', labels: { ok: 'a', constructor: 'b' } };
      const answer = await service.api.call('POST', '/agents', operator, body);
      expectProblem(answer, 400, 'validation_failed', '/labels/constructor');
    });

    it('an empty change changes nothing', async () => {
      const path = `/api/v1/agents/${agent.agentId}`;
      const { status, body } = await service.api.send('PATCH', path, { headers: bearer() });
      expect([status, body['name']]).toEqual([200, 'the one agent']);
    });

    it('nothing of all this has left anything behind', async () => {
      const { body } = await service.api.call<{ data: { name: string }[] }>('GET', '/agents?status=active', operator);
      expect(body.data.map(({ name }) => name)).toEqual(['the one agent', 'Operator']);
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    });
  });

  it.each<[string, string, Record<string, unknown> | null, string[]]>([
    ['GET', '/agents?limit=abc', null, ['/limit']],
    ['GET', '/agents?limit=0', null, ['/limit']],
    ['POST', '/agents', { name: 7, owner: 7 }, ['/name', '/owner']],
    ['POST', '/agents', { name: 'x', scopes: 'agents:read' }, ['/scopes']],
    ['POST', '/agents', { name: 'x', scopes: [7, ''] }, ['/scopes/0', '/scopes/1']],
    ['POST', '/agents', { name: 'x', labels: 7 }, ['/labels']],
  ])('%s %s %j names each fault once', async (method, path, body, pointers) => {
    const answer = await service.api.call(method, path, operator, body ?? undefined);
    expect(answer.status).toBe(400);
    const errors = answer.body['errors'] as { pointer: string }[];
    expect(errors.map(({ pointer }) => pointer).sort()).toEqual(pointers);
  });

  describe('query strings', () => {
    const cursor = (...parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString('base64url');
    it.each([
      ['/agents', 'limit=0', '/limit'],
      ['/agents', 'limit=201', '/limit'],
      ['/agents', 'limit=-1', '/limit'],
      ['/agents', 'limit=1.5', '/limit'],
      ['/agents', 'limit=abc', '/limit'],
      ['/agents', 'limit=', '/limit'],
      ['/agents', 'limit=1e999', '/limit'],
      ['/agents', 'limit=1e308', '/limit'],
      ['/agents', 'limit=9007199254740993', '/limit'],
      ['/agents', 'limit=1&limit=2', '/limit'],
      ['/agents', 'limit[]=1', '/limit[]'],
      ['/agents', 'limit=1%00', ''],
      ['/agents', 'owner=%00', ''],
      ['/agents', 'a%00b=1', ''],
      ['/agents', 'owner=%zz', ''],
      ['/agents', 'owner=%', ''],
      ['/agents', 'owner=%ff', ''],
      ['/agents', 'owner=%ed%a0%80', ''],
      ['/agents', 'owner=a&owner=b', '/owner'],
      ['/agents', 'cursor=', '/cursor'],
      ['/agents', 'cursor=nonsense', '/cursor'],
      ['/agents', `cursor=${'x'.repeat(1025)}`, '/cursor'],
      ['/agents', `cursor=${cursor()}`, '/cursor'],
      ['/agents', `cursor=${cursor('agents', '2030-01-01T00:00:00.000Z', UNKNOWN_ID)}`, '/cursor'],
      ['/agents', 'cursor=a&cursor=b', '/cursor'],
      ['/agents', 'status=dead', '/status'],
      ['/agents', 'environment=moon', '/environment'],
      ['/agents', 'surprise=1', '/surprise'],
      ['/agents', '__proto__=1', '/__proto__'],
      ['/agents', 'constructor=1', '/constructor'],
      ['/agents', 'toString=1', '/toString'],
      ['/agents', 'organizationId=mine', '/organizationId'],
      ['/agents', 'label=%20', '/label/0'],
      ['/agents', `owner=${'x'.repeat(257)}`, '/owner'],
      ['/audit', 'from=yesterday', '/from'],
      ['/audit', 'from=2030-02-30T00:00:00Z', '/from'],
      ['/audit', 'to=2030-W01-1', '/to'],
      ['/audit', 'to=1', '/to'],
      ['/audit', 'agentId=me', '/agentId'],
      ['/audit', 'action=token.stolen', '/action'],
      ['/audit', 'action=constructor', '/action'],
      ['/audit', 'outcome=maybe', '/outcome'],
      ['/audit', 'cursor=nonsense', '/cursor'],
      ['/audit', 'limit=1e999', '/limit'],
      ['/audit/verify', 'fromSequence=0', '/fromSequence'],
      ['/audit/verify', 'fromSequence=-1', '/fromSequence'],
      ['/audit/verify', 'fromSequence=1e999', '/fromSequence'],
      ['/audit/verify', 'fromSequence=9007199254740993', '/fromSequence'],
      ['/audit/verify', 'toSequence=1e308', '/toSequence'],
      ['/audit/verify', 'toSequence=x', '/toSequence'],
      ['/quota', 'surprise=1', '/surprise'],
    ])('%s?%s is 400', async (path, query, pointer) => {
      expectProblem(await service.api.call('GET', `${path}?${query}`, operator), 400, 'validation_failed', pointer);
    });

    it.each([
      ['a day that is not', '2030-02-30T00:00:00.000Z'],
      ['a month that is not', '2030-13-01T00:00:00.000Z'],
      ['an hour that is not', '2030-01-01T99:00:00.000Z'],
      ['the year 0', '0000-01-01T00:00:00.000Z'],
      ['colons only', '2030-01-01T::::::::::::Z'],
    ])('a forged cursor with %s is 400', async (_, instant) => {
      const { body } = await service.api.call('GET', `/agents/${agent.agentId}`, operator);
      const forged = cursor(`agents:${String(body['organizationId'])}`, instant, UNKNOWN_ID);
      const answer = await service.api.call('GET', `/agents?cursor=${forged}`, operator);
      expectProblem(answer, 400, 'validation_failed', '/cursor');
      const secrets = cursor(`credentials:${agent.agentId}`, instant, UNKNOWN_ID);
      const credentials = await service.api.call(
        'GET',
        `/agents/${agent.agentId}/credentials?cursor=${secrets}`,
        operator,
      );
      expectProblem(credentials, 400, 'validation_failed', '/cursor');
    });

    it('a forged cursor of the audit log beyond every number is 400 or an empty page', async () => {
      const { body } = await service.api.call('GET', `/agents/${agent.agentId}`, operator);
      for (const sequence of ['999999999999999999', '99999999999999999999', '-1', '1e3', '', '0']) {
        const forged = cursor(`audit:${String(body['organizationId'])}`, sequence);
        expect([200, 400]).toContain((await service.api.call('GET', `/audit?cursor=${forged}`, operator)).status);
      }
    });
  });

  describe('ids in paths', () => {
    const routes: [string, string][] = [
      ['GET', '/agents/{id}'],
      ['PATCH', '/agents/{id}'],
      ['DELETE', '/agents/{id}'],
      ['POST', '/agents/{id}/suspend'],
      ['POST', '/agents/{id}/reactivate'],
      ['POST', '/agents/{id}/revoke-tokens'],
      ['GET', '/agents/{id}/credentials'],
      ['POST', '/agents/{id}/credentials'],
      ['POST', '/agents/{id}/credentials/{id}/rotate'],
      ['DELETE', '/agents/{id}/credentials/{id}'],
      ['GET', '/audit/{id}'],
      ['GET', '/organizations/{id}'],
      ['PATCH', '/organizations/{id}'],
      ['POST', '/organizations/{id}/suspend'],
      ['POST', '/organizations/{id}/reactivate'],
      ['GET', '/organizations/{id}/usage'],
      ['GET', '/resources/{id}'],
      ['PATCH', '/resources/{id}'],
      ['DELETE', '/resources/{id}'],
    ];
    const ids = [
      'x',
      '1',
      '-1',
      'null',
      UNKNOWN_ID,
      UNKNOWN_ID.toUpperCase().replace('8', 'A'),
      UNKNOWN_ID.replaceAll('-', ''),
      `{${UNKNOWN_ID}}`,
      `${UNKNOWN_ID}%0a`,
      `%20${UNKNOWN_ID}`,
      `urn:uuid:${UNKNOWN_ID}`,
      "'%20OR%201=1--",
      '%00',
      `${UNKNOWN_ID}%00`,
      '%ff',
      '%zz',
      '%',
      '%c0%af',
      '..%2f..',
      '%252e%252e',
      '%F0%9F%98%80',
      '__proto__',
      'constructor',
      'x'.repeat(129),
      'x'.repeat(5000),
    ];

    it.each(routes)('%s %s is 404 for whatever is no id', async (method, route) => {
      const body = ['PATCH', 'POST'].includes(method) ? {} : undefined;
      const call = (id: string) => service.api.call(method, route.replaceAll('{id}', id), operator, body);
      for (const answer of await Promise.all(ids.map(call))) expectProblem(answer, 404, 'not_found');
    });

    it('a secret of the agent is 404 for whatever is no id', async () => {
      for (const id of ids) {
        const path = `/agents/${agent.agentId}/credentials/${id}`;
        expectProblem(await service.api.call('DELETE', path, operator), 404, 'not_found');
        expectProblem(await service.api.call('POST', `${path}/rotate`, operator, {}), 404, 'not_found');
      }
    });
  });

  it.each([
    ['nothing', ''],
    ['no JWS', 'nonsense'],
    ['dots', '.'.repeat(5000)],
    ['8,000 characters', 'x'.repeat(8000)],
    ['a JWS of nothing', 'e30.e30.e30'],
    ['a JWS of alg none', 'eyJhbGciOiJub25lIn0.e30.'],
    ['a JWE', 'a.b.c.d.e'],
    ['bytes beyond ASCII', '\xff\xfe'],
    ['a tab', 'a\tb'],
  ])('a Bearer token of %s is 401', async (_, token) => {
    const headers = { Authorization: `Bearer ${token}` };
    expectProblem(await service.api.send('GET', '/api/v1/agents', { headers }), 401, 'invalid_token');
    expectOAuthError(await post('/api/v1/token/introspect', 'token=x', FORM, headers), 401, 'invalid_token');
  });

  it('hostile headers are logged and chained like any other', async () => {
    const hostile = ['\xff\xfe\x80', '"}\\', '\t\t', "'; DROP TABLE agents; --", '\u00ad', 'x'.repeat(4000)];
    for (const text of hostile) {
      const headers = { 'User-Agent': text, 'X-Request-Id': text, 'X-Forwarded-For': text };
      expect((await post('/api/v1/token', form, FORM, headers)).status).toBe(200);
      const refused = await post('/api/v1/token', `${form}0`, FORM, headers);
      expectOAuthError(refused, 401, 'invalid_client');
    }
    const { body } = await service.api.call('GET', '/audit/verify', operator);
    expect(body).toMatchObject({ valid: true, brokenAt: null });
  });

  describe('HTTP itself', () => {
    interface RawAnswer {
      readonly status: number;
      readonly head: string;
      readonly body: string;
    }

    /** Sends bytes and reads until the server has closed; `ends`: says that no more will come. */
    function exchange(request: string, ends = false): Promise<string> {
      return new Promise((resolve) => {
        const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
        let answer = '';
        socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
        socket.on('error', () => undefined);
        socket.on('close', () => resolve(answer));
        if (ends) socket.end(request, 'latin1');
        else socket.write(request, 'latin1');
      });
    }

    /** The first answer to `request`. */
    async function raw(request: string, ends = false): Promise<RawAnswer> {
      const answer = await exchange(request, ends);
      const [head = '', ...rest] = answer.split('\r\n\r\n');
      return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0), head, body: rest.join('\r\n\r\n') };
    }

    function expectRefused(answer: RawAnswer, status = 400): void {
      expect(answer.status).toBe(status);
      expect(answer.head.toLowerCase()).toMatch(/content-type: application\/(problem\+)?json/);
      expect(answer.body).toMatch(/^\{"(type|error)":"/);
    }

    const close = 'Connection: close\r\n';
    const head = `Host: x\r\n${close}`;
    const formHead = () => `Content-Type: ${FORM}\r\nContent-Length: ${form.length}\r\n`;
    const TOKEN_LINE = 'POST /api/v1/token HTTP/1.1';
    const token = (line = TOKEN_LINE, headers = head, rest = `${formHead()}\r\n${form}`, ends = false) =>
      raw(`${line}\r\n${headers}${rest}`, ends);

    it.each(['http://x', 'http://evil.example:99', 'https://x', 'HTTP://x', 'http://user:password@x', 'http://[::1]'])(
      'a target in absolute form is taken, as RFC 9112 §3.2.2 has it: %s',
      async (origin) => {
        expect((await token(`POST ${origin}/api/v1/token HTTP/1.1`)).status).toBe(200);
        const refused = await token(`POST ${origin}/api/v1/token HTTP/1.1`, head, `Content-Length: 0\r\n\r\n`);
        expect([refused.status, refused.body]).toEqual([400, expect.stringContaining('"error":"invalid_request"')]);
      },
    );

    it.each([
      ['no path', 'GET http://x HTTP/1.1'],
      ['no authority', 'GET http:///api/v1/agents HTTP/1.1'],
      ['another scheme', 'GET ftp://x/api/v1/agents HTTP/1.1'],
      ['a file', 'GET file:///etc/passwd HTTP/1.1'],
      ['no scheme', 'GET //x/api/v1/agents HTTP/1.1'],
      ['an asterisk', 'GET * HTTP/1.1'],
      ['a relative path', 'GET api/v1/agents HTTP/1.1'],
      ['dots', 'GET /api/v1/../../etc/passwd HTTP/1.1'],
      ['encoded dots', 'GET /api/v1/%2e%2e/%2e%2e/etc/passwd HTTP/1.1'],
      ['a backslash', 'GET \\api\\v1\\agents HTTP/1.1'],
      ['another case', 'GET /API/V1/agents HTTP/1.1'],
      ['a slash at the end', 'GET /api/v1/agents/ HTTP/1.1'],
      ['a doubled slash', 'GET /api//v1/agents HTTP/1.1'],
      ['a fragment', 'GET /api/v1/agents#x HTTP/1.1'],
      ['a semicolon', 'GET /api/v1/agents;x=1 HTTP/1.1'],
      ['15,000 characters', `GET /${'x'.repeat(15_000)} HTTP/1.1`],
    ])('a target with %s is a 4xx', async (_, line) => {
      const answer = await raw(`${line}\r\n${head}\r\n`);
      expectRefused(answer, answer.status);
      expect([400, 401, 404, 405, 431]).toContain(answer.status);
    });

    it('two Authorization headers are refused, whichever is right', async () => {
      const good = `Authorization: ${basic(agent)['Authorization'] ?? ''}\r\n`;
      const bad = 'Authorization: Basic eDp5\r\n';
      const grant = 'grant_type=client_credentials';
      const rest = `Content-Type: ${FORM}\r\nContent-Length: ${grant.length}\r\n\r\n${grant}`;
      expect((await token(undefined, head + good, rest)).status).toBe(200);
      for (const headers of [
        good + bad,
        bad + good,
        good + good,
        good.toLowerCase().slice(0, 14) + good.slice(14) + good,
      ]) {
        const answer = await token(undefined, head + headers, rest);
        expect([answer.status, answer.body]).toEqual([400, expect.stringContaining('"error":"invalid_request"')]);
      }
      const twice = `Authorization: Bearer ${operator}\r\n`.repeat(2);
      const answer = await raw(`GET /api/v1/agents HTTP/1.1\r\n${head}${twice}\r\n`);
      expectRefused(answer);
      expect(answer.body).toContain('"code":"validation_failed"');
    });

    it('no Host and two Hosts are refused in HTTP/1.1, as RFC 9112 §3.2 has it', async () => {
      for (const headers of [close, `${head}Host: y\r\n`, `${head}Host: x\r\n`]) {
        expectRefused(await raw(`GET /api/v1/agents HTTP/1.1\r\n${headers}\r\n`));
        const answer = await token(undefined, headers);
        expect([answer.status, answer.body]).toEqual([400, expect.stringContaining('"error":"invalid_request"')]);
      }
      expect((await token('POST /api/v1/token HTTP/1.0', '')).status).toBe(200);
    });

    const chunked = (body: string, ends = false) =>
      token(undefined, head, `Content-Type: ${FORM}\r\nTransfer-Encoding: chunked\r\n\r\n${body}`, ends);
    const chunks = (text: string, size: number) =>
      (text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []).map((part) => `${part.length.toString(16)}\r\n${part}\r\n`);

    it('chunked bodies are taken, with extensions and trailers', async () => {
      expect((await chunked(`${chunks(form, 7).join('')}0\r\n\r\n`)).status).toBe(200);
      expect((await chunked(`${form.length.toString(16)};a=b\r\n${form}\r\n0\r\nX-Trailer: 1\r\n\r\n`)).status).toBe(
        200,
      );
    });

    it.each<[string, () => string]>([
      ['a size that is none', () => `zz\r\n${form}\r\n0\r\n\r\n`],
      ['a negative size', () => `-1\r\n${form}\r\n0\r\n\r\n`],
      ['a size beyond every number', () => `fffffffffffffffff\r\n${form}\r\n0\r\n\r\n`],
      ['a size too small', () => `2\r\n${form}\r\n0\r\n\r\n`],
      ['a size too large', () => `ff\r\n${form}\r\n0\r\n\r\n`],
      ['no last chunk', () => chunks(form, 7).join('')],
      ['malformed trailers', () => `${chunks(form, 7).join('')}0\r\nno colon\r\n\r\n`],
    ])('a chunked body with %s is 400', async (_, body) => {
      expectRefused(await chunked(body(), true));
    });

    it('a chunked body over 64 KiB is 413', async () => {
      const answer = await chunked(`${chunks('x'.repeat(70_000), 7000).join('')}0\r\n\r\n`);
      expectRefused(answer, 413);
    });

    it.each<[string, () => string]>([
      ['longer than the body', () => `Content-Length: ${form.length + 1}\r\n`],
      ['no number', () => 'Content-Length: many\r\n'],
      ['negative', () => 'Content-Length: -1\r\n'],
      ['with a sign', () => `Content-Length: +${form.length}\r\n`],
      ['hexadecimal', () => 'Content-Length: 0x10\r\n'],
      ['with an exponent', () => 'Content-Length: 1e3\r\n'],
      ['beyond 2^64', () => 'Content-Length: 99999999999999999999\r\n'],
      ['two different ones', () => `Content-Length: ${form.length}\r\nContent-Length: 5\r\n`],
      ['a list', () => `Content-Length: ${form.length}, ${form.length}\r\n`],
      ['beside chunks', () => `Content-Length: ${form.length}\r\nTransfer-Encoding: chunked\r\n`],
    ])('a Content-Length that is %s is 400', async (_, length) => {
      const answer = await token(undefined, head, `Content-Type: ${FORM}\r\n${length()}\r\n${form}`, true);
      expectRefused(answer);
    });

    it('a Content-Length shorter than the body cuts it off, and the rest is no request', async () => {
      const answers = await exchange(
        `${TOKEN_LINE}\r\nHost: x\r\nContent-Type: ${FORM}\r\nContent-Length: 29\r\n\r\n${form}`,
      );
      // What is left is a token request without a client, unless the rest is seen before it is answered.
      expect(answers).toMatch(/^HTTP\/1\.1 40[01] /);
      expect(answers).not.toMatch(/HTTP\/1\.1 200 /);
    });

    it('a Content-Length over 64 KiB is 413 before the body has come', async () => {
      const answer = await token(undefined, head, `Content-Type: ${FORM}\r\nContent-Length: 1000000000\r\n\r\n${form}`);
      expectRefused(answer, 413);
    });

    it.each([
      ['a NUL in the target', `GET /api/v1/agents?a=\0 HTTP/1.1\r\n${head}\r\n`],
      ['a NUL in a header', `GET /api/v1/agents HTTP/1.1\r\n${head}X: a\0b\r\n\r\n`],
      ['a header without a colon', `GET /api/v1/agents HTTP/1.1\r\n${head}nonsense\r\n\r\n`],
      ['a space before the colon', `GET /api/v1/agents HTTP/1.1\r\n${head}X : y\r\n\r\n`],
      ['a folded header', `GET /api/v1/agents HTTP/1.1\r\n${head}X: a\r\n b\r\n\r\n`],
      ['a bare CR in a header', `GET /api/v1/agents HTTP/1.1\r\n${head}X: a\rb\r\n\r\n`],
      ['no version', `GET /api/v1/agents\r\n\r\n`],
      ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
      ['HTTP/9', `GET /api/v1/agents HTTP/9.9\r\n${head}\r\n`],
      ['a method in lower case', `get /api/v1/agents HTTP/1.1\r\n${head}\r\n`],
      ['a target with a space', `GET /api/v1/a gents HTTP/1.1\r\n${head}\r\n`],
      ['a TLS hello', '\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03'],
      ['half a request line', 'POST /api/v1/tok'],
      ['half a header', 'GET /api/v1/agents HTTP/1.1\r\nHost'],
      ['headers over 16 KiB', `GET /api/v1/agents HTTP/1.1\r\n${head}X: ${'x'.repeat(17_000)}\r\n\r\n`],
    ])('%s is a 4xx', async (_, request) => {
      const answer = await raw(request, true);
      expect([400, 401, 431]).toContain(answer.status);
      expectRefused(answer, answer.status);
    });

    it('requests sent together are answered one by one, each on its own', async () => {
      const one = `${TOKEN_LINE}\r\nHost: x\r\n${formHead()}\r\n${form}`;
      const bad = one.replace('grant_type', 'great_type');
      const last = one.replace('\r\n', `\r\n${close}`);
      const answers = await exchange(one + bad + last);
      const statuses = [...answers.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status);
      expect(statuses).toEqual(['200', '400', '200']);
    });
  });

  it('the service has answered no 5xx, and its audit log is whole', async () => {
    const metrics = await service.api.send('GET', '/metrics');
    expect(metrics.text).not.toMatch(/http_request\w*\{[^}]*status(_code)?="5/);
    expect((await service.api.call('GET', '/audit/verify', operator)).body).toMatchObject({ valid: true });
    expect((await service.api.send('GET', '/health/ready')).status).toBe(200);
    const { body } = await service.api.call('GET', `/agents/${agent.agentId}`, operator);
    expect(body).toMatchObject({ name: 'the one agent', status: 'active', tokenTtlSeconds: null, labels: {} });
    expect(await service.api.introspect(operator, await service.api.token(agent))).toMatchObject({ active: true });
  });
});

function multipart(): FormData {
  const data = new FormData();
  data.append('grant_type', 'client_credentials');
  data.append('token', randomUUID());
  return data;
}

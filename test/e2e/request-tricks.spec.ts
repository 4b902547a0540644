import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import type { TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** Other spellings of a path, none of which is the path to us, whatever a proxy makes of them. */
const OTHER_SPELLINGS: readonly (readonly [string, (path: string) => string])[] = [
  ['two slashes at the beginning', (path) => `/${path}`],
  ['two slashes within', (path) => path.replace('/v1/', '//v1/')],
  ['a slash at the end', (path) => `${path}/`],
  ['a dot for a segment', (path) => path.replace('/v1/', '/v1/./')],
  ['a way back', (path) => path.replace('/v1/', '/v1/x/../')],
  ['an encoded way back', (path) => path.replace('/v1/', '/v1/x/%2e%2e/')],
  ['a way back from what is public', (path) => `/api/docs/..${path.slice(4)}`],
  ['encoded slashes', (path) => path.replaceAll('/', '%2f').replace('%2f', '/')],
  ['an encoded slash at the end', (path) => `${path}%2f`],
  ['upper case', (path) => path.replace('/api/', '/API/')],
  ['a parameter of the path', (path) => `${path};jsessionid=1`],
  ['a space', (path) => `${path}%20`],
  ['an encoded question mark', (path) => `${path}%3f`],
  ['NUL', (path) => `${path}%00`],
  ['double encoding', (path) => path.replace('a', '%2561')],
  ['backslashes', (path) => path.replaceAll('/', '\\')],
  ['a fragment', (path) => `${path}#x`],
  ['an overlong encoding', (path) => path.replace('/v1/', '/v1%c0%af')],
];

const DANGEROUS_MEMBERS = ['{"__proto__":{"a":1}}', '{"constructor":{"prototype":{"a":1}}}', '{"x":{"__proto__":1}}'];

/** What attackers try at every endpoint, at those that matter most. That none of it works is all that is shown here. */
describe('tricks', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;
  /** Method, path and body of requests that succeed as they are. */
  let honest: readonly (readonly [string, string, string])[];

  beforeAll(async () => {
    service = await startTestApp({ env: { AUTHENTICATION_FAILURES_PER_CLIENT: '1000' } });
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['tokens:read'] });
    const { clientId, clientSecret } = service.operator;
    const client = `client_id=${clientId}&client_secret=${clientSecret}`;
    honest = [
      ['POST', '/api/v1/token', `grant_type=client_credentials&${client}`],
      ['POST', '/api/v1/token/introspect', `token=x&${client}`],
      ['POST', '/api/v1/token/revoke', `token=x&${client}`],
      ['GET', '/api/v1/audit', ''],
      ['GET', '/api/v1/webhooks', ''],
      ['GET', `/api/v1/agents/${agent.agentId}/credentials`, ''],
      ['POST', `/api/v1/agents/${agent.agentId}/credentials`, '{}'],
    ];
  });
  afterAll(() => service.close());

  /** The status of a request that is sent as it is, and all that came back. */
  async function send(
    [method, path, body]: readonly [string, string, string | Buffer],
    fields: readonly string[] = [],
  ): Promise<{ status: number; answer: string }> {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    const isForm = path.includes('/v1/token');
    const head = [
      ...['Host: x', 'Connection: close', `Content-Length: ${body.length}`],
      ...(isForm ? ['Content-Type: application/x-www-form-urlencoded'] : [`Authorization: Bearer ${operator}`]),
      ...(isForm || body.length === 0 ? [] : ['Content-Type: application/json']),
      ...fields,
    ];
    socket.write(
      Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`), Buffer.from(body)]),
    );
    const answer = await text(socket);
    return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0), answer };
  }

  it('are not needed: the requests succeed as they are', async () => {
    for (const request of honest) expect([200, 201]).toContain((await send(request)).status);
  });

  it.each(OTHER_SPELLINGS)('with %s find nothing', async (_, spelled) => {
    for (const [method, path, body] of honest) {
      const { status, answer } = await send([method, spelled(path), body]);
      expect([path, status]).toEqual([path, status === 400 ? 400 : 404]);
      expect(answer).not.toContain('access_token');
    }
  });

  it('with letters encoded find the same, behind the same guards', async () => {
    for (const [method, path, body] of honest) {
      const encoded = path.replace('api', '%61pi');
      expect([200, 201]).toContain((await send([method, encoded, body])).status);
      const answer = await service.api.send(method, encoded, {});
      expect([400, 401]).toContain(answer.status);
    }
  });

  it.each(['X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override'])(
    'with %s change no method',
    async (name) => {
      const { agentId } = await service.api.agent(operator);
      const path = `/api/v1/agents/${agentId}`;
      const read = await send(['GET', path, ''], [`${name}: DELETE`]);
      expect(read.status).toBe(200);
      expect((await send(['POST', path, ''], [`${name}: DELETE`])).status).toBe(405);
      expect((await send(['GET', `${path}?_method=DELETE`, ''])).status).toBe(200);
      expect((await service.api.call('GET', `/agents/${agentId}`, operator)).body['status']).toBe('active');
    },
  );

  it.each(['X-Original-URL', 'X-Rewrite-URL', 'X-Forwarded-Prefix'])('with %s change no path', async (name) => {
    const { answer } = await send(['GET', '/health/live', ''], [`${name}: /api/v1/audit`]);
    expect(answer).toContain('{"status":"ok"}');
  });

  it.each(['Host: y', 'Authorization: Bearer x', 'Content-Type: text/plain'])(
    'with a second "%s" are refused',
    async (field) => {
      const [name = ''] = field.split(':');
      for (const request of honest) {
        const first = name === 'Authorization' && request[1].startsWith('/api/v1/token') ? [field] : [];
        const second = name === 'Content-Type' && request[2] === '' ? ['Content-Type: application/json'] : [];
        expect([request[1], (await send(request, [...first, ...second, field])).status]).toEqual([request[1], 400]);
      }
    },
  );

  it('with two tokens in one Authorization are refused', async () => {
    const answer = await service.api.send('GET', '/api/v1/audit', {
      headers: { Authorization: `Bearer ${operator}, Bearer ${operator}` },
    });
    expect(answer.status).toBe(401);
  });

  it.each(['OPTIONS', 'TRACE', 'PROPFIND', 'PURGE', 'PUT'])(
    'by %s find no method, are not echoed and open nothing',
    async (method) => {
      for (const [, path, body] of honest) {
        const { status, answer } = await send(
          [method, path, body],
          [...['X-Probe: echo-me', 'Origin: https://evil.example', 'Access-Control-Request-Method: POST']],
        );
        expect([path, status]).toEqual([path, 405]);
        expect(answer).toMatch(/\r\nallow: /i);
        expect(answer).not.toMatch(/access-control-|echo-me/i);
      }
    },
  );

  it('by HEAD ask the same guards as GET, and get no content', async () => {
    for (const [method, path] of honest) {
      const status = method === 'GET' ? 200 : path.startsWith('/api/v1/token') ? 405 : 200;
      const { status: found, answer } = await send(['HEAD', path, '']);
      expect([path, found]).toEqual([path, status]);
      expect(answer.split('\r\n\r\n')[1]).toBe('');
      const nobody = await service.api.send('HEAD', path, {});
      expect([path, nobody.status]).toEqual([path, status === 200 ? 401 : 405]);
    }
  });

  it.each(['gzip', 'deflate', 'br', 'gzip, identity', 'x-unknown'])(
    'with a body in %s are not unpacked',
    async (coding) => {
      for (const [method, path, body] of honest) {
        if (body === '') continue;
        const { status } = await send([method, path, gzipSync(body)], [`Content-Encoding: ${coding}`]);
        expect([path, status]).toEqual([path, path.startsWith('/api/v1/token') ? 400 : 415]);
      }
    },
  );

  it.each(DANGEROUS_MEMBERS)('with the body %s are refused, and change no object', async (body) => {
    for (const path of [`/api/v1/agents/${agent.agentId}/credentials`, '/api/v1/webhooks', '/api/v1/agents']) {
      expect([path, (await send(['POST', path, body])).status]).toEqual([path, 400]);
    }
    expect(({} as Record<string, unknown>)['a']).toBeUndefined();
  });

  it.each(['__proto__[a]=1', 'constructor[prototype][a]=1', 'limit[]=1', 'limit=1&limit=2', 'cursor=a&cursor=b'])(
    'with the query ?%s are refused, and change no object',
    async (query) => {
      for (const path of ['/api/v1/audit', '/api/v1/webhooks', `/api/v1/agents/${agent.agentId}/credentials`]) {
        expect([path, (await send(['GET', `${path}?${query}`, ''])).status]).toEqual([path, 400]);
      }
      expect(({} as Record<string, unknown>)['a']).toBeUndefined();
    },
  );

  it('by CONNECT, and a change of protocol, lead nowhere', async () => {
    expect((await send(['CONNECT', 'x:80', ''])).answer).toBe('');
    const { status, answer } = await send(['GET', '/health/live', ''], ['Upgrade: h2c', 'HTTP2-Settings: AAMAAABk']);
    expect(status).toBe(200);
    expect(answer).not.toMatch(/101 Switching/);
  });
});

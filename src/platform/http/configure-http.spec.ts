import { once } from 'node:events';
import { connect } from 'node:net';
import { Body, Controller, Get, Header, HttpCode, Module, Param, Post, Res } from '@nestjs/common';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { ApiProperty } from '@nestjs/swagger';
import { Test } from '@nestjs/testing';
import { getDataSourceToken } from '@nestjs/typeorm';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { IsString } from 'class-validator';
import type { FastifyReply } from 'fastify';
import { oauthErrors } from '../kernel/oauth-error.js';
import { problems } from '../kernel/problem.js';
import { ApiOAuthErrorResponses, ApiProblemResponses } from './api-responses.js';
import { configureHttp } from './configure-http.js';
import { fastifyOptions } from './fastify-options.js';
import { HttpModule } from './http.module.js';
import { OAuthForm } from './oauth-form.js';

class NewThing {
  @ApiProperty()
  @IsString()
  name!: string;
}

const failures: Record<string, () => Error> = {
  unknown: () => new Error('secret-internal-text'),
  away: () => Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:5432'), { code: 'ECONNREFUSED' }),
  oauth: () => oauthErrors.agentSuspended,
  problem: () => problems.invalidToken.withHeaders({ 'WWW-Authenticate': 'Bearer' }),
};

function fail(kind: string): never {
  throw (failures[kind] ?? (() => new TypeError('no such failure')))();
}

@Controller('api/v1')
class ThingsController {
  @Post('token')
  @HttpCode(200)
  @ApiOAuthErrorResponses('invalidRequest', 'invalidClient', 'agentSuspended', 'quotaReached')
  token(@Body() form: OAuthForm | undefined) {
    const kind = form?.get('fail');
    if (kind !== undefined) fail(kind);
    return {};
  }

  @Post('things')
  @ApiProblemResponses(400, 403, 415)
  create(@Body() thing: NewThing) {
    return { thing };
  }

  @Get('things')
  list() {
    return [];
  }

  @Get('things/:thingId')
  @Header('Cache-Control', 'public, max-age=300')
  one(@Param('thingId') thingId: string) {
    if (thingId in failures) fail(thingId);
    return { thingId };
  }

  @Post('things/:thingId/touch')
  touch() {
    return {};
  }

  @Get('stream')
  broken(@Res() reply: FastifyReply) {
    reply.raw.writeHead(200).write('half');
    throw new Error('in the middle');
  }
}

@Module({ imports: [HttpModule], controllers: [ThingsController] })
class ThingsModule {}

let app: NestFastifyApplication;
let base: string;

beforeAll(async () => {
  const module = await Test.createTestingModule({
    imports: [
      {
        module: class FakeDatabase {},
        global: true,
        providers: [{ provide: getDataSourceToken(), useValue: { query: () => Promise.resolve([]) } }],
        exports: [getDataSourceToken()],
      },
      ThingsModule,
    ],
  }).compile();
  const adapter = new FastifyAdapter(fastifyOptions({ trustedProxies: [] }));
  app = module.createNestApplication<NestFastifyApplication>(adapter, { bodyParser: false, logger: false });
  configureHttp(app, { issuer: 'https://idp.example', version: '1.2.3' });
  await app.listen(0, '127.0.0.1');
  base = await app.getUrl();
});

afterAll(() => app.close());

async function call(path: string, init: RequestInit = {}) {
  const response = await fetch(base + path, init);
  const text = await response.text();
  const type = response.headers.get('content-type');
  return { status: response.status, type, headers: response.headers, text, json: parsed(text) };
}

function parsed(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

const JSON_TYPE = 'application/json';

async function raw(request: string): Promise<string> {
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  let answer = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk));
  socket.on('error', () => undefined);
  socket.end(request, 'latin1');
  await once(socket, 'close');
  return answer;
}

describe('paths and methods', () => {
  it.each([
    ['GET', '/api/v1/token', 405, 'POST'],
    ['PUT', '/api/v1/token?x', 405, 'POST'],
    ['DELETE', '/api/v1/things', 405, 'GET, HEAD, POST'],
    ['DELETE', '/api/v1/things/1', 405, 'GET, HEAD'],
    ['OPTIONS', '/api/v1/things/1/touch', 405, 'POST'],
    ['GET', '/api/v1/things/1/touch', 405, 'POST'],
    ['POST', '/api/docs', 405, 'GET, HEAD'],
    ['GET', '/api/v1/things/1/touch/2', 404, null],
    ['GET', '/api/v1/things/', 404, null],
    ['GET', '/API/v1/things', 404, null],
    ['GET', '/api/v1/things/%zz', 404, null],
    ['GET', '/api/v1/things/%00', 404, null],
    ['GET', `/api/v1/things/${'x'.repeat(129)}`, 404, null],
    ['POST', '/nowhere', 404, null],
  ])('%s %s: %d', async (method, path, status, allow) => {
    const answer = await call(path, { method });
    expect([answer.status, answer.headers.get('allow')]).toEqual([status, allow]);
    if (path.startsWith('/api/v1/token')) expect(answer.json['error']).toBe('invalid_request');
    else expect(answer.json['code']).toBe(status === 404 ? 'not_found' : 'method_not_allowed');
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });
});

describe('what HTTP itself refuses', () => {
  const head = 'Host: x\r\nConnection: close\r\n';
  it.each([
    ['no HTTP', 'nonsense\r\n\r\n', 400],
    ['an unknown method', `BREW / HTTP/1.1\r\n${head}\r\n`, 400],
    ['a rare method', `PROPFIND /api/v1/things HTTP/1.1\r\n${head}\r\n`, 405],
    ['large header fields', `GET / HTTP/1.1\r\n${head}X: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['a bad length', `POST /api/v1/things HTTP/1.1\r\n${head}Content-Length: x\r\n\r\n`, 400],
    ['two lengths', `POST /api/v1/things HTTP/1.1\r\n${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, 400],
    ['length and chunks', `POST / HTTP/1.1\r\n${head}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`, 400],
    [
      'a bad chunk',
      `POST /api/v1/things HTTP/1.1\r\n${head}Content-Type: ${JSON_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n`,
      400,
    ],
    ['an expectation', `GET /health/live HTTP/1.1\r\n${head}Expect: a miracle\r\n\r\n`, 417],
    ['no version', 'GET /health/live\r\n\r\n', 400],
    ['a version to come', `GET /health/live HTTP/2.0\r\n${head}\r\n`, 400],
    ['a Host that is none', 'GET /health/live HTTP/1.1\r\nHost: a b/../\r\n\r\n', 400],
    ['a fragment', `GET /health/live#x HTTP/1.1\r\n${head}\r\n`, 400],
    [
      'a coding that we do not know',
      `POST /api/v1/things HTTP/1.1\r\n${head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['chunks in HTTP/1.0', 'POST /api/v1/things HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['101 header fields', `GET /health/live HTTP/1.1\r\n${head}${'A: b\r\n'.repeat(99)}\r\n`, 400],
    [
      'two Authorizations with a thousand fields between them',
      `GET /health/live HTTP/1.1\r\n${head}Authorization: a\r\n${'A: b\r\n'.repeat(1100)}Authorization: c\r\n\r\n`,
      400,
    ],
    ['a bad escape', `GET /api/v1/things/%c0%80 HTTP/1.1\r\n${head}\r\n`, 404],
    ['the asterisk', `OPTIONS * HTTP/1.1\r\n${head}\r\n`, 404],
    ['an absolute form', `GET http://x/api/v1/token HTTP/1.1\r\n${head}\r\n`, 405],
    ['a strange target', `GET nowhere HTTP/1.1\r\n${head}\r\n`, 400],
    [
      'a large chunked body',
      `POST /api/v1/things HTTP/1.1\r\n${head}Content-Type: ${JSON_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n${'x'.repeat(65_537)}\r\n0\r\n\r\n`,
      413,
    ],
  ])('%s', async (_, request, status) => {
    const answer = await raw(request);
    expect(Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1])).toBe(status);
    expect(answer.toLowerCase()).toContain('x-content-type-options: nosniff');
    expect(answer.toLowerCase()).toContain('cross-origin-resource-policy: same-origin');
    expect(answer).toMatch(/application\/(problem\+)?json/);
  });

  it.each([
    [
      'chunks in HTTP/1.0',
      'POST /api/v1/things HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['another coding', 'POST /api/v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'],
    ['no version', 'GET /health/live\r\n\r\n'],
    ['an expectation', 'GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n'],
  ])('reads nothing more on a connection with %s', async (_, request) => {
    const answer = await raw(`${request}GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(answer.match(/^HTTP\/1\.1 \d+/gm)).toHaveLength(1);
  });

  it.each(['x', '', 'x:8080', '[::1]:3000', 'a-b.example:', 'UPPER_case'])(
    'takes the Host "%s", and 100 fields',
    async (host) => {
      const answer = await raw(
        `GET /health/live HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${'A: b\r\n'.repeat(98)}\r\n`,
      );
      expect(answer).toContain('HTTP/1.1 200');
    },
  );

  it('cuts off an answer that fails in the middle', async () => {
    await expect(call('/api/v1/stream')).rejects.toThrow();
  });
});

describe('errors of the OAuth endpoints', () => {
  it.each([
    ['unknown', 500, 'server_error'],
    ['away', 503, 'temporarily_unavailable'],
    ['oauth', 403, 'unauthorized_client'],
    ['problem', 401, 'invalid_token'],
  ])('answers the failure %s in the OAuth shape', async (kind, status, error) => {
    const answer = await call('/api/v1/token', { method: 'POST', body: new URLSearchParams({ fail: kind }) });
    expect([answer.status, answer.json['error'], answer.type]).toEqual([status, error, 'application/json']);
    expect(answer.text).not.toMatch(/secret-internal|ECONN/);
    if (status === 503) expect(answer.headers.get('retry-after')).toBe('1');
    if (kind === 'problem') expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  });
});

describe('errors and headers of the management API', () => {
  it.each([
    ['unknown', 500, 'internal_error'],
    ['away', 503, 'unavailable'],
    ['oauth', 403, 'insufficient_scope'],
    ['problem', 401, 'invalid_token'],
  ])('answers the failure %s as a problem', async (kind, status, code) => {
    const answer = await call(`/api/v1/things/${kind}`);
    expect([answer.status, answer.json['code'], answer.json['status']]).toEqual([status, code, status]);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.text).not.toMatch(/secret-internal|ECONN/);
  });

  it('sets the security headers, and lets a handler set its caching', async () => {
    const { headers } = await call('/api/v1/things/1', { headers: { 'x-request-id': 'abc-1' } });
    expect(Object.fromEntries(headers)).toMatchObject({
      'x-request-id': 'abc-1',
      'cache-control': 'public, max-age=300',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'strict-transport-security': 'max-age=31536000',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    });
    const other = await call('/api/v1/things/1', { headers: { 'x-request-id': 'a b' } });
    expect(other.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('serves health, metrics and the API document', async () => {
    expect((await call('/health/live')).json).toEqual({ status: 'ok' });
    expect((await call('/health/ready')).json).toEqual({ status: 'ok', checks: { database: 'up' } });
    const metrics = await call('/metrics');
    expect(metrics.type).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(metrics.text).toContain('route="/api/v1/things/:thingId"');
    expect(metrics.text).not.toContain('nowhere');
    const { json } = await call('/api/openapi.json');
    expect(json).toMatchObject({
      openapi: '3.1.0',
      info: { title: 'SentryAgent AgentIdP', version: '1.2.3' },
      servers: [{ url: 'https://idp.example' }],
      components: {
        securitySchemes: { bearer: {}, clientBasic: {} },
        schemas: { Problem: {}, OAuthError: {}, NewThing: {} },
      },
      paths: {
        '/api/v1/things': {
          post: {
            responses: { 403: { content: { 'application/problem+json': { examples: { limit_reached: {} } } } } },
          },
        },
        '/api/v1/token': {
          post: { responses: { 403: { content: { 'application/json': { examples: { quotaReached: {} } } } } } },
        },
      },
    });
    const page = await call('/api/docs');
    expect(page.type).toContain('text/html');
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'");
    expect((await call('/api/docs/package.json')).status).toBe(404);
    const redirect = await call('/api/docs/', { redirect: 'manual' });
    expect([redirect.status, redirect.headers.get('location')]).toEqual([302, '../docs']);
    for (const [, asset] of page.text.matchAll(/(?:src|href)="([^"]+)"/g)) {
      expect((await call(`/api/${asset ?? ''}`)).status).toBe(200);
    }
  });
});

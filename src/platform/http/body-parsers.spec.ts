import { Body, Controller, Get, HttpCode, Module, Post, Query } from '@nestjs/common';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { getDataSourceToken } from '@nestjs/typeorm';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Type } from 'class-transformer';
import { IsInt, IsObject, IsOptional, IsString, Length, ValidateNested } from 'class-validator';
import { configureHttp } from './configure-http.js';
import { fastifyOptions } from './fastify-options.js';
import { HttpModule } from './http.module.js';
import { OAuthForm } from './oauth-form.js';

class Owner {
  @IsString()
  team!: string;
}

class NewThing {
  @IsString()
  @Length(1, 8)
  name!: string;

  @IsOptional()
  @IsString({ each: true })
  scopes?: string[];

  @IsOptional()
  @IsObject()
  labels?: Record<string, unknown>;

  @IsOptional()
  @ValidateNested()
  @Type(() => Owner)
  owner?: Owner;
}

class ThingQuery {
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  limit?: number;
}

class PatchThing {
  @IsOptional()
  @IsString()
  name?: string;
}

@Controller('api/v1')
class ThingsController {
  @Post('token')
  @HttpCode(200)
  token(@Body() form: OAuthForm | undefined) {
    return { form: form instanceof OAuthForm, scope: form?.get('scope') ?? null };
  }

  @Post('things')
  create(@Body() thing: NewThing) {
    return { thing };
  }

  @Get('things')
  list(@Query() query: ThingQuery) {
    return { limit: query.limit ?? null };
  }

  @Post('things/:thingId/touch')
  touch(@Body() body: PatchThing) {
    return { body };
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

const post = (path: string, type: string | undefined, body: string | Buffer) =>
  call(path, { method: 'POST', headers: type === undefined ? {} : { 'content-type': type }, body });
const FORM = 'application/x-www-form-urlencoded';
const JSON_TYPE = 'application/json';
const bytes = (text: string) => Buffer.from(text, 'latin1');

describe('bodies of the management API', () => {
  it.each([
    ['malformed JSON', '{"name":', ''],
    ['invalid UTF-8', bytes('{"name":"\xff"}'), ''],
    ['a NUL', '{"name":"a\\u0000b"}', '/name'],
    ['a lone surrogate', '{"name":"a\\ud800b"}', '/name'],
    ['a lone surrogate in a name', '{"labels":{"\\udc00":1}}', '/labels'],
    ['__proto__', '{"labels":{"__proto__":{}}}', '/labels'],
    ['constructor.prototype', '{"constructor":{"prototype":{}}}', ''],
    ['an infinite number', '{"labels":{"a/b":[1e999]}}', '/labels/a~1b/0'],
    ['depth', `{"labels":${'['.repeat(33)}${']'.repeat(33)}}`, ''],
    ['deepest nesting', '['.repeat(30_000), ''],
    ['an array', '[]', ''],
    ['null', 'null', ''],
    ['a number', '1', ''],
    ['a string', '"x"', ''],
    ['nothing', '', ''],
    ['an unknown member', '{"name":"a","extra":1}', '/extra'],
    ['constructor as a member', '{"name":"a","constructor":1}', '/constructor'],
    ['then as a member', '{"name":"a","then":1}', '/then'],
    ['hasOwnProperty as a member', '{"name":"a","hasOwnProperty":1}', '/hasOwnProperty'],
    ['a wrong type', '{"name":{}}', '/name'],
    ['a faulty item', '{"name":"a","scopes":["a",1]}', '/scopes/1'],
    ['a faulty nested member', '{"name":"a","owner":{"team":1}}', '/owner/team'],
    ['an unknown nested member', '{"name":"a","owner":{"team":"t","x":1}}', '/owner/x'],
  ])('refuses %s with 400 and its pointer', async (_, body, pointer) => {
    const answer = await post('/api/v1/things', JSON_TYPE, body);
    expect(answer.text).toContain('validation_failed');
    expect(answer.status).toBe(400);
    expect(answer.type).toBe('application/problem+json');
    expect(answer.json['errors']).toEqual(expect.arrayContaining([expect.objectContaining({ pointer })]));
  });

  it.each([
    ['text/plain', 'x', 415],
    [FORM, 'a=b', 415],
    ['multipart/form-data; boundary=x', '--x--', 415],
    ['application/problem+json', '{}', 415],
    ['application/json; charset=iso-8859-1', '{}', 415],
    ['no/t a type', '{}', 415],
    [undefined, bytes('{}'), 415],
    [JSON_TYPE, 'x'.repeat(65_537), 413],
    ['Application/JSON; charset="UTF-8"', '{"name":"a"}', 201],
    [JSON_TYPE, `{"name":"a"}${' '.repeat(65_524)}`, 201],
  ])('answers a body of type %s', async (type, body, status) => {
    const answer = await post('/api/v1/things', type, body);
    expect(answer.status).toBe(status);
    if (status >= 400) expect(answer.type).toBe('application/problem+json');
  });

  it('refuses a content coding', async () => {
    const headers = { 'content-type': JSON_TYPE, 'content-encoding': 'gzip' };
    expect((await call('/api/v1/things', { method: 'POST', headers, body: '{}' })).status).toBe(415);
  });

  it('takes a missing body where nothing is required', async () => {
    expect((await call('/api/v1/things/1/touch', { method: 'POST' })).json).toEqual({ body: {} });
    expect((await post('/api/v1/things/1/touch', JSON_TYPE, '')).json).toEqual({ body: {} });
    expect((await post('/api/v1/things/1/touch', 'text/plain', '')).status).toBe(201);
    expect((await post('/api/v1/things/1/touch', JSON_TYPE, 'null')).status).toBe(400);
  });

  it.each([
    ['limit=x', '/limit'],
    ['limit=1&limit=2', '/limit'],
    ['other=1', '/other'],
    ['__proto__=1', '/__proto__'],
    ['constructor=1', '/constructor'],
    ['limit=%00', ''],
  ])('names the faulty query parameter of ?%s', async (query, pointer) => {
    const answer = await call(`/api/v1/things?${query}`);
    if (query === '__proto__=1') return expect(answer.status).toBeLessThan(500);
    expect(answer.status).toBe(400);
    expect(answer.json['errors']).toEqual(expect.arrayContaining([expect.objectContaining({ pointer })]));
  });

  it('converts only what the DTO converts', async () => {
    expect((await call('/api/v1/things?limit=7')).json).toEqual({ limit: 7 });
    expect((await call('/api/v1/things?limit=%zz')).status).toBe(400);
  });
});

describe('bodies of the OAuth endpoints', () => {
  it.each([
    ['JSON', JSON_TYPE, '{}'],
    ['plain text', 'text/plain', 'x'],
    ['no type', undefined, bytes('a=b')],
    ['a broken type', 'nonsense', 'a=b'],
    ['another charset', `${FORM}; charset=latin1`, 'a=b'],
    ['bad percent-encoding', FORM, 'a=%zz'],
    ['a cut escape', FORM, 'a=%4'],
    ['encoded invalid UTF-8', FORM, 'a=%ff'],
    ['invalid UTF-8', FORM, bytes('a=\xff')],
    ['NUL', FORM, 'a=%00'],
    ['65 parameters', FORM, 'a=1&'.repeat(65)],
  ])('refuses %s in the OAuth shape', async (_, type, body) => {
    const answer = await post('/api/v1/token', type, body);
    expect(answer.status).toBe(400);
    expect(answer.json).toEqual({ error: 'invalid_request', error_description: expect.any(String) });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.headers.get('pragma')).toBe('no-cache');
  });

  it('takes forms, whatever the case and parameters of their type', async () => {
    const expected = { form: true, scope: 'a b' };
    expect((await post('/api/v1/token', FORM, 'scope=a+b')).json).toEqual(expected);
    expect((await post('/api/v1/token?x=1', `${FORM.toUpperCase()}; charset=UTF-8`, 'scope=a%20b')).json).toEqual(
      expected,
    );
    expect((await call('/api/v1/token', { method: 'POST' })).status).toBe(200);
  });

  it('answers 413 in the OAuth shape', async () => {
    expect((await post('/api/v1/%74oken', FORM, 'a'.repeat(65_537))).json['error']).toBe('invalid_request');
  });
});

import { Controller, Get, Logger as NestLogger, Module, Param } from '@nestjs/common';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { getDataSourceToken } from '@nestjs/typeorm';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Logger } from 'nestjs-pino';
import { problems } from '../kernel/problem.js';
import { configureHttp } from './configure-http.js';
import { fastifyOptions } from './fastify-options.js';
import { HttpModule } from './http.module.js';
import { loggingModule } from './request-logging.js';

@Controller()
class ThingsController {
  @Get('things/:id')
  one(@Param('id') id: string) {
    if (id === 'bad') throw Object.assign(new Error('broken'), { parameters: ['hunter2'] });
    if (id === 'private') throw problems.conflict.withPrivateDetail('only for the log');
    new NestLogger('Things').log({ authorization: 'Bearer hunter2', headers: { cookie: 'hunter2' } });
    return { id };
  }
}

@Module({
  imports: [
    {
      module: class FakeDatabase {},
      global: true,
      providers: [{ provide: getDataSourceToken(), useValue: { query: () => Promise.resolve([]) } }],
      exports: [getDataSourceToken()],
    },
    HttpModule,
  ],
  controllers: [ThingsController],
})
class ThingsModule {}

const lines: string[] = [];
let app: NestFastifyApplication;

beforeAll(async () => {
  const destination = { write: (line: string) => void lines.push(line) };
  const module = await Test.createTestingModule({
    imports: [loggingModule('debug', destination), ThingsModule],
  }).compile();
  const adapter = new FastifyAdapter(fastifyOptions({ trustedProxies: ['127.0.0.1'] }));
  app = module.createNestApplication<NestFastifyApplication>(adapter, { bodyParser: false, bufferLogs: true });
  app.useLogger(app.get(Logger));
  configureHttp(app, { issuer: 'http://localhost', version: '0' });
  await app.init();
  await app.getHttpAdapter().getInstance().ready();
});

afterAll(() => app.close());

async function linesOf(url: string, headers: Record<string, string> = {}) {
  lines.length = 0;
  await app.inject({ url, headers });
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

it('writes one line a request, without the query string', async () => {
  const written = await linesOf('/things/1?client_secret=hunter2', {
    'x-request-id': 'id-1',
    authorization: 'Bearer hunter2',
    'x-forwarded-for': '203.0.113.7',
  });
  const requests = written.filter(({ msg }) => msg === 'request');
  expect(requests).toEqual([
    expect.objectContaining({
      reqId: 'id-1',
      method: 'GET',
      path: '/things/1',
      status: 200,
      ip: '203.0.113.7',
      level: 30,
    }),
  ]);
  expect(lines.join('')).not.toContain('hunter2');
  expect(lines.join('')).toContain('[Redacted]');
});

it('logs a failure with its stack and nothing of its properties', async () => {
  const [failure, request] = await linesOf('/things/bad');
  expect(failure).toMatchObject({
    level: 50,
    status: 500,
    err: { message: 'broken', stack: expect.stringContaining('at ') },
  });
  expect(request).toMatchObject({ level: 40, status: 500 });
  expect(lines.join('')).not.toContain('hunter2');
});

it('logs the private detail of a refusal at debug', async () => {
  const [refusal] = await linesOf('/things/private');
  expect(refusal).toMatchObject({ level: 20, code: 'conflict', detail: 'only for the log' });
});

it('logs health and metrics at debug', async () => {
  expect((await linesOf('/health/live'))[0]).toMatchObject({ level: 20, path: '/health/live' });
});

it('gives a fresh id for one that is no id', async () => {
  const [request] = await linesOf('/health/live', { 'x-request-id': 'a"b' });
  expect(request?.['reqId']).toMatch(/^[0-9a-f-]{36}$/);
});

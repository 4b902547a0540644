import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { basic, claimsOf, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const FORM = 'Content-Type: application/x-www-form-urlencoded';

/** Requests byte by byte, as no client library would send them. */
describe.each(['/api/v1/token', '/api/v1/token/introspect', '/api/v1/token/revoke'])('HTTP at %s', (path) => {
  let service: TestApp;
  let agent: TestAgent;
  let authorization: string;
  let form: string;

  beforeAll(async () => {
    service = await startTestApp();
    const operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['tokens:read'] });
    authorization = `Authorization: ${basic(agent)['Authorization'] ?? ''}`;
    form = path === '/api/v1/token' ? 'grant_type=client_credentials' : 'token=garbage';
  });
  afterAll(() => service.close());

  /** What comes back until the service closes the connection. */
  function exchange(request: string | Buffer): Promise<string> {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(request);
    return text(socket);
  }
  const head = (...fields: string[]) => `POST ${path} HTTP/1.1\r\n${['Host: x', FORM, ...fields].join('\r\n')}\r\n\r\n`;
  const whole = (...fields: string[]) => head(`Content-Length: ${form.length}`, authorization, ...fields) + form;
  const statuses = (answer: string) => [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));

  it('takes a body in chunks, and looks at nothing in its trailers', async () => {
    const chunks = `${form.length.toString(16)}\r\n${form}\r\n0\r\n${authorization}\r\n\r\n`;
    const secretless = await exchange(head('Transfer-Encoding: chunked', 'Connection: close') + chunks);
    expect(statuses(secretless)).toEqual([401]);
    const right = await exchange(head('Transfer-Encoding: chunked', 'Connection: close', authorization) + chunks);
    expect(statuses(right)).toEqual([200]);
  });

  it('answers pipelined requests one by one, in order', async () => {
    const nobody = head(`Content-Length: ${form.length}`) + form;
    const answer = await exchange(whole() + nobody + whole('Connection: close'));
    expect(statuses(answer)).toEqual([200, 401, 200]);
    if (path !== '/api/v1/token') return;
    const tokens = [...answer.matchAll(/"access_token":"([^"]+)"/g)].map(([, token = '']) => claimsOf(token)['jti']);
    expect(new Set(tokens).size).toBe(2);
  });

  it('asks for the body where the client waits for that', async () => {
    expect(statuses(await exchange(whole('Expect: 100-continue', 'Connection: close')))).toEqual([100, 200]);
    expect(statuses(await exchange(whole('Expect: a miracle', 'Connection: close')))).toEqual([417]);
  });

  it('knows no other method', async () => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT', 'TRACE']) {
      const answer = await exchange(`${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      expect([method, statuses(answer)]).toEqual([method, [405]]);
      expect(answer.toLowerCase()).toContain('allow: post\r\n');
    }
  });

  it('does not unpack a body', async () => {
    const packed = gzipSync(form);
    const fields = [`Content-Length: ${packed.length}`, 'Content-Encoding: gzip', 'Connection: close', authorization];
    expect(statuses(await exchange(Buffer.concat([Buffer.from(head(...fields)), packed])))).toEqual([400]);
  });

  it.each([
    ['a length and chunks', () => head('Content-Length: 4', 'Transfer-Encoding: chunked')],
    ['chunks twice removed', () => head('Transfer-Encoding: chunked, identity')],
    ['a coding that is none', () => head('Transfer-Encoding: xchunked')],
    ['a coding after a tab', () => head('Transfer-Encoding:\tchunked', 'Content-Length: 3')],
    ['a space before the colon', () => head('Content-Length : 4')],
    ['a folded field', () => head('X: a\r\n b', 'Content-Length: 0')],
    ['a length with a sign', () => head('Content-Length: +4')],
    ['a length in hex', () => head('Content-Length: 0x4')],
    ['two lengths', () => head('Content-Length: 4, 4')],
    ['a bare line feed', () => `POST ${path} HTTP/1.1\nHost: x\nContent-Length: 0\n\n`],
    ['a NUL in a field', () => head('X: a\0b')],
    ['a chunk of too large a length', () => `${head('Transfer-Encoding: chunked')}FFFFFFFFFFFFFFFFF\r\n`],
    ['fields of 17 KiB', () => head(`X: ${'x'.repeat(17_000)}`)],
  ])('never reads a second request out of one with %s', async (_, make) => {
    const smuggled = 'GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
    const found = statuses(await exchange(make() + smuggled));
    expect(found.length).toBeLessThanOrEqual(1);
    for (const status of found) expect([400, 431]).toContain(status);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** What generated requests have found, with the seed that found it. */
describe('found by generated requests', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('a checkpoint is not verified for the organization null (FC_SEED=1876561068)', async () => {
    const { body } = await service.api.call('GET', '/audit/checkpoint', operator);
    const kept = { ...body, organizationId: null };
    const answer = await service.api.call('POST', '/audit/verify', operator, kept);
    expect([answer.status, answer.body['code']]).toEqual([400, 'validation_failed']);
    expect(answer.body['errors']).toMatchObject([{ pointer: '/organizationId' }]);
  });

  it.each(['/audit/verify', '/federation/verify', '/resources', '/agents'])(
    'a member called prototype is refused, not dropped in silence, by %s (FC_SEED=20261128)',
    async (path) => {
      const answer = await service.api.call('POST', path, operator, { prototype: 'a text' });
      expect([answer.status, answer.body['code']]).toEqual([400, 'validation_failed']);
      expect(answer.body['errors']).toContainEqual({ pointer: '/prototype', detail: 'This name is not known.' });
    },
  );

  it('fields that are too large are refused on a connection that has served before (FC_SEED=1876561068)', async () => {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    const received = text(socket);
    socket.write('GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    socket.write(`GET /health/live HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
    expect((await received).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 431']);
  });

  it('what comes behind a request that is whole neither takes its answer nor is answered', async () => {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    const received = text(socket);
    const form = `grant_type=client_credentials&client_id=${service.operator.clientId}&client_secret=x`;
    const fields = 'Host: x\r\nContent-Type: application/x-www-form-urlencoded';
    socket.write(
      `POST /api/v1/token HTTP/1.1\r\n${fields}\r\nContent-Length: ${form.length}\r\n\r\n${form}nonsense\r\n\r\n`,
    );
    expect((await received).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 401']);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** How long the service waits for the fields of a request, and for all of it, in milliseconds. */
const FIELDS_MS = 15_000;
const REQUEST_MS = 30_000;
/** How much later it may notice, in milliseconds. */
const LATE_MS = 6000;

describe('a client that sends a byte now and then', () => {
  let service: TestApp;

  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  /** Sends the beginning at once, then a byte a second; gives the answer and how long it took. */
  async function trickle(beginning: string, byte: string): Promise<{ answer: string; tookMs: number }> {
    const began = performance.now();
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(beginning);
    const timer = setInterval(() => socket.write(byte), 1000);
    const answer = await text(socket).finally(() => clearInterval(timer));
    return { answer, tookMs: performance.now() - began };
  }

  it('is answered 408 when its time is over, however busily it sends', async () => {
    const form = 'Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n';
    const [fields, body, chunks] = await Promise.all([
      trickle('POST /api/v1/token HTTP/1.1\r\nHost: x\r\nX: ', 'x'),
      trickle(`POST /api/v1/token HTTP/1.1\r\n${form}Content-Length: 1000\r\n\r\n`, 'x'),
      trickle(`POST /api/v1/token HTTP/1.1\r\n${form}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n'),
    ]);
    const limits = [
      { ...fields, limit: FIELDS_MS },
      { ...body, limit: REQUEST_MS },
      { ...chunks, limit: REQUEST_MS },
    ];
    for (const { answer, tookMs, limit } of limits) {
      expect(answer).toMatch(/^HTTP\/1\.1 408 /);
      expect(tookMs).toBeGreaterThan(limit - 1000);
      expect(tookMs).toBeLessThan(limit + LATE_MS);
    }
  }, 60_000);
});

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fastify, { type FastifyInstance } from 'fastify';
import { EventEmitter, once } from 'node:events';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { answerInTurn } from './answers-in-turn.js';
import { answerExpectation } from './transport-errors.js';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const LAST = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

describe('requests that come together on one connection', () => {
  let server: FastifyInstance;
  /** Emits `begun` for each request that is served, and `go` for those that wait for it. */
  let events: EventEmitter;
  let waits: boolean;
  let begun: number;
  let underWay: number;
  let mostUnderWay: number;
  const sockets: Socket[] = [];

  beforeEach(async () => {
    [begun, underWay, mostUnderWay, waits] = [0, 0, 0, false];
    events = new EventEmitter();
    server = fastify();
    answerInTurn(server);
    server.get('/', async () => {
      const number = (begun += 1);
      underWay += 1;
      mostUnderWay = Math.max(mostUnderWay, underWay);
      events.emit('begun');
      await (waits ? once(events, 'go') : new Promise(setImmediate));
      underWay -= 1;
      return { number };
    });
    server.get('/last', (_request, reply) => reply.header('connection', 'close').send({}));
    server.server.on('checkExpectation', answerExpectation);
    await server.listen({ host: '127.0.0.1', port: 0 });
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await server.close();
  });

  function open(): Socket {
    const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined);
    sockets.push(socket);
    return socket;
  }

  it('are served one at a time and answered in their order', async () => {
    const socket = open();
    socket.write(GET.repeat(40) + LAST);
    const numbers = [...(await text(socket)).matchAll(/"number":(\d+)/g)].map(([, number]) => Number(number));
    expect(numbers).toEqual(Array.from({ length: 41 }, (_, index) => index + 1));
    expect(mostUnderWay).toBe(1);
  });

  it.each([
    ['ends the connection', 'GET /last HTTP/1.1\r\nHost: x\r\n\r\n', 200],
    ['is answered past the router', 'GET / HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n', 417],
  ])('begin not behind one that %s', async (_, last, status) => {
    const socket = open();
    socket.write(last + GET);
    expect(await text(socket)).toContain(`HTTP/1.1 ${status}`);
    // What had begun would have been counted by the time that a request of another connection is answered.
    const other = open();
    other.write(LAST);
    expect(await text(other)).toContain('"number":1');
  });

  it('hold up none of another connection', async () => {
    waits = true;
    const [one, other] = [open(), open()];
    one.write(GET.repeat(3));
    await once(events, 'begun');
    other.write(LAST);
    await once(events, 'begun');
    expect(underWay).toBe(2);
    waits = false;
    events.emit('go');
    expect(await text(other)).toContain('200 OK');
  });

  it('end the connection where they are more than anybody honest sends, and are not served', async () => {
    const socket = open();
    socket.resume();
    socket.write(GET.repeat(2000));
    await once(socket, 'close');
    expect(begun).toBeLessThanOrEqual(65);
    const next = open();
    next.write(LAST);
    expect(await text(next)).toContain('200 OK');
  });

  it('are not served once their client is gone', async () => {
    waits = true;
    const accepted = once(server.server, 'connection') as Promise<[Socket]>;
    const socket = open();
    socket.write(GET.repeat(10));
    await once(events, 'begun');
    const [connection] = await accepted;
    socket.destroy();
    await once(connection, 'close');
    waits = false;
    events.emit('go');
    const next = open();
    next.write(LAST);
    await text(next);
    // The first of the ten, and this one.
    expect(begun).toBe(2);
  });
});

import type { FastifyInstance } from 'fastify';
import type { Socket } from 'node:net';

/** The most requests of one connection that may wait for the answers before theirs. */
const MOST_WAITING = 64;

/** Connections whose last answer was given past Fastify. */
const closing = new WeakSet<Socket>();

/** Begins no further request of a connection: one that was sent behind the last that is answered (RFC 9112 §9.6). */
export function beginNothingMore(socket: Socket): void {
  closing.add(socket);
}

/**
 * Serves the requests of one connection one after the other. Left alone, Node begins all that a client has sent without
 * waiting (pipelining, RFC 9112 §9.3.2) at once and keeps their answers until the client takes them: a megabyte of
 * requests whose answers nobody reads would fill the heap. A connection on which more wait than anybody honest sends ends.
 *
 * @param fastify the root instance, before any other hook: what waits is known to nobody
 */
export function answerInTurn(fastify: FastifyInstance): void {
  const queues = new WeakMap<Socket, (() => void)[]>();

  fastify.addHook('onRequest', (request, reply, done) => {
    const { socket } = request.raw;
    if (closing.has(socket)) return;
    reply.raw.once('close', () => {
      // Behind an answer that ends the connection nothing begins (RFC 9112 §9.6): it could not be answered.
      const isOver = socket.destroyed || socket.writableEnded;
      const next = isOver ? undefined : queues.get(socket)?.shift();
      if (next === undefined) queues.delete(socket);
      else next();
    });
    const queue = queues.get(socket);
    if (queue === undefined) {
      queues.set(socket, []);
      done();
    } else if (queue.length < MOST_WAITING) {
      queue.push(done);
    } else {
      socket.destroy();
    }
  });
}

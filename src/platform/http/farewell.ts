import { Injectable } from '@nestjs/common';
import type { FastifyInstance } from 'fastify';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Readiness } from './readiness.js';

/** How long nobody asks before the port is closed, in milliseconds. */
const QUIET_MS = 100;
/** How long that is waited for, in milliseconds. */
const MOST_QUIET_MS = 1000;
const POLL_MS = 10;
/** How long a connection that never asked anything is left open, in milliseconds. */
const UNUSED_MS = 1000;
/** How long one whose request does not come to an end is left open, in milliseconds. */
const UNFINISHED_MS = 6000;

/**
 * Ends connections so that no client loses a request that it had no reason not to send: from the moment on at which the
 * replica is not ready, every answer ends its connection (RFC 9112 §9.6), and the port stays open until nobody asks.
 */
@Injectable()
export class Farewell {
  private fastify: FastifyInstance | null = null;
  private closing = false;
  private askedAtMs = Number.NEGATIVE_INFINITY;
  private readonly unused = new Set<Socket>();

  constructor(private readonly readiness: Readiness) {}

  /** Watches over the connections and answers of a server. */
  observe(fastify: FastifyInstance): void {
    this.fastify = fastify;
    fastify.server.on('connection', (socket: Socket) => {
      this.unused.add(socket);
      socket.once('close', () => this.unused.delete(socket));
    });
    fastify.addHook('onRequest', (request, _reply, done) => {
      this.unused.delete(request.raw.socket);
      if (this.isSaid && !isProbe(request.url)) this.askedAtMs = performance.now();
      done();
    });
    fastify.addHook('preClose', (done) => {
      this.closing = true;
      this.endWhatHangs();
      done();
    });
    fastify.addHook('onSend', (_request, reply, payload, done) => {
      if (this.isSaid) reply.header('connection', 'close');
      done(null, payload);
    });
  }

  /**
   * Waits until the port may be closed: the replica is not ready any more, load balancers have had their time to see
   * it, and nobody asks.
   *
   * @param noticeMs how long load balancers have
   */
  async untilQuiet(noticeMs: number): Promise<void> {
    await delay(noticeMs);
    const from = performance.now();
    const isQuiet = () => performance.now() - Math.max(from, this.askedAtMs) >= QUIET_MS;
    while (!isQuiet() && performance.now() - from < MOST_QUIET_MS) await delay(POLL_MS);
  }

  private get isSaid(): boolean {
    return this.closing || this.readiness.isDraining;
  }

  /** The server waits for its connections; some would hold it up until their time-outs. */
  private endWhatHangs(): void {
    setTimeout(() => {
      for (const socket of this.unused) socket.destroy();
    }, UNUSED_MS).unref();
    setTimeout(() => this.fastify?.server.closeAllConnections(), UNFINISHED_MS).unref();
  }
}

/** Whether a request is one of those that load balancers and monitors make all the time. */
function isProbe(url: string): boolean {
  return url.startsWith('/health/') || url === '/metrics';
}

import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Certificate } from './certificates.js';

/** A message as it arrived. */
export interface Received {
  readonly id: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly body: { readonly type: string; readonly timestamp: string; readonly data: Record<string, unknown> };
  readonly atMs: number;
  /** The host that the TLS handshake named (RFC 6066 §3); null without TLS, false where it named none. */
  readonly serverName: string | false | null;
}

/** Answers a message; does nothing to let it hang. */
export type Answering = (message: Received, response: ServerResponse, count: number) => void;

const accept: Answering = (_message, response) => response.writeHead(204).end();

/** A real receiver of webhooks, over HTTP, or HTTPS where it is given a certificate. */
export class Receiver {
  readonly received: Received[] = [];
  answering: Answering = accept;
  private server: ReturnType<typeof createServer> | ReturnType<typeof createSecureServer> | null = null;
  private listensOn = 0;

  private constructor(private readonly certificate: Certificate | null) {}

  /** Starts a receiver on a free port. */
  static async start(answering: Answering = accept, certificate: Certificate | null = null): Promise<Receiver> {
    const receiver = new Receiver(certificate);
    receiver.answering = answering;
    await receiver.listen();
    return receiver;
  }

  /** Where it receives. */
  get url(): string {
    return this.urlAt('127.0.0.1');
  }

  /** Where it receives, under another name of this machine. */
  urlAt(host: string): string {
    return `${this.certificate === null ? 'http' : 'https'}://${host}:${this.listensOn}/hooks`;
  }

  /** The events in the order in which they arrived first: repetitions of a `webhook-id` are left out. */
  get once(): Received[] {
    const seen = new Set<string>();
    return this.received.filter(({ id }) => !seen.has(id) && seen.add(id));
  }

  /** Listens (again), on the same port as before. */
  async listen(): Promise<void> {
    const listener: RequestListener = (request, response) => void this.take(request, response);
    const { certificate } = this;
    const server = certificate === null ? createServer(listener) : createSecureServer({ ...certificate }, listener);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.listensOn, '127.0.0.1', resolve);
    });
    this.listensOn = (server.address() as AddressInfo).port;
    this.server = server;
  }

  /** Stops listening and ends every connection: further calls are refused. */
  async close(): Promise<void> {
    const { server } = this;
    this.server = null;
    if (server === null) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    const headers = request.headers as Record<string, string>;
    const body = JSON.parse(text) as Received['body'];
    const serverName = this.certificate === null ? null : ((request.socket as TLSSocket).servername ?? false);
    const message = { id: headers['webhook-id'] ?? '', headers, text, body, atMs: Date.now(), serverName };
    this.received.push(message);
    this.answering(message, response, this.received.filter(({ id }) => id === message.id).length);
  }
}

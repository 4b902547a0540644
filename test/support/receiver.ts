import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A message as it arrived. */
export interface Received {
  readonly id: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly body: { readonly type: string; readonly timestamp: string; readonly data: Record<string, unknown> };
  readonly atMs: number;
}

/** Answers a message; does nothing to let it hang. */
export type Answering = (message: Received, response: ServerResponse, count: number) => void;

const accept: Answering = (_message, response) => response.writeHead(204).end();

/** A real HTTP receiver of webhooks. */
export class Receiver {
  readonly received: Received[] = [];
  answering: Answering = accept;
  private server: Server | null = null;

  private constructor(private listensOn: number) {}

  /** Starts a receiver on a free port. */
  static async start(answering: Answering = accept): Promise<Receiver> {
    const receiver = new Receiver(0);
    receiver.answering = answering;
    await receiver.listen();
    return receiver;
  }

  /** Where it receives. */
  get url(): string {
    return `http://127.0.0.1:${this.listensOn}/hooks`;
  }

  /** The events in the order in which they arrived first: repetitions of a `webhook-id` are left out. */
  get once(): Received[] {
    const seen = new Set<string>();
    return this.received.filter(({ id }) => !seen.has(id) && seen.add(id));
  }

  /** Listens (again), on the same port as before. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.take(request, response));
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
    const message = { id: headers['webhook-id'] ?? '', headers, text, body, atMs: Date.now() };
    this.received.push(message);
    this.answering(message, response, this.received.filter(({ id }) => id === message.id).length);
  }
}

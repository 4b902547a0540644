import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TestDatabase } from './test-database.js';

interface Target {
  readonly port: number;
  readonly host: string;
}

/**
 * Stands between a service and PostgreSQL, and can cut the line, let nothing through, lose answers, refuse connections or
 * lead to another server.
 */
export class DatabaseLine {
  private readonly sockets = new Set<Socket>();
  private server: Server | null = null;
  private port = 0;
  private still = false;
  private unanswered: string | null = null;
  /** Those of which answers were lost. */
  private readonly deaf = new Set<Socket>();

  private constructor(private target: Target) {}

  /**
   * A line to the PostgreSQL of a database.
   *
   * @returns the line, and the database as it is reached over it
   */
  static async to(database: TestDatabase): Promise<{ line: DatabaseLine; database: TestDatabase }> {
    const line = new DatabaseLine(targetOf(database.servingUrl));
    await line.listen();
    return {
      line,
      database: { ...database, servingUrl: line.over(database.servingUrl), owningUrl: line.over(database.owningUrl) },
    };
  }

  /** Connections that are open at the moment. */
  get connections(): number {
    return this.sockets.size / 2;
  }

  /** Lets nothing through in either direction, and leaves all connections open: a network that is gone. */
  hold(): void {
    this.still = true;
    for (const socket of this.sockets) socket.pause();
  }

  /** Lets through again, nothing lost. */
  release(): void {
    this.still = false;
    for (const socket of this.sockets) socket.resume();
  }

  /**
   * Lets through to the server what has `text` in it, and nothing of what comes back on that connection from then on:
   * what was asked for happens, and whoever asked does not learn of it.
   */
  loseAnswersTo(text: string): void {
    this.unanswered = text;
  }

  /** Ends the connections of which answers were lost, and no others; further ones are not lost. */
  cutUnanswered(): void {
    this.unanswered = null;
    for (const socket of this.deaf) socket.destroy();
  }

  /** Ends every connection as it is, in the middle of whatever is under way. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Cuts, and refuses new connections. */
  async refuse(): Promise<void> {
    const { server } = this;
    this.server = null;
    const closed = new Promise((resolve) => server?.close(resolve));
    this.cut();
    await closed;
  }

  /** Takes connections again, at the same place. */
  async listen(): Promise<void> {
    const server = createServer((client) => this.pass(client));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (server.address() as AddressInfo).port;
    this.server = server;
  }

  /** Leads new connections to another server; those that are open stay. */
  leadTo(url: string): void {
    this.target = targetOf(url);
  }

  /** Ends everything. */
  async close(): Promise<void> {
    this.release();
    await this.refuse();
  }

  private over(url: string): string {
    const changed = new URL(url);
    changed.search = '';
    changed.host = `127.0.0.1:${this.port}`;
    return changed.href;
  }

  private pass(client: Socket): void {
    const upstream = connect(this.target.port, this.target.host);
    client.on('data', (data) => {
      if (this.unanswered !== null && data.includes(this.unanswered)) this.deaf.add(client);
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!this.deaf.has(client)) client.write(data);
    });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.sockets.add(from);
      from.on('error', () => undefined);
      from.on('close', () => {
        this.sockets.delete(from);
        this.deaf.delete(from);
        to.destroy();
      });
      if (this.still) from.pause();
    }
  }
}

function targetOf(url: string): Target {
  const { port, hostname } = new URL(url);
  return { port: Number(port), host: hostname };
}

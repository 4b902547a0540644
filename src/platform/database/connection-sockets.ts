import { Socket } from 'node:net';

/** The database cannot be reached or does not answer. The caller answers 503 with `Retry-After`. */
export class DatabaseAway extends Error {
  constructor() {
    super('the database does not answer');
    this.name = 'DatabaseAway';
  }
}

/**
 * The sockets of a pool's connections. While the database is away every one of them is ended at once, whatever it waits
 * for, and so is every new one: nobody waits for a connection or an answer that will not come.
 */
export class ConnectionSockets {
  private readonly open = new Set<Socket>();
  private away = false;
  private over = false;

  /** Makes a socket, for the option `stream` of `pg`. */
  readonly make = (): Socket => {
    const socket = this.away ? new RefusedSocket() : new Socket();
    this.open.add(socket);
    socket.once('close', () => this.open.delete(socket));
    return socket;
  };

  /** Whether the pool is closed: its connections end one by one, and a server that stops as well may be quicker. */
  get isOver(): boolean {
    return this.over;
  }

  /** The pool is about to be closed. */
  close(): void {
    this.over = true;
  }

  /** How much has arrived on the connections that are open, in bytes. */
  get bytesRead(): number {
    let sum = 0;
    for (const socket of this.open) sum += socket.bytesRead;
    return sum;
  }

  /** Ends all connections; new ones may be opened. */
  end(): void {
    for (const socket of this.open) socket.destroy(new DatabaseAway());
  }

  /** Ends all connections, and every new one until `letIn`. */
  keepOut(): void {
    this.away = true;
    this.end();
  }

  /** The database answers again: new connections may be opened. */
  letIn(): void {
    this.away = false;
  }
}

/** A socket whose connecting fails at once. */
class RefusedSocket extends Socket {
  override connect(): this {
    return this.destroy(new DatabaseAway());
  }
}

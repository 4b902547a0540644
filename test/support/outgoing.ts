import { jest } from '@jest/globals';
import { Socket } from 'node:net';

/** Notes every connection that this process begins, the service's and the test's, whatever library begins it. */
export class Outgoing {
  private readonly begun: string[] = [];
  private readonly spy;

  constructor() {
    const { begun } = this;
    const connect = Socket.prototype.connect as (this: Socket, ...args: unknown[]) => Socket;
    this.spy = jest.spyOn(Socket.prototype, 'connect').mockImplementation(function (this: Socket, ...args) {
      begun.push(destinationOf(args));
      return connect.apply(this, args);
    });
  }

  /**
   * Where connections were begun to, as `host:port`, but for places that are known.
   *
   * @param known URLs of the test's own servers and its database
   */
  beyond(...known: readonly string[]): string[] {
    const ports = new Set(known.map((url) => new URL(url).port));
    const portOf = (destination: string) => destination.slice(destination.lastIndexOf(':') + 1);
    // A socket in the file system is the database's.
    return this.begun.filter((destination) => !destination.includes('/') && !ports.has(portOf(destination)));
  }

  /** Forgets what was begun so far. */
  clear(): void {
    this.begun.length = 0;
  }

  /** Notes no more. */
  stop(): void {
    this.spy.mockRestore();
  }
}

/** What Node.js takes: an options object, a port and perhaps a host, or all of these normalized in a list. */
function destinationOf(args: readonly unknown[]): string {
  const [first, second] = (Array.isArray(args[0]) ? args[0] : args) as readonly unknown[];
  if (typeof first === 'number' || typeof first === 'string') {
    return `${typeof second === 'string' ? second : 'localhost'}:${first}`;
  }
  const { host, port, path } = first as { host?: string; port?: number | string; path?: string };
  return path ?? `${host ?? 'localhost'}:${String(port)}`;
}

import { connect, type Socket } from 'node:net';

/** What came back on a connection. */
export interface RawAnswer {
  readonly status: number;
  /** Header fields by their names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** From the sending of the request to the end of the answer, in milliseconds. */
  readonly ms: number;
}

/** The connection ended before the answer did. */
export class ConnectionLost extends Error {
  constructor(
    /** Whether anything of the request was sent. */
    readonly sent: boolean,
    reason: string,
  ) {
    super(`the connection ended without an answer: ${reason}`);
    this.name = 'ConnectionLost';
  }
}

/**
 * A connection that a test has to itself, one request at a time: it knows what `fetch` hides, which is when a
 * connection is opened, reused, closed and reset. Thousands of them cost little.
 */
export class RawConnection {
  private received = '';
  private waiting: { startedMs: number; resolve: (answer: RawAnswer) => void; reject: (error: Error) => void } | null =
    null;
  /** Whether it can be asked again. */
  open = true;

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      this.received += chunk;
      this.look();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => this.end(error.code ?? error.message));
    socket.on('close', () => this.end('closed'));
    socket.on('end', () => (this.open = false));
  }

  /** Opens a connection; rejects with Node's error where nobody listens. */
  static open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url);
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port), hostname);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new RawConnection(socket));
      });
    });
  }

  /** A request as it goes over the line. */
  static request(method: string, path: string, headers: Readonly<Record<string, string>>, body = ''): string {
    const fields = {
      Host: 'service.test',
      ...headers,
      ...(body === '' ? {} : { 'Content-Length': String(body.length) }),
    };
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
    return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
  }

  /**
   * Sends a request and waits for its answer.
   *
   * @throws ConnectionLost
   */
  ask(request: string): Promise<RawAnswer> {
    return new Promise((resolve, reject) => {
      if (!this.open) return reject(new ConnectionLost(false, 'it was closed before'));
      this.waiting = { startedMs: performance.now(), resolve, reject };
      this.socket.write(request, 'latin1');
    });
  }

  close(): void {
    this.open = false;
    this.socket.destroy();
  }

  private look(): void {
    const end = this.received.indexOf('\r\n\r\n');
    if (this.waiting === null || end === -1) return;
    const [first = '', ...lines] = this.received.slice(0, end).split('\r\n');
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const at = line.indexOf(':');
      headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
    }
    const length = Number(headers['content-length'] ?? 0);
    if (this.received.length < end + 4 + length) return;
    const body = this.received.slice(end + 4, end + 4 + length);
    this.received = '';
    if (headers['connection'] === 'close') this.open = false;
    const { startedMs, resolve } = this.waiting;
    this.waiting = null;
    resolve({ status: Number(first.split(' ')[1]), headers, body, ms: performance.now() - startedMs });
  }

  private end(reason: string): void {
    this.open = false;
    this.waiting?.reject(new ConnectionLost(true, reason));
    this.waiting = null;
  }
}

/** A token request with `client_secret_post`, as it goes over the line. */
export function rawTokenRequest(client: { clientId: string; clientSecret: string }, scope = ''): string {
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: client.clientId,
    client_secret: client.clientSecret,
    ...(scope === '' ? {} : { scope }),
  });
  return RawConnection.request(
    'POST',
    '/api/v1/token',
    { 'Content-Type': 'application/x-www-form-urlencoded' },
    form.toString(),
  );
}

/** An introspection of a token by its caller, as it goes over the line. */
export function rawIntrospection(caller: string, token: string): string {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded', Authorization: `Bearer ${caller}` };
  return RawConnection.request('POST', '/api/v1/token/introspect', headers, `token=${token}`);
}

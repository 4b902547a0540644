import { once } from 'node:events';
import type { Duplex, Writable } from 'node:stream';
import pg from 'pg';

/** Rows are handed on in pieces of about this size, in bytes. */
const PIECE_BYTES = 64 * 1024;

/** What `pg` hands to a running statement of a COPY. */
interface CopyConnection {
  readonly stream: Duplex;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
  sendCopyFail(reason: string): void;
}

/**
 * Runs `COPY … TO STDOUT` and writes what comes to `sink`, no faster than that takes it.
 *
 * @param client no other statement runs on it meanwhile
 * @param text the statement
 * @param sink gets the rows in COPY's text format; it is not ended
 * @returns how many rows came
 * @throws Error of PostgreSQL, or of the sink
 */
export async function copyOut(client: pg.Client, text: string, sink: Writable): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    const query = new CopyOut(text, sink, (error) => {
      sink.off('error', fail);
      if (error === null) resolve(query.end());
      else reject(error);
    });
    const fail = (error: Error): void => {
      query.abort();
      reject(error);
    };
    sink.once('error', fail);
    client.query(query);
  });
}

/**
 * Runs `COPY … FROM STDIN` with the rows that `source` gives.
 *
 * @throws Error of PostgreSQL, or of the source
 */
export async function copyIn(client: pg.Client, text: string, source: AsyncIterable<Buffer>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    client.query(
      new CopyIn(text, source, (error) => {
        if (error === null) resolve();
        else reject(error);
      }),
    );
  });
}

/**
 * A statement that `pg` tells of what comes while it runs. Members of it have names that `pg` has not: a statement with
 * `rows` is run in another way.
 */
abstract class Copy extends pg.Query {
  constructor(text: string, done: (error: Error | null) => void) {
    super({ text }, undefined, (error: Error | null | undefined) => done(error ?? null));
  }
}

class CopyOut extends Copy {
  private counted = 0;
  private pieces: Buffer[] = [];
  private bytes = 0;
  private connection: CopyConnection | null = null;

  constructor(
    text: string,
    private readonly sink: Writable,
    done: (error: Error | null) => void,
  ) {
    super(text, done);
  }

  /** PostgreSQL sends a message for each row. */
  handleCopyData({ chunk }: { chunk: Buffer }, connection: CopyConnection): void {
    this.connection = connection;
    this.counted += 1;
    // The buffer behind the message is used again for the next ones.
    this.pieces.push(Buffer.from(chunk));
    this.bytes += chunk.length;
    if (this.bytes < PIECE_BYTES || this.write()) return;
    connection.stream.pause();
    this.sink.once('drain', () => connection.stream.resume());
  }

  /** Writes what is left. */
  end(): number {
    this.write();
    return this.counted;
  }

  /** Nobody takes the rows any more: the connection is of no use. */
  abort(): void {
    this.connection?.stream.destroy();
  }

  private write(): boolean {
    if (this.bytes === 0) return true;
    const goesOn = this.sink.write(Buffer.concat(this.pieces));
    this.pieces = [];
    this.bytes = 0;
    return goesOn;
  }
}

class CopyIn extends Copy {
  private isOver = false;

  constructor(
    text: string,
    private readonly source: AsyncIterable<Buffer>,
    done: (error: Error | null) => void,
  ) {
    let sourceFailure: Error | null = null;
    super(text, (error) => {
      this.isOver = true;
      done(error === null ? null : (sourceFailure ?? error));
    });
    this.failed = (error) => (sourceFailure = error);
  }

  private readonly failed: (error: Error) => void;

  /** PostgreSQL is ready to take rows. */
  handleCopyInResponse(connection: CopyConnection): void {
    void this.send(connection);
  }

  private async send(connection: CopyConnection): Promise<void> {
    try {
      for await (const piece of this.source) {
        // After an error PostgreSQL takes no more; the statement has ended.
        if (this.isOver) return;
        connection.sendCopyFromChunk(piece);
        if (connection.stream.writableNeedDrain) await once(connection.stream, 'drain');
      }
      if (!this.isOver) connection.endCopyFrom();
    } catch (error) {
      this.failed(error instanceof Error ? error : new Error(String(error)));
      if (!this.isOver) connection.sendCopyFail('the source of the rows failed');
    }
  }
}

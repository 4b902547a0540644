import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { errorCode } from '../database/embedded/error-code.js';
import { BackupRefused, readHeader, readSection, type BackupHeader, type BackupTable } from './backup-format.js';

/** The longest line that is not a row, in bytes. */
const MAX_LINE_BYTES = 1024 * 1024;
/** The longest row, in bytes: a row of ours has at most some hundred thousand. */
const MAX_ROW_BYTES = 64 * 1024 * 1024;
const NEWLINE = 10;
const END_OF_ROWS = '\\.';

/** Takes the rows of a table, all of them, as they stand in the file. */
export type TakeRows = (table: BackupTable, rows: AsyncIterable<Buffer>) => Promise<void>;

/**
 * Reads a backup from its beginning to its end, in memory that does not grow.
 *
 * @param file its path
 * @param begin told what it is of, before any rows
 * @param takeRows given each table in turn
 * @returns what it is of, once it was read to its end and found whole
 * @throws BackupRefused where it is none, was interrupted or is damaged
 */
export async function readBackup(
  file: string,
  begin: (header: BackupHeader) => Promise<void>,
  takeRows: TakeRows,
): Promise<BackupHeader> {
  const raw = createReadStream(file);
  const plain = createGunzip();
  // Its errors come out of the iteration.
  pipeline(raw, plain, () => undefined);
  const lines = new LineReader(plain as AsyncIterable<Buffer>);
  try {
    const header = readHeader(await lines.next());
    await begin(header);
    const counted: Record<string, number> = {};
    for (;;) {
      const section = readSection(await lines.next());
      if ('end' in section) {
        for (const [table, rows] of Object.entries({ ...section.rows, ...counted })) {
          if (rows !== section.rows[table] || rows !== counted[table]) {
            throw new BackupRefused(`The file is damaged: the rows of ${table} are not all there.`);
          }
        }
        await lines.end();
        return header;
      }
      if (section.table in counted)
        throw new BackupRefused(`The file is damaged: ${section.table} stands in it twice.`);
      const rows = lines.rows();
      await takeRows(section, rows.pieces());
      counted[section.table] = rows.count;
    }
  } catch (error) {
    throw inWords(error);
  } finally {
    plain.destroy();
    raw.destroy();
  }
}

/** What the decompression says, for people. */
function inWords(error: unknown): unknown {
  const code = errorCode(error);
  if (code === 'Z_BUF_ERROR')
    return new BackupRefused('The file was cut off: the backup was interrupted, or the copy.');
  if (code?.startsWith('Z_') === true) return new BackupRefused('The file is not a backup, or is damaged.');
  return error;
}

/** The rows of one table. */
interface RowSection {
  /** How many there were, once they are all read. */
  readonly count: number;
  pieces(): AsyncGenerator<Buffer>;
}

/** Takes a stream of lines apart, some of which are rows that are handed on as they come. */
class LineReader {
  private readonly chunks: AsyncIterator<Buffer>;
  private rest: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.chunks = stream[Symbol.asyncIterator]();
  }

  /** The next line, without its end. */
  async next(): Promise<string> {
    for (;;) {
      const end = this.rest.indexOf(NEWLINE);
      if (end !== -1) return this.take(end);
      if (this.rest.length > MAX_LINE_BYTES) throw new BackupRefused('The file is not a backup, or is damaged.');
      if (!(await this.more())) throw new BackupRefused('The file was cut off: the backup was interrupted.');
    }
  }

  /** The rows up to the line that ends them. */
  rows(): RowSection {
    let count = 0;
    const pieces = async function* (this: LineReader): AsyncGenerator<Buffer> {
      for (;;) {
        const last = this.rest.lastIndexOf(NEWLINE);
        if (last === -1) {
          if (this.rest.length > MAX_ROW_BYTES) throw new BackupRefused('The file is damaged: a row has no end.');
          if (!(await this.more())) throw new BackupRefused('The file was cut off: the backup was interrupted.');
          continue;
        }
        // Whole lines only, so that the line that ends the rows is never cut in two.
        const lines = this.rest.subarray(0, last + 1);
        const end = endOfRows(lines);
        const rows = end === -1 ? lines : lines.subarray(0, end);
        count += countLines(rows);
        this.rest = this.rest.subarray(end === -1 ? last + 1 : end + END_OF_ROWS.length + 1);
        if (rows.length > 0) yield rows;
        if (end !== -1) return;
      }
    };
    return {
      get count() {
        return count;
      },
      pieces: pieces.bind(this),
    };
  }

  /** Expects that nothing follows, and lets the checksum of the whole be checked. */
  async end(): Promise<void> {
    if (this.rest.length > 0 || (await this.more())) {
      throw new BackupRefused('The file is damaged: something follows its end.');
    }
  }

  private take(end: number): string {
    const line = this.rest.subarray(0, end).toString('utf8');
    this.rest = this.rest.subarray(end + 1);
    return line;
  }

  private async more(): Promise<boolean> {
    const next = await this.chunks.next();
    if (next.done === true) return false;
    this.rest = this.rest.length === 0 ? next.value : Buffer.concat([this.rest, next.value]);
    return true;
  }
}

/** Where the line is that ends the rows; -1 where there is none. */
function endOfRows(lines: Buffer): number {
  if (lines.indexOf(`${END_OF_ROWS}\n`) === 0) return 0;
  const found = lines.indexOf(`\n${END_OF_ROWS}\n`);
  return found === -1 ? -1 : found + 1;
}

function countLines(rows: Buffer): number {
  let count = 0;
  for (let at = rows.indexOf(NEWLINE); at !== -1; at = rows.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}

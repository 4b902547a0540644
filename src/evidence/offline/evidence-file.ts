import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { linesOf, type Line } from './lines.js';

/**
 * The lines of a file of evidence, compressed by gzip or not.
 *
 * @throws Error of the file system
 */
export async function linesOfFile(file: string): Promise<AsyncIterable<Line>> {
  const handle = await open(file);
  const magic = Buffer.alloc(2);
  await handle.read(magic, 0, 2, 0);
  await handle.close();
  const raw = createReadStream(file);
  if (magic[0] !== 0x1f || magic[1] !== 0x8b) return linesOf(raw as AsyncIterable<Buffer>);
  return linesOf(unzipped(raw.pipe(createGunzip()) as AsyncIterable<Buffer>));
}

/** Where compressed data break off, so do the lines: the verdict says it. */
async function* unzipped(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* chunks;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))) throw error;
  }
}

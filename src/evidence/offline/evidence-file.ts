import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
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
  try {
    await handle.read(magic, 0, 2, 0);
    if (magic[0] === 0x1f && magic[1] === 0x8b) return unzippedLines(file, (await handle.stat()).size);
  } finally {
    await handle.close();
  }
  return linesOf(createReadStream(file) as AsyncIterable<Buffer>);
}

/**
 * Where compressed data break off, so do the lines: the verdict says it. What zlib would pass over in silence, such as
 * padding with a further member behind it, is damage: no part of the file is left unread.
 *
 * @param size the bytes of the file
 */
async function* unzippedLines(file: string, size: number): AsyncGenerator<Line> {
  const gunzip = createGunzip();
  // The error of either ends the iteration below.
  pipeline(createReadStream(file), gunzip, () => undefined);
  let number = 1;
  try {
    for await (const line of linesOf(gunzip as AsyncIterable<Buffer>)) {
      yield line;
      number = line.number + 1;
    }
  } catch (error) {
    const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
    if (!code.startsWith('Z_')) throw error;
    if (code === 'Z_BUF_ERROR') yield { number, text: '', ended: false };
    else yield { number, text: null, fault: 'compression_damaged' };
    return;
  }
  if (gunzip.bytesWritten < size) yield { number, text: null, fault: 'compression_damaged' };
}

import { randomBytes } from 'node:crypto';
import { link, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { hasCode } from './error-code.js';

/**
 * Writes `content` to `file` (mode 0600) unless the file exists. Whole or not at all: it is written and synced beside
 * its place and linked into it, so a crash leaves no half file, and of several that try at once one wins.
 *
 * @returns whether this call made the file
 * @throws Error of the file system, where the folder is missing or not writable
 */
export async function createOnce(file: string, content: string): Promise<boolean> {
  const unfinished = `${file}.new-${randomBytes(6).toString('hex')}`;
  try {
    await writeDurably(unfinished, content);
    await link(unfinished, file);
    await syncDirectory(path.dirname(file));
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  } finally {
    await rm(unfinished, { force: true });
  }
}

/**
 * Writes a new file (mode 0600) and returns when it is on the disk.
 *
 * @param owner who is to own it; `null`: we
 * @throws Error EEXIST where there is one
 */
export async function writeDurably(
  file: string,
  content: string,
  owner: { readonly uid: number; readonly gid: number } | null = null,
): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(content);
    if (owner !== null) await handle.chown(owner.uid, owner.gid);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the names in `directory` durable. Windows has no such call and needs none. */
export async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

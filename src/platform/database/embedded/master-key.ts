import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createOnce } from './create-once.js';
import { hasCode } from './error-code.js';

const KEY_BYTES = 32;

/** The master key is not where it was kept, and what it sealed is still there: a new one would open nothing of it. */
export class MasterKeyMissing extends Error {
  /** @param dataDirectory where it was */
  constructor(dataDirectory: string) {
    super(
      `The master key ${masterKeyFile(dataDirectory)} is missing, and the database holds secrets that it sealed. Put it back from where you keep it. Nothing was changed.`,
    );
    this.name = 'MasterKeyMissing';
  }
}

/**
 * The master key of an installation that names none: 32 random bytes, base64 in `<dataDirectory>/master.key` (mode
 * 0600). Made once, atomically, and read ever after; of several processes that come first at once all get the same.
 *
 * @param dataDirectory made if missing; pass `EmbeddedPostgres.dataDirectory`, so that key and database stay together
 * @throws Error where the file holds anything else: a key that was cut off must never be replaced silently, because
 *   whatever it sealed would be lost. The error names the file, not its content.
 */
export async function readOrCreateMasterKey(dataDirectory: string): Promise<Buffer> {
  const file = masterKeyFile(dataDirectory);
  const existing = await readKey(file);
  if (existing !== null) return existing;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await createOnce(file, `${randomBytes(KEY_BYTES).toString('base64')}\n`);
  const created = await readKey(file);
  if (created === null) throw new Error(`The master key ${file} vanished while it was made.`);
  return created;
}

/** Where the master key of an installation is that names none. */
export function masterKeyFile(dataDirectory: string): string {
  return path.resolve(dataDirectory, 'master.key');
}

/**
 * The master key of an installation that names none, where there is one; none is made.
 *
 * @throws Error where the file holds anything else
 */
export function readMasterKey(dataDirectory: string): Promise<Buffer | null> {
  return readKey(masterKeyFile(dataDirectory));
}

/**
 * Puts the master key that another file holds into a data directory that has none.
 *
 * @throws Error where the file holds no key, or the data directory has another one
 */
export async function adoptMasterKey(file: string, dataDirectory: string): Promise<Buffer> {
  const key = await readKey(path.resolve(file));
  if (key === null) throw new Error(`There is no master key in ${path.resolve(file)}.`);
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
  await createOnce(masterKeyFile(dataDirectory), `${key.toString('base64')}\n`);
  const placed = await readMasterKey(dataDirectory);
  if (placed === null || !placed.equals(key)) {
    throw new Error(`${masterKeyFile(dataDirectory)} holds another master key. It is not replaced.`);
  }
  return key;
}

/**
 * The master key before the present one, of an installation that keeps its key under the data directory: what was moved
 * to `<dataDirectory>/master.key.previous`, so that a new one is made.
 *
 * @returns null where there is none
 * @throws Error where the file holds anything else than a key
 */
export function readPreviousMasterKey(dataDirectory: string): Promise<Buffer | null> {
  return readKey(path.resolve(dataDirectory, 'master.key.previous'));
}

/**
 * Reads the key in `file`; `null`: there is no such file.
 *
 * @throws Error where it is not 32 bytes of base64
 */
async function readKey(file: string): Promise<Buffer | null> {
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null;
    throw error;
  }
  const key = Buffer.from(text, 'base64');
  if (key.length !== KEY_BYTES || key.toString('base64') !== text) {
    throw new Error(
      `The master key ${file} is malformed: it must hold ${KEY_BYTES} bytes in base64. Restore it from a backup; without it the secrets it sealed cannot be read.`,
    );
  }
  return key;
}

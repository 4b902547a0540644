import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { FindKey } from '../checkpoint.js';
import { auditKeysIn, UnusableKeys } from './audit-keys.js';
import { answeredCheckpoint, NothingToCompare, Unreadable, unreadable, verifyFile } from './verify-file.js';

/*
 * npm run audit:verify -- FILE --jwks FILE_OR_URL [--checkpoint FILE]: verifies an export, a receipt, a consistency
 * proof, a checkpoint or the receipt of a revocation with nothing but the public keys: no server, no database. Prints the verdict as JSON.
 * Exit codes: 0 it verifies, 1 it does not, 64 wrong usage, 66 a file or URL cannot be read.
 */
const USAGE = 'Usage: npm run audit:verify -- FILE --jwks FILE_OR_URL [--checkpoint FILE]';
const FETCH_TIMEOUT_MS = 10_000;

process.exit(await main());

async function main(): Promise<number> {
  const given = readArguments();
  if (given === null) {
    console.error(USAGE);
    return 64;
  }
  try {
    const findKey = await readJwks(given.jwks);
    const kept = given.checkpoint === null ? null : await readKept(given.checkpoint);
    const verdict = await verifyFile(given.file, findKey, kept);
    console.log(JSON.stringify(verdict, null, 2));
    return verdict.valid ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return error instanceof NothingToCompare ? 64 : 66;
  }
}

function readArguments(): { file: string; jwks: string; checkpoint: string | null } | null {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { jwks: { type: 'string' }, checkpoint: { type: 'string' } },
    });
    const [file] = positionals;
    if (file === undefined || positionals.length > 1 || values.jwks === undefined) return null;
    return { file, jwks: values.jwks, checkpoint: values.checkpoint ?? null };
  } catch {
    return null;
  }
}

/** The audit keys of a JWK Set; keys of other purposes are not believed. */
async function readJwks(place: string): Promise<FindKey> {
  const text = /^https?:\/\//.test(place)
    ? await download(place)
    : await readFile(place, 'utf8').catch(unreadable(place));
  try {
    const keys = auditKeysIn(text);
    return (kid) => Promise.resolve(keys.get(kid) ?? null);
  } catch (error) {
    throw error instanceof UnusableKeys ? new Unreadable(`${place} ${error.message}.`) : error;
  }
}

async function download(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) }).catch(unreadable(url));
  if (!response.ok) throw new Unreadable(`${url} answered ${response.status}.`);
  return response.text().catch(unreadable(url));
}

/** A kept checkpoint: the JWS alone, or a JSON object that has it as `checkpoint`. */
async function readKept(file: string): Promise<string> {
  const text = (await readFile(file, 'utf8').catch(unreadable(file))).trim();
  if (!text.startsWith('{')) return text;
  const checkpoint = answeredCheckpoint(text);
  if (checkpoint !== null) return checkpoint;
  throw new Unreadable(`${file} holds no checkpoint.`);
}

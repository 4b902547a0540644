import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import type { FindKey, VerificationKey } from '../checkpoint.js';
import { checkpointIn, verifyCheckpoint } from './checkpoint-verifier.js';
import { linesOfFile } from './evidence-file.js';
import { ExportVerifier } from './export-verifier.js';
import { MAX_LINE_BYTES } from './lines.js';
import { isProof, verifyProof } from './proof-verifier.js';
import { revocationIn, verifyRevocation } from './revocation-verifier.js';

/*
 * npm run audit:verify -- FILE --jwks FILE_OR_URL [--checkpoint FILE]: verifies an export, a receipt, a consistency
 * proof, a checkpoint or the receipt of a revocation with nothing but the public keys: no server, no database. Prints the verdict as JSON.
 * Exit codes: 0 it verifies, 1 it does not, 64 wrong usage, 66 a file or URL cannot be read.
 */
const USAGE = 'Usage: npm run audit:verify -- FILE --jwks FILE_OR_URL [--checkpoint FILE]';
const FETCH_TIMEOUT_MS = 10_000;
const SMALL_FILE_BYTES = MAX_LINE_BYTES;

/** An input that cannot be read, told in one sentence. */
class Unreadable extends Error {}

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
    const verdict = await verify(given.file, findKey, kept);
    console.log(JSON.stringify(verdict, null, 2));
    return verdict.valid ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return 66;
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

async function verify(file: string, findKey: FindKey, kept: string | null): Promise<{ readonly valid: boolean }> {
  const text = await readSmall(file);
  const checkpoint = text === null ? null : checkpointIn(text);
  if (checkpoint !== null) return verifyCheckpoint(checkpoint, findKey);
  const revocation = text === null ? null : revocationIn(text);
  if (revocation !== null) return verifyRevocation(revocation, findKey);
  const proof = text === null ? null : proofIn(text);
  if (proof !== null) return verifyProof(proof, findKey, kept);
  // As the API answers it; beside a kept one it is read as the end of an export, which has to reach that.
  const answered = text === null || kept !== null ? null : keptIn(text);
  if (answered !== null) return verifyCheckpoint(answered, findKey);
  return new ExportVerifier(findKey, kept).verify(await linesOfFile(file).catch(unreadable(file)));
}

/** What a file holds that is no longer than one line of an export may be; null where it is longer. */
async function readSmall(file: string): Promise<string | null> {
  const handle = await open(file).catch(unreadable(file));
  try {
    return (await handle.stat()).size > SMALL_FILE_BYTES ? null : await handle.readFile('utf8');
  } catch {
    return null;
  } finally {
    await handle.close();
  }
}

/** The receipt or proof in a text, pretty-printed or not; null where it is something else. */
function proofIn(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text) as unknown;
    return isProof(value) ? value : null;
  } catch {
    return null;
  }
}

/** The audit keys of a JWK Set; keys of other purposes are not believed. */
async function readJwks(place: string): Promise<FindKey> {
  const text = /^https?:\/\//.test(place)
    ? await download(place)
    : await readFile(place, 'utf8').catch(unreadable(place));
  const keys = new Map<string, VerificationKey>();
  try {
    const { keys: jwks } = JSON.parse(text) as { keys: (JsonWebKey & Record<string, unknown>)[] };
    for (const jwk of jwks) {
      const { kid, alg, purpose } = jwk;
      if (purpose !== 'audit' || typeof kid !== 'string' || typeof alg !== 'string') continue;
      keys.set(kid, { publicKey: createPublicKey({ key: jwk, format: 'jwk' }), algorithm: alg });
    }
  } catch {
    throw new Unreadable(`${place} is not a JWK Set.`);
  }
  if (keys.size === 0) throw new Unreadable(`${place} has no audit key.`);
  return (kid) => Promise.resolve(keys.get(kid) ?? null);
}

async function download(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) }).catch(unreadable(url));
  if (!response.ok) throw new Unreadable(`${url} answered ${response.status}.`);
  return response.text();
}

/** A kept checkpoint: the JWS alone, or a JSON object that has it as `checkpoint`. */
async function readKept(file: string): Promise<string> {
  const text = (await readFile(file, 'utf8').catch(unreadable(file))).trim();
  if (!text.startsWith('{')) return text;
  const checkpoint = keptIn(text);
  if (checkpoint !== null) return checkpoint;
  throw new Unreadable(`${file} holds no checkpoint.`);
}

/** The `checkpoint` of one JSON object, whatever it is; null where the text is something else. */
function keptIn(text: string): string | null {
  try {
    const { checkpoint } = JSON.parse(text) as { checkpoint?: unknown };
    return typeof checkpoint === 'string' ? checkpoint : null;
  } catch {
    return null;
  }
}

function unreadable(place: string): (error: unknown) => never {
  return (error) => {
    throw new Unreadable(`${place} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  };
}

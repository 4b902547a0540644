import { open } from 'node:fs/promises';
import type { FindKey } from '../checkpoint.js';
import { checkpointIn, verifyCheckpoint } from './checkpoint-verifier.js';
import { linesOfFile } from './evidence-file.js';
import { ExportVerifier } from './export-verifier.js';
import { MAX_LINE_BYTES } from './lines.js';
import { isProof, verifyProof } from './proof-verifier.js';
import { hasRepeatedMember } from './repeated-members.js';
import { revocationIn, verifyRevocation } from './revocation-verifier.js';

/** An input that cannot be read, told in one sentence. */
export class Unreadable extends Error {}

/** A kept checkpoint was given beside evidence that is not compared with one. */
export class NothingToCompare extends Error {
  constructor() {
    super('A kept checkpoint is compared with an export or a consistency proof only.');
  }
}

/**
 * Verifies a file of evidence, whatever its kind, with nothing but the public keys.
 *
 * @param kept a checkpoint that the reader kept, where there is one
 * @throws Unreadable, NothingToCompare
 */
export async function verifyFile(
  file: string,
  findKey: FindKey,
  kept: string | null,
): Promise<{ readonly valid: boolean; readonly reason?: string }> {
  const text = await readSmall(file);
  const answer = text === null ? null : await verifyAnswer(text, findKey, kept);
  return answer ?? new ExportVerifier(findKey, kept).verify(await linesOfFile(file).catch(unreadable(file)));
}

/** The `checkpoint` of one JSON object, whatever it is; null where the text is something else. */
export function answeredCheckpoint(text: string): string | null {
  const checkpoint = jsonObjectIn(text)?.['checkpoint'];
  return typeof checkpoint === 'string' && !hasRepeatedMember(text) ? checkpoint : null;
}

/** Throws `Unreadable` for what kept a place from being read. */
export function unreadable(place: string): (error: unknown) => never {
  return (error) => {
    throw new Unreadable(`${place} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  };
}

/** The verdict on a text that is one answer of the service, alone or pretty-printed; null where it may be an export. */
async function verifyAnswer(
  text: string,
  findKey: FindKey,
  kept: string | null,
): Promise<{ readonly valid: boolean; readonly reason?: string } | null> {
  const checkpoint = checkpointIn(text);
  const revocation = checkpoint === null ? revocationIn(text) : null;
  const value = jsonObjectIn(text);
  const proof = value !== null && isProof(value) ? value : null;
  const isReceipt = proof !== null && 'inclusionPath' in proof;
  if (kept !== null && (checkpoint !== null || revocation !== null || isReceipt)) throw new NothingToCompare();
  // Beside a kept one, a checkpoint as the API answers it is read as the end of an export, which has to reach that.
  const answered = kept === null && typeof value?.['checkpoint'] === 'string' ? value['checkpoint'] : null;
  const isAnswer = revocation !== null || proof !== null || answered !== null;
  if (value !== null && isAnswer && hasRepeatedMember(text)) return { valid: false, reason: 'malformed' };
  if (checkpoint !== null) return verifyCheckpoint(checkpoint, findKey);
  if (revocation !== null) return verifyRevocation(revocation, findKey);
  if (proof !== null) return verifyProof(proof, findKey, kept);
  return answered === null ? null : verifyCheckpoint(answered, findKey);
}

/**
 * What a file holds that is no longer than one line of an export may be; null where it is longer. A pipe is refused: an
 * export is read twice.
 */
async function readSmall(file: string): Promise<string | null> {
  const handle = await open(file).catch(unreadable(file));
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw new Unreadable(`${file} is not a regular file.`);
    return status.size > MAX_LINE_BYTES ? null : await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

function jsonObjectIn(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

import { decodeProtectedHeader } from 'jose';
import { CHECKPOINT_TYP, openCheckpoint, type FindKey } from '../checkpoint.js';

/** What verifying a checkpoint by itself found. */
export interface CheckpointVerdict {
  readonly valid: boolean;
  readonly reason?: 'checkpoint_not_authentic';
  /** What is proven. */
  readonly proves?: string;
}

/** The checkpoint that a text is, as compact JWS; null where it is something else, or a statement of another `typ`. */
export function checkpointIn(text: string): string | null {
  const jws = text.trim();
  try {
    return decodeProtectedHeader(jws).typ === CHECKPOINT_TYP ? jws : null;
  } catch {
    return null;
  }
}

/** Verifies a checkpoint with nothing but the public keys. Whether a log is the one that it states takes the log. */
export async function verifyCheckpoint(checkpoint: string, findKey: FindKey): Promise<CheckpointVerdict> {
  const payload = await openCheckpoint(checkpoint, findKey);
  if (payload === null) return { valid: false, reason: 'checkpoint_not_authentic' };
  const { organizationId, sequence, hash, issuedAt } = payload;
  return {
    valid: true,
    proves: `at ${issuedAt} event ${sequence} of ${organizationId} was the last, with hash ${hash}`,
  };
}

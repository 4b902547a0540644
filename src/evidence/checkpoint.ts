import { createHash, type KeyObject } from 'node:crypto';
import { compactVerify, decodeProtectedHeader } from 'jose';

/** The `typ` of a checkpoint. */
export const CHECKPOINT_TYP = 'audit-checkpoint+jwt';
/** The `typ` of the statement that retention has removed the beginning of a chain. */
export const CUT_TYP = 'audit-cut+jwt';

/** What audit keys sign with. */
export const AUDIT_ALGORITHM = 'ES256';

/** A longer statement is none of ours. */
const MAX_STATEMENT_LENGTH = 4096;
const SHA256_HEX = /^[0-9a-f]{64}$/;

/** What a checkpoint states: the chain of an organization as it was at an instant. */
export interface CheckpointPayload {
  readonly organizationId: string;
  /** The last event that it covers. */
  readonly sequence: number;
  /** That event's `hash`. */
  readonly hash: string;
  /** The root of the RFC 9162 tree over the `hash` of events 1 to `sequence`. */
  readonly rootHash: string;
  readonly issuedAt: string;
  /** `hex(SHA-256(the JWS of the checkpoint before))`; null for the first. */
  readonly previousCheckpointHash: string | null;
}

/** What retention states when it removes events 1 to `removedThrough`. */
export interface CutPayload {
  readonly organizationId: string;
  readonly removedThrough: number;
  /** The `hash` of the last event that went: the first one left points to it. */
  readonly hash: string;
  readonly issuedAt: string;
}

/** A public key that may have signed a checkpoint. */
export interface VerificationKey {
  readonly publicKey: KeyObject;
  readonly algorithm: string;
}

/** Finds the audit key with a `kid`; null where there is none. */
export type FindKey = (kid: string) => Promise<VerificationKey | null>;

/** What the checkpoint after a checkpoint calls it: `hex(SHA-256(its compact serialization))`. */
export function checkpointHash(jws: string): string {
  return createHash('sha256').update(jws, 'ascii').digest('hex');
}

/**
 * The payload of an authentic checkpoint.
 *
 * @returns null where it is malformed or no audit key signed it
 */
export async function openCheckpoint(jws: string, findKey: FindKey): Promise<CheckpointPayload | null> {
  const payload = await openStatement(jws, CHECKPOINT_TYP, findKey);
  return isCheckpointPayload(payload) ? payload : null;
}

/** The payload of an authentic statement about a cut, or null. */
export async function openCut(jws: string, findKey: FindKey): Promise<CutPayload | null> {
  const payload = await openStatement(jws, CUT_TYP, findKey);
  return isCutPayload(payload) ? payload : null;
}

/** What a checkpoint says, its signature not verified: only for our own, as it stands in the database. */
export function readCheckpoint(jws: string): CheckpointPayload {
  const payload = payloadOf(jws);
  if (!isCheckpointPayload(payload)) throw new Error('a stored checkpoint is malformed');
  return payload;
}

/** What stands in the payload of a JWS, its signature not verified; null where that is no JSON. */
export function payloadOf(jws: string): unknown {
  try {
    return JSON.parse(Buffer.from(jws.split('.', 2)[1] ?? '', 'base64url').toString('utf8')) as unknown;
  } catch {
    return null;
  }
}

/**
 * What an authentic statement of a kind says; null where it is none. The algorithm is neither the statement's nor the key's
 * to choose (RFC 8725 §3.1), and none of our statements has an extension (RFC 7515 §4.1.11).
 */
export async function openStatement(jws: string, typ: string, findKey: FindKey): Promise<unknown> {
  if (jws.length > MAX_STATEMENT_LENGTH) return null;
  try {
    const header = decodeProtectedHeader(jws);
    if (header.typ !== typ || header.alg !== AUDIT_ALGORITHM || header.crit !== undefined) return null;
    if (typeof header.kid !== 'string') return null;
    const key = await findKey(header.kid);
    if (key === null || key.algorithm !== AUDIT_ALGORITHM) return null;
    const { payload } = await compactVerify(jws, key.publicKey, { algorithms: [AUDIT_ALGORITHM] });
    return JSON.parse(Buffer.from(payload).toString('utf8')) as unknown;
  } catch (error) {
    if (isDatabaseTrouble(error)) throw error;
    return null;
  }
}

/** Faults of the statement are a verdict; that the key could not be looked up is none. */
function isDatabaseTrouble(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return !(
    error instanceof SyntaxError ||
    error instanceof TypeError ||
    (typeof code === 'string' && code.startsWith('ERR_J'))
  );
}

/** Whether a value has the members of a checkpoint. */
export function isCheckpointPayload(value: unknown): value is CheckpointPayload {
  const members = membersOf(value);
  return (
    members !== null &&
    typeof members['organizationId'] === 'string' &&
    isSequence(members['sequence']) &&
    isHash(members['hash']) &&
    isHash(members['rootHash']) &&
    typeof members['issuedAt'] === 'string' &&
    (members['previousCheckpointHash'] === null || isHash(members['previousCheckpointHash']))
  );
}

function isCutPayload(value: unknown): value is CutPayload {
  const members = membersOf(value);
  return (
    members !== null &&
    typeof members['organizationId'] === 'string' &&
    isSequence(members['removedThrough']) &&
    isHash(members['hash']) &&
    typeof members['issuedAt'] === 'string'
  );
}

/** The members of a JSON object; null where it is none. */
export function membersOf(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
}

/** Whether a value is the place of an event in its chain. */
export function isSequence(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** Whether a value is a SHA-256 as our formats write it. */
export function isHash(value: unknown): boolean {
  return typeof value === 'string' && SHA256_HEX.test(value);
}

import { hashOf, type ChainedEvent } from '../../platform/kernel/canonical-event.js';
import { openCheckpoint, type FindKey } from '../checkpoint.js';
import { isConsistent, isIncluded, leafHash } from '../merkle.js';
import { isEvent } from './export-verifier.js';

const HASH = /^[0-9a-f]{64}$/;
/** A tree of 2^53 leaves has no longer path. */
const MAX_PATH = 64;

/** What verifying a receipt or a consistency proof found. */
export interface ProofVerdict {
  readonly valid: boolean;
  readonly reason?:
    | 'malformed'
    | 'event_altered'
    | 'checkpoint_needed'
    | 'checkpoint_not_authentic'
    | 'checkpoint_foreign'
    | 'proof_wrong';
  /** What is proven: an event under a checkpoint, or a checkpoint that extends another. */
  readonly proves?: string;
}

/** Whether a JSON value is a receipt or a consistency proof rather than an export. */
export function isProof(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && ('inclusionPath' in value || 'consistencyPath' in value);
}

/**
 * Verifies a receipt (`GET /audit/{eventId}/receipt`) or a consistency proof (`GET /audit/consistency`).
 *
 * @param kept a checkpoint that the reader kept: a consistency proof is verified from it on
 */
export function verifyProof(
  proof: Record<string, unknown>,
  findKey: FindKey,
  kept: string | null = null,
): Promise<ProofVerdict> {
  return 'inclusionPath' in proof ? verifyReceipt(proof, findKey) : verifyConsistency(proof, findKey, kept);
}

async function verifyReceipt(receipt: Record<string, unknown>, findKey: FindKey): Promise<ProofVerdict> {
  const { event, leafIndex, treeSize, checkpoint } = receipt;
  const path = pathOf(receipt['inclusionPath']);
  if (!isEvent(event) || path === null || typeof checkpoint !== 'string' || !HASH.test(event.hash))
    return wrong('malformed');
  const hash = hashIn(event);
  if (hash === null) return wrong('malformed');
  if (hash !== event.hash) return wrong('event_altered');
  const payload = await openCheckpoint(checkpoint, findKey);
  if (payload === null) return wrong('checkpoint_not_authentic');
  if (payload.organizationId !== event.organizationId) return wrong('checkpoint_foreign');
  if (leafIndex !== event.sequence - 1 || treeSize !== payload.sequence) return wrong('proof_wrong');
  const leaf = leafHash(Buffer.from(event.hash, 'hex'));
  const root = Buffer.from(payload.rootHash, 'hex');
  if (!isIncluded(leaf, event.sequence - 1, payload.sequence, path, root)) return wrong('proof_wrong');
  return {
    valid: true,
    proves: `event ${event.sequence} (${event.action}) is in the log of ${event.organizationId} as signed at ${payload.issuedAt}`,
  };
}

async function verifyConsistency(
  proof: Record<string, unknown>,
  findKey: FindKey,
  kept: string | null,
): Promise<ProofVerdict> {
  const path = pathOf(proof['consistencyPath']);
  const { to } = proof;
  const from = kept ?? proof['from'];
  if (from === null) return wrong('checkpoint_needed');
  if (path === null || typeof from !== 'string' || typeof to !== 'string') return wrong('malformed');
  const earlier = await openCheckpoint(from, findKey);
  const later = await openCheckpoint(to, findKey);
  if (earlier === null || later === null) return wrong('checkpoint_not_authentic');
  if (earlier.organizationId !== later.organizationId) return wrong('checkpoint_foreign');
  const [fromRoot, toRoot] = [Buffer.from(earlier.rootHash, 'hex'), Buffer.from(later.rootHash, 'hex')];
  if (!isConsistent(earlier.sequence, later.sequence, path, fromRoot, toRoot)) return wrong('proof_wrong');
  return {
    valid: true,
    proves: `the log of ${later.organizationId} with ${later.sequence} events extends the one with ${earlier.sequence}`,
  };
}

/** The hash of an event that anybody may have written; null where it has no canonical form. */
function hashIn(event: ChainedEvent): string | null {
  try {
    return hashOf(event);
  } catch {
    return null;
  }
}

function pathOf(value: unknown): Buffer[] | null {
  if (!Array.isArray(value) || value.length > MAX_PATH) return null;
  const hashes = value as unknown[];
  if (!hashes.every((hash): hash is string => typeof hash === 'string' && HASH.test(hash))) return null;
  return hashes.map((hash) => Buffer.from(hash, 'hex'));
}

function wrong(reason: NonNullable<ProofVerdict['reason']>): ProofVerdict {
  return { valid: false, reason };
}

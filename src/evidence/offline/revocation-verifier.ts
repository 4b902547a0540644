import type { FindKey } from '../checkpoint.js';
import { openRevocationReceipt } from '../revocation-receipt.js';

const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/** Members that stand in the answer as well as in the receipt, which alone is signed. */
const REPEATED = ['agents', 'credentials', 'tokens', 'effectiveAt', 'eventId'] as const;

/** The answer of `POST /revocations`, or what of it was kept. */
export type KeptRevocation = Readonly<Record<string, unknown>> & { readonly receipt: string };

/** What verifying the receipt of a revocation found. */
export interface RevocationVerdict {
  readonly valid: boolean;
  readonly reason?: 'receipt_not_authentic' | 'answer_altered';
  /** What is proven. */
  readonly proves?: string;
}

/** The revocation in a text: the receipt alone, or the answer that it came in; null where it is something else. */
export function revocationIn(text: string): KeptRevocation | null {
  const trimmed = text.trim();
  if (COMPACT_JWS.test(trimmed)) return { receipt: trimmed };
  try {
    const value = JSON.parse(trimmed) as unknown;
    const isAnswer =
      typeof value === 'object' && value !== null && 'receipt' in value && typeof value.receipt === 'string';
    return isAnswer ? (value as KeptRevocation) : null;
  } catch {
    return null;
  }
}

/** Verifies a receipt with nothing but the public keys, and that an answer around it says the same. */
export async function verifyRevocation(kept: KeptRevocation, findKey: FindKey): Promise<RevocationVerdict> {
  const payload = await openRevocationReceipt(kept.receipt, findKey);
  if (payload === null) return { valid: false, reason: 'receipt_not_authentic' };
  if (REPEATED.some((name) => name in kept && kept[name] !== payload[name])) {
    return { valid: false, reason: 'answer_altered' };
  }
  const { issuedBefore, ...subject } = payload.selector;
  const [named] = Object.entries(subject).map((entry) => entry.join(' '));
  const which = issuedBefore === undefined ? 'so far' : `before ${issuedBefore}`;
  return {
    valid: true,
    proves:
      `tokens of ${payload.iss} issued ${which} to ${named ?? 'nobody'} are dead since ${payload.effectiveAt}, ` +
      `as event ${payload.sequence} (${payload.eventId}) of ${payload.organizationId} tells`,
  };
}

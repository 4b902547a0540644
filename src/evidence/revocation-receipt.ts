import { isHash, isSequence, membersOf, openStatement, type FindKey } from './checkpoint.js';

/** The `typ` of the receipt of a revocation in bulk. */
export const REVOCATION_RECEIPT_TYP = 'revocation-receipt+jwt';

/** What died, as far as it was counted in time. */
export interface RevokedCounts {
  readonly agents: number | null;
  readonly credentials: number | null;
  readonly tokens: number | null;
}

/** What we state about a revocation in bulk. */
export interface RevocationReceiptPayload extends RevokedCounts {
  /** Our issuer: whose tokens. */
  readonly iss: string;
  readonly organizationId: string;
  /** Whose tokens, as it was asked. */
  readonly selector: Readonly<Record<string, string>>;
  /** The agent that asked. */
  readonly actor: string;
  /** The event that tells of it, its place in the organization's chain, and its hash. */
  readonly eventId: string;
  readonly sequence: number;
  readonly hash: string;
  /** From this instant on no replica accepts what the selector names. */
  readonly effectiveAt: string;
  readonly issuedAt: string;
}

/**
 * The payload of an authentic receipt.
 *
 * @returns null where it is malformed or no audit key signed it
 */
export async function openRevocationReceipt(jws: string, findKey: FindKey): Promise<RevocationReceiptPayload | null> {
  const payload = await openStatement(jws, REVOCATION_RECEIPT_TYP, findKey);
  return isReceiptPayload(payload) ? payload : null;
}

const TEXTS = ['iss', 'organizationId', 'actor', 'eventId', 'effectiveAt', 'issuedAt'] as const;
const COUNTS = ['agents', 'credentials', 'tokens'] as const;

function isReceiptPayload(value: unknown): value is RevocationReceiptPayload {
  const members = membersOf(value);
  if (members === null) return false;
  const selector = membersOf(members['selector']);
  return (
    TEXTS.every((name) => typeof members[name] === 'string') &&
    COUNTS.every((name) => members[name] === null || Number.isSafeInteger(members[name])) &&
    isSequence(members['sequence']) &&
    isHash(members['hash']) &&
    selector !== null &&
    Object.values(selector).every((each) => typeof each === 'string')
  );
}

import { genesisHash, hashOf, type ChainedEvent } from './canonical-event.js';
import type { ChainHead } from './audit.repository.js';

/** Why a chain is broken at a sequence. */
export type BreakReason = 'event_missing' | 'event_altered' | 'link_broken' | 'head_mismatch';

/** What a verification found. */
export interface ChainVerdict {
  readonly valid: boolean;
  /** How many events were found right. */
  readonly checked: number;
  readonly firstSequence: number | null;
  readonly lastSequence: number | null;
  /** The hash of the last event that was found right. */
  readonly headHash: string | null;
  /** The first sequence that is missing or wrong. */
  readonly brokenAt: number | null;
  readonly reason?: BreakReason;
}

const NOTHING_TO_CHECK: ChainVerdict = {
  valid: true,
  checked: 0,
  firstSequence: null,
  lastSequence: null,
  headHash: null,
  brokenAt: null,
};

/** Reads up to `limit` events from `sequence` on, oldest first. */
export type ReadForward = (sequence: number, limit: number) => Promise<readonly ChainedEvent[]>;

/** Events in memory at one time. */
const BATCH = 1000;

/**
 * Walks a chain from `first` to `last` in bounded memory, computes every hash anew and compares each link.
 *
 * @param organizationId whose chain
 * @param head the head that the ledger names; compared where the walk ends there
 * @param first the first sequence, at least 1
 * @param last the last sequence, at most the head's
 * @param read reads the events
 */
export async function verifyChain(
  organizationId: string,
  head: ChainHead,
  first: number,
  last: number,
  read: ReadForward,
): Promise<ChainVerdict> {
  if (first > last) return NOTHING_TO_CHECK;
  const before = first === 1 ? null : ((await read(first - 1, 1))[0] ?? null);
  let previous = before?.sequence === first - 1 ? before.hash : first === 1 ? genesisHash(organizationId) : null;
  let sequence = first;
  const verdict = (brokenAt: number | null, reason?: BreakReason): ChainVerdict => ({
    valid: brokenAt === null,
    checked: sequence - first,
    firstSequence: sequence > first ? first : null,
    lastSequence: sequence > first ? sequence - 1 : null,
    headHash: sequence > first ? previous : null,
    brokenAt,
    ...(reason === undefined ? {} : { reason }),
  });

  if (previous === null) return verdict(first - 1, 'event_missing');
  while (sequence <= last) {
    const events = await read(sequence, Math.min(BATCH, last - sequence + 1));
    if (events.length === 0) return verdict(sequence, 'event_missing');
    for (const event of events) {
      if (event.sequence !== sequence) return verdict(sequence, 'event_missing');
      if (event.previousHash !== previous) return verdict(sequence, 'link_broken');
      if (hashOf(event) !== event.hash) return verdict(sequence, 'event_altered');
      previous = event.hash;
      sequence += 1;
    }
  }
  if (last === head.sequence && previous !== head.hash) return verdict(last, 'head_mismatch');
  if (last === head.sequence && head.stray !== undefined) return verdict(head.stray, 'head_mismatch');
  return verdict(null);
}

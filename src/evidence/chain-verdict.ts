/** What verification may find, with what it means. */
export const BREAK_REASONS = {
  event_missing: 'An event is not in its place.',
  event_inserted: 'An event stands where the chain does not reach.',
  event_altered: 'The hash of an event is not the hash of its content.',
  link_broken: 'An event does not point to the hash of the event before it.',
  head_mismatch: 'The last event is not the head that the ledger names.',
  tail_missing: 'The chain ends before a checkpoint over it.',
  chain_rewritten: 'The chain holds together, but it is not the one that a checkpoint covers.',
  checkpoint_altered: 'A stored checkpoint is not authentic, or does not say what its row says.',
  checkpoint_missing: 'A checkpoint was removed: another one, or the tree, names it.',
  checkpoint_mismatch: 'The checkpoint given states another chain than this one.',
  history_lost: 'An older backup was restored: what the checkpoint given covers from here on is lost.',
  checkpoint_not_authentic: 'The checkpoint given was not signed with one of our audit keys.',
  checkpoint_foreign: 'The checkpoint given is about another organization.',
  tree_altered: 'The stored hash tree is not the tree over the events.',
  cut_altered: 'The statement about what retention removed is not authentic.',
} as const;

/** Why a chain is broken at a sequence. */
export type BreakReason = keyof typeof BREAK_REASONS;

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

/** The first thing that is wrong with a chain; ends a verification. */
export class Break extends Error {
  constructor(
    readonly sequence: number | null,
    readonly reason: BreakReason,
  ) {
    super(`${reason} at ${String(sequence)}`);
    this.name = 'Break';
  }
}

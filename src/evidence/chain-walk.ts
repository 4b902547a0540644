import { hashOf, type ChainedEvent } from '../platform/kernel/canonical-event.js';
import { Break, type BreakReason, type ChainVerdict } from './chain-verdict.js';
import type { CheckpointPayload } from './checkpoint.js';
import { type HashTree, TILE_WIDTH, TreeDamaged } from './hash-tree.js';
import { GrowingTree, leafHash } from './merkle.js';

/** Where a walk begins: behind an event that is taken for granted, or behind the start of the chain. */
export interface WalkStart {
  /** The event before the first that is checked; 0 at the start of the chain. */
  readonly sequence: number;
  /** Its hash, to which the first event has to point. */
  readonly hash: string;
  /** The root that the checkpoint over it states; null where none is known to. */
  readonly rootHash: string | null;
}

/** What the row of the stored tree says of it. */
export interface StoredTree {
  /** Events in it. */
  readonly size: number;
  /** The `hash` of the last of them. */
  readonly chainHash: Buffer | null;
}

/**
 * Walks a chain event by event, in memory that does not grow: computes every hash anew, compares each link, compares the
 * tree that grows from the events with the stored one and with the checkpoints on the way.
 */
export class ChainWalk {
  private sequence: number;
  private hash: string;
  private growing = new GrowingTree();
  /** The first event whose stored leaf differs: which of the two was changed, the next checkpoint tells. */
  private differsAt: number | null = null;
  /** The last event that a checkpoint vouched for in this walk. */
  private vouchedSequence: number;

  constructor(
    private readonly start: WalkStart,
    private readonly tree: HashTree,
    private readonly stored: StoredTree,
  ) {
    this.sequence = start.sequence;
    this.hash = start.hash;
    this.vouchedSequence = start.sequence;
  }

  /** The next event to check. */
  get next(): number {
    return this.sequence + 1;
  }

  /** The hash of the last event that was found right. */
  get headHash(): string {
    return this.hash;
  }

  /** Takes the tree up to the start from the stored one. Throws `Break` where a checkpoint there states another. */
  async prepare(): Promise<void> {
    const { sequence, rootHash } = this.start;
    if (sequence === 0 || !this.knowsRoot) return;
    this.growing = new GrowingTree(sequence, await this.tree.subtrees(sequence));
    if (rootHash !== null && this.growing.root().toString('hex') !== rootHash)
      throw new Break(sequence, 'tree_altered');
  }

  /** Whether the roots of checkpoints can be compared: the tree is known from the first event on. */
  private get knowsRoot(): boolean {
    return this.start.sequence <= this.stored.size;
  }

  /** Checks the event that has to come next. Throws `Break`. */
  async take(event: ChainedEvent): Promise<void> {
    const sequence = this.next;
    if (event.sequence < sequence) throw this.broken(event.sequence, 'event_inserted');
    if (event.sequence !== sequence) throw this.broken(sequence, 'event_missing');
    if (event.previousHash !== this.hash) throw this.broken(sequence, 'link_broken');
    if (hashOf(event) !== event.hash) throw this.broken(sequence, 'event_altered');
    const leaf = leafHash(Buffer.from(event.hash, 'hex'));
    if (this.knowsRoot) this.growing.append(leaf);
    if (sequence <= this.stored.size) await this.compareLeaf(event, leaf);
    this.sequence = sequence;
    this.hash = event.hash;
  }

  /** Checks what a checkpoint over the events so far states. Throws `Break`. */
  pass(payload: CheckpointPayload): void {
    this.compare(payload, this.vouchedSequence, 'chain_rewritten');
    this.vouch();
  }

  /**
   * Checks what a checkpoint states that the caller kept. Throws `Break`.
   *
   * @param agreed the last event up to which it and the stored checkpoints agree: where it contradicts them, theirs do not
   *   vouch for anything beyond
   */
  compareKept(payload: CheckpointPayload, agreed: number): void {
    this.compare(payload, Math.max(agreed, this.start.sequence), 'checkpoint_mismatch');
  }

  /** The end of the walk: a difference that no checkpoint has explained is one of the stored tree. Throws `Break`. */
  finish(): void {
    if (this.differsAt !== null) throw new Break(this.differsAt, 'tree_altered');
  }

  /** What was found, up to `fault`. */
  verdict(fault: Break | null): ChainVerdict {
    const { sequence: before } = this.start;
    const walked = this.sequence > before;
    return {
      valid: fault === null,
      checked: this.sequence - before,
      firstSequence: walked ? before + 1 : null,
      lastSequence: walked ? this.sequence : null,
      headHash: walked ? this.hash : null,
      brokenAt: fault?.sequence ?? null,
      ...(fault === null ? {} : { reason: fault.reason }),
    };
  }

  private compare(payload: CheckpointPayload, right: number, reason: BreakReason): void {
    const sameRoot = !this.knowsRoot || this.growing.root().toString('hex') === payload.rootHash;
    if (payload.hash === this.hash && sameRoot) return;
    throw new Break(this.differsAt ?? right + 1, reason);
  }

  /** A checkpoint agreed with the events, so where the stored tree differed, the tree was changed. */
  private vouch(): void {
    if (this.differsAt !== null) throw new Break(this.differsAt, 'tree_altered');
    this.vouchedSequence = this.sequence;
  }

  private async compareLeaf({ sequence, hash }: ChainedEvent, leaf: Buffer): Promise<void> {
    if (this.differsAt !== null) return;
    const stored = await this.tree.leaf(sequence - 1);
    const isLast = sequence === this.stored.size;
    const same = stored?.equals(leaf) === true && (!isLast || this.stored.chainHash?.toString('hex') === hash);
    if (!same || (sequence % TILE_WIDTH === 0 && !(await this.isBoundAt(sequence)))) this.differsAt = sequence;
  }

  private async isBoundAt(sequence: number): Promise<boolean> {
    try {
      return await this.tree.isBoundAt(sequence);
    } catch (error) {
      if (error instanceof TreeDamaged) return false;
      throw error;
    }
  }

  /** A fault at `sequence`, unless the events before already differ from the stored tree. */
  private broken(sequence: number, reason: BreakReason): Break {
    return this.differsAt !== null && this.differsAt < sequence
      ? new Break(this.differsAt, 'chain_rewritten')
      : new Break(sequence, reason);
  }
}

import { Break } from './chain-verdict.js';
import type { CheckpointSigner } from './checkpoint-signer.js';
import { checkpointHash, isCheckpointPayload, payloadOf, type CheckpointPayload } from './checkpoint.js';
import type { EvidenceRepository } from './evidence.repository.js';
import type { StoredCheckpoint } from './tree-growth.js';

/** Checkpoints in memory at one time. */
const PAGE = 200;

/** The stored checkpoints of an organization, oldest first, each checked before it is given. */
export class CheckpointChain {
  private page: StoredCheckpoint[] = [];
  private from: number;
  private previousHash: string | null = null;
  private exhausted = false;
  /** The hash of each checkpoint that may be asked for by its sequence: the one that the tree's row names. */
  private seen: string | null = null;

  /**
   * @param after checkpoints beyond this sequence are given
   * @param named the sequence whose checkpoint is remembered
   */
  constructor(
    private readonly repository: EvidenceRepository,
    private readonly signer: CheckpointSigner,
    private readonly organizationId: string,
    private readonly after: number,
    private readonly named: number,
  ) {
    this.from = after + 1;
  }

  /**
   * Checks the checkpoints up to `after`, which no event is left of: the one there is authentic, and each names the one
   * before it, so that their signatures need no look. Throws `Break`.
   */
  async checkRemoved(): Promise<void> {
    let before: StoredCheckpoint | null = null;
    for (let from = 1; from <= this.after;) {
      const page = await this.repository.checkpointsFrom(this.organizationId, from, PAGE);
      for (const stored of page) {
        if (stored.sequence > this.after) return;
        const payload = payloadOf(stored.checkpoint);
        if (!isCheckpointPayload(payload) || !this.says(payload, stored)) {
          throw new Break(stored.sequence, 'checkpoint_altered');
        }
        const hash = before === null ? null : checkpointHash(before.checkpoint);
        if (payload.previousCheckpointHash !== hash) throw await this.brokenLink(before, stored);
        before = stored;
      }
      if (page.length < PAGE) return;
      from = (page.at(-1)?.sequence ?? from) + 1;
    }
  }

  /** Reads what the first checkpoint has to point to. */
  async prepare(): Promise<void> {
    const [before] = await this.repository.checkpointsBefore(this.organizationId, String(this.after + 1), 1);
    if (before === undefined) return;
    this.previousHash = checkpointHash(before.checkpoint);
    if (before.sequence === this.named) this.seen = this.previousHash;
  }

  /** The sequence of the next checkpoint, not yet checked; null where there is none. */
  async peek(): Promise<number | null> {
    if (this.page.length === 0 && !this.exhausted) {
      this.page = await this.repository.checkpointsFrom(this.organizationId, this.from, PAGE);
      this.exhausted = this.page.length < PAGE;
      this.from = (this.page.at(-1)?.sequence ?? this.from) + 1;
    }
    return this.page[0]?.sequence ?? null;
  }

  /** The next checkpoint; call `peek` before. Throws `Break`. */
  async take(): Promise<CheckpointPayload> {
    const stored = this.page.shift();
    if (stored === undefined) throw new Error('there is no checkpoint to take');
    const { sequence, checkpoint } = stored;
    const payload = await this.signer.open(checkpoint);
    if (payload === null || !this.says(payload, stored)) throw new Break(sequence, 'checkpoint_altered');
    if (payload.previousCheckpointHash !== this.previousHash) throw new Break(sequence, 'checkpoint_missing');
    this.previousHash = checkpointHash(checkpoint);
    if (sequence === this.named) this.seen = this.previousHash;
    return payload;
  }

  /** The hash of the last checkpoint that was given, or of the one before the first; null where there is none. */
  get lastHash(): string | null {
    return this.previousHash;
  }

  /** The hash of the checkpoint that was to be remembered; null where it did not come. */
  get namedHash(): string | null {
    return this.seen;
  }

  /** What is stored at a sequence, checked by itself; null where there is nothing. Throws `Break`. */
  async at(sequence: number): Promise<CheckpointPayload | null> {
    const stored = await this.repository.checkpoint(this.organizationId, sequence);
    if (stored === null) return null;
    const payload = await this.signer.open(stored.checkpoint);
    if (payload === null || !this.says(payload, stored)) throw new Break(sequence, 'checkpoint_altered');
    return payload;
  }

  /** Whether the checkpoint that a kept one names as the one before it is there. */
  async hasNamedBy({ sequence, previousCheckpointHash }: CheckpointPayload): Promise<boolean> {
    const [before] = await this.repository.checkpointsBefore(this.organizationId, String(sequence), 1);
    return (before === undefined ? null : checkpointHash(before.checkpoint)) === previousCheckpointHash;
  }

  private says(payload: CheckpointPayload, { sequence, issuedAt }: StoredCheckpoint): boolean {
    return (
      payload.organizationId === this.organizationId &&
      payload.sequence === sequence &&
      payload.issuedAt === issuedAt.toISOString()
    );
  }

  /** A checkpoint names another one than stands before it: that one was altered, or one between the two was removed. */
  private async brokenLink(before: StoredCheckpoint | null, stored: StoredCheckpoint): Promise<Break> {
    const isAltered = before !== null && (await this.signer.open(before.checkpoint)) === null;
    return isAltered
      ? new Break(before.sequence, 'checkpoint_altered')
      : new Break(stored.sequence, 'checkpoint_missing');
  }
}

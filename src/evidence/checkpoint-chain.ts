import { Break } from './chain-verdict.js';
import type { CheckpointSigner } from './checkpoint-signer.js';
import { checkpointHash, type CheckpointPayload } from './checkpoint.js';
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
    const { sequence, checkpoint, issuedAt } = stored;
    const payload = await this.signer.open(checkpoint);
    const says =
      payload?.organizationId === this.organizationId &&
      payload.sequence === sequence &&
      payload.issuedAt === issuedAt.toISOString();
    if (payload === null || !says) throw new Break(sequence, 'checkpoint_altered');
    if (payload.previousCheckpointHash !== this.previousHash) throw new Break(sequence, 'checkpoint_missing');
    this.previousHash = checkpointHash(checkpoint);
    if (sequence === this.named) this.seen = this.previousHash;
    return payload;
  }

  /** The hash of the checkpoint that was to be remembered; null where it did not come. */
  get namedHash(): string | null {
    return this.seen;
  }
}

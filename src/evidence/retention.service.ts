import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Clock } from '../platform/kernel/clock.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import type { CheckpointPayload } from './checkpoint.js';
import { EvidenceRepository } from './evidence.repository.js';
import { RemovalPace } from './removal-pace.js';
import { RetentionRepository, type ExpiredPrefix } from './retention.repository.js';
import type { StoredCheckpoint } from './tree-growth.js';

const INTERVAL_MS = 300_000;
/** Events that one transaction removes: small, so that nothing waits for it. */
const BATCH = 500;
/** Organizations that are looked for at one time. */
const PAGE = 100;
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

/**
 * Asked before events are removed: how far a reader of the chain is done with it.
 *
 * @param organizationId whose chain
 * @param through the last event that would go
 * @returns the last sequence that the reader does without; at `through` or beyond nothing is held back
 */
export type RetentionHold = (organizationId: string, through: number) => Promise<number>;

/**
 * Removes what is older than the tier keeps: whole prefixes up to a checkpoint, in small batches with a rest behind each.
 * Checkpoints and the tree stay, and a signed statement of the cut, so that what is left verifies. Readers that follow the
 * chain are never overtaken.
 */
@Injectable()
export class RetentionService implements BeforeApplicationShutdown {
  private readonly logger = new Logger(RetentionService.name);
  private readonly holds: RetentionHold[] = [];
  private running: Promise<void> | null = null;
  private readonly pace = new RemovalPace();

  constructor(
    private readonly repository: RetentionRepository,
    private readonly evidence: EvidenceRepository,
    private readonly signer: CheckpointSigner,
    private readonly clock: Clock,
  ) {}

  /** Has a reader of the chains asked before events go. Called while the application is put together. */
  register(hold: RetentionHold): void {
    this.holds.push(hold);
  }

  /** One sweep over all organizations, unless the one before is still under way. Any number of replicas may run it. */
  @Interval(INTERVAL_MS)
  async sweep(): Promise<void> {
    if (!this.pace.goesOn || this.running !== null) return;
    this.running = this.sweepAll().catch((error: unknown) => {
      this.logger.warn(`could not look for audit events to remove: ${String(error)}`);
    });
    await this.running;
    this.running = null;
  }

  /** Waits for the batch that is under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.pace.stop();
    await this.running;
  }

  private async sweepAll(): Promise<void> {
    let after: string | null = BEFORE_ALL;
    while (after !== null && this.pace.goesOn) {
      const found: ExpiredPrefix[] = await this.repository.expired(after, PAGE);
      for (const prefix of found) await this.remove(prefix);
      after = found.length === PAGE ? (found.at(-1)?.organizationId ?? null) : null;
    }
  }

  private async remove({ organizationId, through, checkpoint, issuedAt, cut }: ExpiredPrefix): Promise<void> {
    try {
      const free = await this.freeThrough(organizationId, through);
      const cutAt =
        free >= through
          ? { sequence: through, checkpoint, issuedAt }
          : await this.checkpointWithin(organizationId, free);
      if (cutAt === null) return;
      const payload = await this.signer.open(cutAt.checkpoint);
      // Its age decides what goes, so that is not the row's to say.
      const isIssuedThen = payload?.issuedAt === cutAt.issuedAt.toISOString();
      if (payload?.organizationId !== organizationId || payload.sequence !== cutAt.sequence || !isIssuedThen) {
        throw new Error(`the checkpoint at ${cutAt.sequence} is not authentic`);
      }
      const statement = cutAt.sequence === through && cut !== null ? cut : await this.signCut(payload);
      const batch = () => this.repository.remove(organizationId, cutAt.sequence, statement, BATCH);
      while (this.pace.goesOn && (await this.pace.spend(batch)) === BATCH);
    } catch (error) {
      this.logger.error(`audit events of organization ${organizationId} were not removed: ${String(error)}`);
    }
  }

  /** How far every reader is done with a chain; `through` at most. */
  private async freeThrough(organizationId: string, through: number): Promise<number> {
    let free = through;
    for (const hold of this.holds) free = Math.min(free, await hold(organizationId, free));
    return free;
  }

  private async checkpointWithin(organizationId: string, sequence: number): Promise<StoredCheckpoint | null> {
    const [newest] = await this.evidence.checkpointsBefore(organizationId, String(sequence + 1), 1);
    return newest ?? null;
  }

  private signCut({ organizationId, sequence, hash }: CheckpointPayload): Promise<string> {
    return this.signer.signCut({
      organizationId,
      removedThrough: sequence,
      hash,
      issuedAt: this.clock.now().toISOString(),
    });
  }
}

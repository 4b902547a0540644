import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Clock } from '../platform/kernel/clock.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import { readCheckpoint } from './checkpoint.js';
import { RetentionRepository, type ExpiredPrefix } from './retention.repository.js';

const INTERVAL_MS = 300_000;
/** Events that one transaction removes: small, so that nothing waits for it. */
const BATCH = 500;
/** Organizations that are looked for at one time. */
const PAGE = 100;
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

/**
 * Removes what is older than the tier keeps: whole prefixes up to a checkpoint, in small batches. Checkpoints and the
 * tree stay, and a signed statement of the cut, so that what is left verifies.
 */
@Injectable()
export class RetentionSweep implements BeforeApplicationShutdown {
  private readonly logger = new Logger(RetentionSweep.name);
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly repository: RetentionRepository,
    private readonly signer: CheckpointSigner,
    private readonly clock: Clock,
  ) {}

  /** One sweep over all organizations, unless the one before is still under way. Any number of replicas may run it. */
  @Interval(INTERVAL_MS)
  async sweep(): Promise<void> {
    if (this.closed || this.running !== null) return;
    this.running = this.sweepAll().catch((error: unknown) => {
      this.logger.warn(`could not look for audit events to remove: ${String(error)}`);
    });
    await this.running;
    this.running = null;
  }

  /** Waits for the batch that is under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    await this.running;
  }

  private async sweepAll(): Promise<void> {
    let after: string | null = BEFORE_ALL;
    while (after !== null && !this.closed) {
      const found: ExpiredPrefix[] = await this.repository.expired(after, PAGE);
      for (const prefix of found) await this.remove(prefix);
      after = found.length === PAGE ? (found.at(-1)?.organizationId ?? null) : null;
    }
  }

  private async remove({ organizationId, through, checkpoint, cut }: ExpiredPrefix): Promise<void> {
    try {
      const payload = await this.signer.open(checkpoint);
      if (payload?.organizationId !== organizationId || payload.sequence !== through) {
        throw new Error(`the checkpoint at ${through} is not authentic`);
      }
      const statement = cut ?? (await this.signCut(organizationId, checkpoint));
      while (!this.closed && (await this.repository.remove(organizationId, through, statement, BATCH)) === BATCH);
    } catch (error) {
      this.logger.error(`audit events of organization ${organizationId} were not removed: ${String(error)}`);
    }
  }

  private signCut(organizationId: string, checkpoint: string): Promise<string> {
    const { sequence, hash } = readCheckpoint(checkpoint);
    return this.signer.signCut({
      organizationId,
      removedThrough: sequence,
      hash,
      issuedAt: this.clock.now().toISOString(),
    });
  }
}

import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Clock } from '../platform/kernel/clock.js';
import { ChainBroken, CheckpointsService } from './checkpoints.service.js';
import { EvidenceRepository, type DueOrganization } from './evidence.repository.js';

const POLL_MS = 200;
/** Events that wait for a checkpoint before one is signed: what arrives until it is stays below 1,000. */
const DUE_EVENTS = 700;
/** How long an event waits before a checkpoint is signed: it is there within 60 s. */
const DUE_AGE_MS = 50_000;
/** Organizations that one poll looks at; the next poll goes on behind them. */
const PAGE = 5000;
/** Checkpoints that are made at one time. */
const CONCURRENCY = 4;
/** How long a broken chain is left alone before it is tried, and reported, again. */
const BROKEN_PAUSE_MS = 60_000;
/** How long a chain is left alone after any other fault, such as a lock that was not to be had. */
const RETRY_PAUSE_MS = 2000;

const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';
const BEHIND_ALL = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/**
 * Follows all chains and has checkpoints signed: at most 60 s or 1,000 events after an event. Every replica runs one;
 * a tree's row lock and what was seen before it settle who signs. One poll reads some thousand ledgers by their key and
 * locks none, so that its price does not grow with the number of organizations.
 */
@Injectable()
export class CheckpointFollower implements BeforeApplicationShutdown {
  private readonly logger = new Logger(CheckpointFollower.name);
  private readonly leftAloneUntil = new Map<string, number>();
  private after = BEFORE_ALL;
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly repository: EvidenceRepository,
    private readonly checkpoints: CheckpointsService,
    private readonly clock: Clock,
  ) {}

  /** One poll, unless the one before is still under way. */
  @Interval(POLL_MS)
  async poll(): Promise<void> {
    if (this.closed || this.running !== null) return;
    this.running = this.round().catch((error: unknown) => {
      if (!this.closed) this.logger.warn(`could not look for chains that want a checkpoint: ${String(error)}`);
    });
    await this.running;
    this.running = null;
  }

  /** Waits for the checkpoints that are under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    await this.running;
  }

  private async round(): Promise<void> {
    const end = await this.repository.pageEnd(this.after, PAGE);
    const before = new Date(this.clock.nowMs() - DUE_AGE_MS);
    const due = await this.repository.due(this.after, end ?? BEHIND_ALL, DUE_EVENTS, before);
    this.after = end ?? BEFORE_ALL;
    const waiting = due.filter(({ organizationId }) => !this.isLeftAlone(organizationId));
    const work = async () => {
      for (let next = waiting.shift(); next !== undefined && !this.closed; next = waiting.shift()) {
        await this.follow(next);
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
  }

  private async follow({ organizationId, checkpointSequence }: DueOrganization): Promise<void> {
    try {
      await this.checkpoints.follow(organizationId, checkpointSequence);
      this.leftAloneUntil.delete(organizationId);
    } catch (error) {
      const broken = error instanceof ChainBroken;
      this.leftAloneUntil.set(organizationId, performance.now() + (broken ? BROKEN_PAUSE_MS : RETRY_PAUSE_MS));
      if (broken) this.logger.error(`${error.message}: no checkpoint is signed over it`);
      else this.logger.warn(`no checkpoint for organization ${organizationId}: ${String(error)}`);
    }
  }

  private isLeftAlone(organizationId: string): boolean {
    return performance.now() < (this.leftAloneUntil.get(organizationId) ?? 0);
  }
}

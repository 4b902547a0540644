import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { ChainBroken, CheckpointsService } from './checkpoints.service.js';
import { DueChains } from './due-chains.js';
import type { DueOrganization } from './due-chains.repository.js';

const POLL_MS = 50;
/** Polls from one page of all ledgers to the next: five pages a second. */
const POLLS_A_PAGE = 4;
/** Checkpoints that are made at one time. */
const CONCURRENCY = 4;
/** Chains that may wait for theirs, or be at work; what has no room is not taken, and found again. */
const MAX_TAKEN = 10_000;
/** Room of these that the pass over all ledgers leaves to chains that are busy. */
const ROOM_FOR_BUSY = 1000;
/** How long a broken chain is left alone before it is tried, and reported, again. */
const BROKEN_PAUSE_MS = 60_000;
/** How long a chain is left alone after any other fault, such as a connection that broke. */
const RETRY_PAUSE_MS = 2000;
/** Chains that are left alone; of more than that, the one that has been longest is tried again before its time. */
const MAX_LEFT_ALONE = 10_000;

/**
 * Follows all chains and has checkpoints signed: at most 60 s or 1,000 events after an event. Every replica runs one;
 * what was seen before settles whose checkpoint is stored. A chain with much to take in is taken in step by step, in turns
 * with the others.
 */
@Injectable()
export class CheckpointFollower implements BeforeApplicationShutdown {
  private readonly logger = new Logger(CheckpointFollower.name);
  private readonly leftAloneUntil = new Map<string, number>();
  private readonly queue: DueOrganization[] = [];
  /** Chains that wait or are at work. */
  private readonly taken = new Set<string>();
  private readonly workers = new Set<Promise<void>>();
  private polls = 0;
  private looking: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly due: DueChains,
    private readonly checkpoints: CheckpointsService,
  ) {}

  /** Looks for due chains, or waits for the poll before that is still at it; does not wait for their checkpoints. */
  @Interval(POLL_MS)
  async poll(): Promise<void> {
    if (this.closed) return;
    if (this.looking !== null) return this.looking;
    this.looking = this.look().catch((error: unknown) => {
      if (!this.closed) this.logger.warn(`could not look for chains that want a checkpoint: ${String(error)}`);
    });
    await this.looking;
    this.looking = null;
  }

  /** Waits for the checkpoints that are under way. */
  async settled(): Promise<void> {
    while (this.workers.size > 0) await Promise.all(this.workers);
  }

  /** Ends with what is under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    await this.looking;
    await this.settled();
  }

  private async look(): Promise<void> {
    this.take(await this.due.busy(MAX_TAKEN - this.taken.size), 'first');
    this.polls += 1;
    const room = MAX_TAKEN - ROOM_FOR_BUSY - this.taken.size;
    if (this.polls % POLLS_A_PAGE === 0 && room > 0) this.take(await this.due.nextPage(room), 'last');
  }

  private take(found: readonly DueOrganization[], place: 'first' | 'last'): void {
    const now = performance.now();
    for (const chain of found) {
      const { organizationId } = chain;
      if (this.taken.has(organizationId) || now < (this.leftAloneUntil.get(organizationId) ?? 0)) continue;
      this.taken.add(organizationId);
      if (place === 'first') this.queue.unshift(chain);
      else this.queue.push(chain);
    }
    while (!this.closed && this.workers.size < Math.min(CONCURRENCY, this.taken.size)) {
      const worker = this.work().finally(() => this.workers.delete(worker));
      this.workers.add(worker);
    }
  }

  private async work(): Promise<void> {
    for (let next = this.queue.shift(); next !== undefined && !this.closed; next = this.queue.shift()) {
      if (await this.follow(next)) this.taken.delete(next.organizationId);
      else this.queue.push(next);
    }
  }

  /** One step for a chain; resolves to whether it has come to an end. */
  private async follow({ organizationId, checkpointSequence }: DueOrganization): Promise<boolean> {
    try {
      const done = await this.checkpoints.follow(organizationId, checkpointSequence);
      this.leftAloneUntil.delete(organizationId);
      return done;
    } catch (error) {
      const broken = error instanceof ChainBroken;
      this.leaveAlone(organizationId, broken ? BROKEN_PAUSE_MS : RETRY_PAUSE_MS);
      if (broken) this.logger.error(`${error.message}: no checkpoint is signed over it`);
      else this.logger.warn(`no checkpoint for organization ${organizationId}: ${String(error)}`);
      return true;
    }
  }

  private leaveAlone(organizationId: string, pauseMs: number): void {
    // Behind the others, in the order in which they failed.
    this.leftAloneUntil.delete(organizationId);
    const [longest] = this.leftAloneUntil.keys();
    if (longest !== undefined && this.leftAloneUntil.size >= MAX_LEFT_ALONE) this.leftAloneUntil.delete(longest);
    this.leftAloneUntil.set(organizationId, performance.now() + pauseMs);
  }
}

import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { GroupCommit } from '../platform/database/group-commit.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Metrics } from '../platform/http/metrics.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { AuditService } from './audit.service.js';
import { RefusalsRepository, type PendingRefusal, type RefusalCount } from './refusals.repository.js';

/** How long refusals of one client for one cause share an event, in milliseconds. */
const WINDOW_MS = 60_000;
/** How often counts are stored and windows closed, in milliseconds: what a killed process may lose. */
const ROUND_MS = 1000;
/** Windows that this replica remembers; the refusals of others are counted by the database one by one. */
const MAX_WINDOWS = 10_000;
/** Windows that one transaction closes. */
const CLOSE_BATCH = 100;
const RECORD_LIMITS = { maxQueue: 2000, maxBatch: 200 };

/** A window that this replica knows to be open. */
interface OpenWindow {
  readonly openedAtMs: number;
  readonly event: NewAuditEvent;
  readonly cause: string;
  count: number;
}

/**
 * The log of refusals. The first refusal of a client for a cause is an event at once; those of the minute after it are
 * counted and become one event with their `count`, and so on each minute: nobody fills the disk by being refused. The
 * minute holds over all replicas. A replica that is killed loses at most the counts of its last second.
 */
@Injectable()
export class RefusalsService implements OnApplicationShutdown {
  private readonly logger = new Logger(RefusalsService.name);
  private readonly recording: GroupCommit<PendingRefusal, Date>;
  private readonly windows = new Map<string, OpenWindow>();
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly repository: RefusalsRepository,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    metrics: Metrics,
  ) {
    this.recording = new GroupCommit(
      'refusals',
      RECORD_LIMITS,
      (refusals) => this.repository.record(refusals),
      ({ rendered }) => rendered.event.organizationId,
      (size, seconds) => metrics.flushed('refusals', size, seconds),
    );
    metrics.observeQueue('refusals', () => this.recording.depth);
  }

  /**
   * Records a refusal of the client that is the event's target.
   *
   * @param event the refusal; it gets a `count` in its details
   * @param cause what distinguishes it from other refusals of the client: one of a fixed few
   * @returns once the event is committed, or the refusal counted
   */
  async record(event: NewAuditEvent, cause: string): Promise<void> {
    // A new day begins to count anew, so that each count belongs to one day.
    const causeOfDay = `${cause} ${this.clock.now().toISOString().slice(0, 10)}`;
    const key = `${event.organizationId} ${event.target.id} ${causeOfDay}`;
    const open = this.windows.get(key);
    if (open !== undefined && this.isOpen(open.openedAtMs)) {
      open.count += 1;
      return;
    }
    const rendered = this.audit.render(withCount(event, 1));
    const openedAt = await this.recording.commit({ rendered: { ...rendered, event }, cause: causeOfDay });
    if (this.windows.has(key) || this.windows.size >= MAX_WINDOWS) return;
    this.windows.set(key, { openedAtMs: openedAt.getTime(), event, cause: causeOfDay, count: 0 });
  }

  /** Stores what was counted, and turns windows that are over into events; while a round is under way, waits for it. */
  @Interval(ROUND_MS)
  async round(): Promise<void> {
    if (this.running !== null) return this.running;
    if (this.closed) return;
    this.running = this.storeAndClose();
    await this.running;
    this.running = null;
  }

  /** Stores what was counted, once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    this.closed = true;
    await this.running;
    await this.recording.drain();
    await this.store();
  }

  private async storeAndClose(): Promise<void> {
    await this.store();
    try {
      while ((await this.closeSome()) === CLOSE_BATCH);
    } catch (error) {
      this.logger.warn(`could not close windows of refusals: ${String(error)}`);
    }
  }

  private async store(): Promise<void> {
    const counts: RefusalCount[] = [];
    for (const [key, { event, cause, count, openedAtMs }] of this.windows) {
      if (count > 0) counts.push({ event, cause, count });
      if (count > 0 || !this.isOpen(openedAtMs)) this.windows.delete(key);
      if (count > 0 && this.isOpen(openedAtMs)) this.windows.set(key, { event, cause, openedAtMs, count: 0 });
    }
    if (counts.length === 0) return;
    try {
      await this.repository.add(counts, this.clock.now());
    } catch (error) {
      this.logger.warn(`could not store ${counts.length} counts of refusals: ${String(error)}`);
    }
  }

  /** One transaction: as many windows as it may close. */
  private closeSome(): Promise<number> {
    const now = this.clock.now();
    const before = new Date(now.getTime() - WINDOW_MS);
    return this.unitOfWork.run(async (transaction) => {
      const windows = await this.repository.lockOver(transaction, before, now, CLOSE_BATCH);
      if (windows.length === 0) return 0;
      await this.repository.renew(transaction, windows, now);
      const events = windows
        .filter(({ count }) => count > 0)
        .map(({ event, count, openedAt }) => withCount(event, count, openedAt));
      if (events.length > 0) await this.audit.appendAll(transaction, events);
      return windows.length;
    });
  }

  /** A clock that was set back leaves windows that lie ahead: they are not open. */
  private isOpen(openedAtMs: number): boolean {
    const age = this.clock.nowMs() - openedAtMs;
    return age >= 0 && age < WINDOW_MS;
  }
}

function withCount(event: NewAuditEvent, count: number, since?: Date): NewAuditEvent {
  return {
    ...event,
    details: { ...event.details, count, ...(since === undefined ? {} : { since: since.toISOString() }) },
  };
}

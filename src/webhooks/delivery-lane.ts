import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../platform/kernel/clock.js';
import { slotOfDelivery } from './delivery-id.js';
import type { Destination, Destinations } from './destinations.js';
import type { ChainMessage, LaneFeed, LanePlace } from './lane-feed.js';
import type { DueDelivery, LanesRepository, LeasedLane, MessageRecord } from './lanes.repository.js';
import { FAILING_LIMIT_MS, nextAttemptMs } from './retry-schedule.js';
import type { AttemptResult, WebhookCaller } from './webhook-caller.js';
import type { WebhooksService } from './webhooks.service.js';

/** How long a lane is served before others get their turn, in milliseconds. */
const SLICE_MS = 5000;
/** Events that are read at once, and with them the checkpoints over them. */
const BATCH = 100;
/** Attempts that are recorded together, and for how long they may wait for it, in milliseconds. */
const RECORD_TOGETHER = 50;
const RECORD_WITHIN_MS = 250;
/** Retries to one receiver at one time, beside the one event of the chain. */
const RETRIES_AT_ONCE = 2;
const DUE_BATCH = 20;
const POLL_MS = 200;

/** What a lane works with. */
export interface LaneParts {
  readonly repository: LanesRepository;
  readonly destinations: Destinations;
  readonly webhooks: WebhooksService;
  readonly feed: LaneFeed;
  readonly caller: WebhookCaller;
  readonly clock: Clock;
  /** Waits where deliveries would take too much from the rest of the service. */
  readonly pace: () => Promise<void>;
}

/**
 * Serves one subscription while this replica holds its lease: the events of the chain and the checkpoints over it one
 * after the other, so that they arrive in order, and beside them what is due to be sent again. What fails goes to the
 * retries and does not hold up the next. Attempts are recorded after they are made, a few together: whatever happens to
 * the process, what was not recorded is sent again.
 */
export class DeliveryLane {
  /** Whether it ended because its time was up, with work left. */
  hasMore = false;
  /** When its lease was last known to be fresh, on the clock of `performance`. */
  renewedAtMs = performance.now();
  private sequence: number;
  /** The place among the checkpoints; null where it follows none. */
  private checkpoint: number | null;
  private failingSince: Date | null;
  private records: MessageRecord[] = [];
  private recordedAtMs = performance.now();
  private queueIsWorkedOff = false;
  private ended = false;
  private readonly untilMs = performance.now() + SLICE_MS;
  private readonly giveUp = new AbortController();

  constructor(
    readonly leased: LeasedLane,
    private readonly parts: LaneParts,
  ) {
    this.sequence = leased.sequence;
    this.checkpoint = leased.checkpoint;
    this.failingSince = leased.failingSince;
  }

  /**
   * Serves the lane until nothing is left or its time is up, and gives it back. Where it fails it is not given back: the
   * lease runs out, which spaces the next try.
   */
  async run(): Promise<void> {
    const outcomes = await Promise.allSettled([
      this.followChain(),
      this.workOffQueue().finally(() => (this.queueIsWorkedOff = true)),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    await this.parts.repository.release(this.leased, this.sequence);
  }

  /** Whether its receiver failed the last time. */
  get isFailing(): boolean {
    return this.failingSince !== null;
  }

  /** Begins nothing more; what is under way is finished. */
  finish(): void {
    this.ended = true;
  }

  /** Gives up what is under way, too. */
  abort(): void {
    this.ended = true;
    this.giveUp.abort();
  }

  private async followChain(): Promise<void> {
    while (!this.isOver()) {
      const destination = await this.destination();
      if (destination === null) return;
      const { messages, upTo } = await this.parts.repository.bounded(() =>
        this.parts.feed.after(this.leased.organizationId, this.place(), destination.events, BATCH),
      );
      const sentAll = await this.send(messages);
      if (sentAll) this.sequence = upTo;
      await this.record();
      if (messages.length > 0 || this.isOver()) continue;
      if (this.queueIsWorkedOff) return;
      await delay(POLL_MS);
    }
  }

  /** Sends messages in order. Answers whether all were sent. */
  private async send(messages: readonly ChainMessage[]): Promise<boolean> {
    for (const message of messages) {
      await this.parts.pace();
      if (this.isOver()) return false;
      const destination = await this.destination();
      if (destination === null) return false;
      const body = message.body();
      const result = await this.attempt(destination, message.messageId, body);
      if (result === null) return false;
      this.note(message, body, result);
      if (result.outcome !== 'delivered' || this.isRecordDue()) await this.record();
      if (await this.disableIfHopeless(result)) return false;
    }
    return true;
  }

  private note(message: ChainMessage, body: string, result: AttemptResult): void {
    const { deliveryId, messageId, type, timestamp, sequence, isCheckpoint } = message;
    const verdict = this.verdict(result, 1);
    this.records.push({
      slot: slotOfDelivery(deliveryId),
      deliveryId,
      messageId,
      event: type,
      sequence: isCheckpoint ? null : sequence,
      attempt: result.attempt,
      createdAt: timestamp,
      // Only what cannot be read again, or is to be sent again, is kept.
      body: isCheckpoint || verdict.nextAttemptAt !== null ? body : null,
      ...verdict,
    });
    if (isCheckpoint) this.checkpoint = sequence;
    else this.sequence = sequence;
  }

  private async workOffQueue(): Promise<void> {
    while (!this.isOver()) {
      const due = await this.parts.repository.due(this.leased, this.parts.clock.now(), DUE_BATCH);
      if (due.length === 0) return;
      const waiting = [...due];
      const worker = async (): Promise<void> => {
        for (let next = waiting.shift(); next !== undefined && !this.isOver(); next = waiting.shift()) {
          await this.sendAgain(next);
        }
      };
      await Promise.all(Array.from({ length: RETRIES_AT_ONCE }, worker));
    }
  }

  private async sendAgain({ slot, deliveryId, eventId, body, failures: before }: DueDelivery): Promise<void> {
    await this.parts.pace();
    const destination = await this.destination();
    if (destination === null) return;
    const result = await this.attempt(destination, eventId, body);
    if (result === null) return;
    const failures = result.outcome === 'delivered' ? before : before + 1;
    const verdict = this.verdict(result, failures);
    const record = { slot, deliveryId, attempt: result.attempt, failures, ...verdict };
    const { repository } = this.parts;
    if (!(await repository.recordAttempt(this.leased, this.failingSince, record))) this.abort();
    await this.disableIfHopeless(result);
  }

  private async attempt({ url, keys }: Destination, messageId: string, body: string): Promise<AttemptResult | null> {
    const result = await this.parts.caller.attempt({ url, keys, messageId, body }, this.giveUp.signal);
    if (result?.outcome === 'delivered') this.failingSince = null;
    else if (result !== null) this.failingSince ??= this.parts.clock.now();
    return result;
  }

  private verdict(result: AttemptResult, failures: number): Pick<MessageRecord, 'status' | 'nextAttemptAt'> {
    if (result.outcome === 'delivered') return { status: 'delivered', nextAttemptAt: null };
    const next = nextAttemptMs(failures, this.parts.clock.nowMs(), result.retryAfterMs);
    if (next === null || result.outcome === 'gone') return { status: 'failed', nextAttemptAt: null };
    return { status: 'pending', nextAttemptAt: new Date(next) };
  }

  private async disableIfHopeless({ outcome }: AttemptResult): Promise<boolean> {
    if (this.failingSince === null) return false;
    const failingMs = this.parts.clock.nowMs() - this.failingSince.getTime();
    if (outcome !== 'gone' && failingMs < FAILING_LIMIT_MS) return false;
    const { organizationId, webhookId } = this.leased;
    this.ended = true;
    const reason = outcome === 'gone' ? 'gone' : 'failing';
    await this.parts.repository.bounded(() => this.parts.webhooks.disable(organizationId, webhookId, reason));
    return true;
  }

  private isRecordDue(): boolean {
    return this.records.length >= RECORD_TOGETHER || performance.now() - this.recordedAtMs > RECORD_WITHIN_MS;
  }

  private async record(): Promise<void> {
    this.recordedAtMs = performance.now();
    if (this.records.length === 0) return;
    const records = this.records;
    this.records = [];
    const { repository } = this.parts;
    const held = await repository.recordMessages(this.leased, this.place(), this.failingSince, records);
    if (!held) this.abort();
  }

  private place(): LanePlace {
    return { sequence: this.sequence, checkpoint: this.checkpoint };
  }

  /** Where to send to, as it stands now; null where the subscription is no longer active. */
  private async destination(): Promise<Destination | null> {
    const destination = await this.parts.destinations.of(this.leased);
    if (destination === null) this.ended = true;
    return destination;
  }

  private isOver(): boolean {
    if (this.ended) return true;
    if (performance.now() < this.untilMs) return false;
    this.hasMore = true;
    return true;
  }
}

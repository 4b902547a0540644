import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Metrics } from '../platform/http/metrics.js';
import { Clock } from '../platform/kernel/clock.js';
import { DeliveryLane, type LaneParts } from './delivery-lane.js';
import { DeliveryPace } from './delivery-pace.js';
import { Destinations } from './destinations.js';
import { LaneFeed } from './lane-feed.js';
import { LanesRepository, LEASE_SECONDS, type LeasedLane } from './lanes.repository.js';
import { WebhookCaller } from './webhook-caller.js';
import { WebhooksService } from './webhooks.service.js';

/** How often this replica looks for lanes that have something to send, in milliseconds. */
const POLL_MS = 200;
/** Looking takes at most this share of the time, however many subscriptions there are. */
const POLL_SHARE = 0.05;
/** Lanes that one replica serves at one time, and of one organization among them. */
const MAX_LANES = 256;
const MAX_LANES_AN_ORGANIZATION = 32;
/** And of those whose receivers failed the last time: the others find a place however many of these hang. */
const MAX_FAILING_LANES = 128;
/** How long what is under way may take when the service ends, in milliseconds. */
const FINISH_WITHIN_MS = 3000;
const RENEW_EVERY_MS = 3000;

/**
 * Follows the audit chains: looks for subscriptions whose chain went on or whose retries are due, leases their lanes, so
 * that replicas share the work, and serves them. Nothing is sent that is not committed, and what a replica does not
 * finish another takes up.
 */
@Injectable()
export class WebhookDispatcher implements BeforeApplicationShutdown {
  private readonly logger = new Logger(WebhookDispatcher.name);
  private readonly lanes = new Map<string, { readonly lane: DeliveryLane; readonly done: Promise<void> }>();
  private readonly stopping = new AbortController();
  private readonly parts: LaneParts;
  private working: Promise<unknown> | null = null;
  private wake: () => void = () => undefined;

  constructor(
    private readonly repository: LanesRepository,
    private readonly destinations: Destinations,
    webhooks: WebhooksService,
    feed: LaneFeed,
    caller: WebhookCaller,
    pace: DeliveryPace,
    private readonly clock: Clock,
    metrics: Metrics,
  ) {
    this.parts = { repository, destinations, webhooks, feed, caller, clock, pace: () => pace.turn() };
    metrics.observeQueue('webhook_lanes', () => this.lanes.size);
  }

  /** Begins to deliver. Called once the service listens: commands deliver nothing. */
  start(): void {
    this.working ??= Promise.all([this.keepLooking(), this.keepRenewing()]);
  }

  /** Lets what is under way come to its end, for a few seconds, and gives all lanes back. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    for (const { lane } of this.lanes.values()) lane.finish();
    const deadline = setTimeout(() => {
      for (const { lane } of this.lanes.values()) lane.abort();
    }, FINISH_WITHIN_MS);
    await this.working;
    await Promise.all([...this.lanes.values()].map(({ done }) => done));
    clearTimeout(deadline);
  }

  private async keepLooking(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const startedMs = performance.now();
      await this.look().catch((error: unknown) => this.warn('could not look for webhooks to send', error));
      const tookMs = performance.now() - startedMs;
      await this.pause(Math.max(POLL_MS - tookMs, tookMs / POLL_SHARE - tookMs));
    }
  }

  private async look(): Promise<void> {
    const free = MAX_LANES - this.lanes.size;
    if (free <= 0) return;
    const lanes = [...this.lanes.values()].map(({ lane }) => lane);
    const held = lanes.map(({ leased }) => leased.organizationId);
    const failing = Math.max(0, MAX_FAILING_LANES - lanes.filter(({ isFailing }) => isFailing).length);
    const owner = randomUUID();
    const now = this.clock.now();
    const claimed = await this.repository.claim(owner, now, free, MAX_LANES_AN_ORGANIZATION, held, failing);
    for (const leased of claimed) this.serve(leased);
  }

  private serve(leased: LeasedLane): void {
    const { webhookId } = leased;
    this.destinations.forget(webhookId);
    const lane = new DeliveryLane(leased, this.parts);
    if (this.stopping.signal.aborted) lane.finish();
    // The subscription was disabled and made active again while it was served: what was to be sent before is given up.
    const before = this.lanes.get(webhookId);
    before?.lane.abort();
    const done = (before?.done ?? Promise.resolve())
      .then(() => lane.run())
      .catch((error: unknown) => this.warn(`could not deliver to ${webhookId}`, error))
      .then(() => {
        if (this.lanes.get(webhookId)?.lane === lane) this.lanes.delete(webhookId);
        if (lane.hasMore) this.wake();
      });
    this.lanes.set(webhookId, { lane, done });
  }

  /** Renews the leases. Lanes whose lease is lost stop, and those too that may be lost, where nobody can tell for so long. */
  private async keepRenewing(): Promise<void> {
    while (await this.waited(RENEW_EVERY_MS)) {
      const asked = [...this.lanes.values()].map(({ lane }) => lane);
      const askedMs = performance.now();
      try {
        const held = asked.length === 0 ? new Set() : await this.repository.renew(asked.map(({ leased }) => leased));
        for (const lane of asked) {
          if (held.has(lane.leased)) lane.renewedAtMs = askedMs;
          else lane.abort();
        }
      } catch (error) {
        this.warn('could not renew the leases of webhooks', error);
      }
      for (const { lane } of this.lanes.values()) {
        if (lane.renewedAtMs + LEASE_SECONDS * 1000 - RENEW_EVERY_MS < performance.now()) lane.abort();
      }
    }
  }

  private async pause(milliseconds: number): Promise<void> {
    const woken = new Promise<void>((resolve) => (this.wake = resolve));
    await Promise.race([woken, this.waited(milliseconds)]);
  }

  /** Resolves to false where the service ends meanwhile. */
  private async waited(milliseconds: number): Promise<boolean> {
    try {
      await delay(milliseconds, undefined, { signal: this.stopping.signal, ref: false });
      return true;
    } catch {
      return false;
    }
  }

  private warn(what: string, error: unknown): void {
    this.logger.warn(`${what}: ${String(error)}`);
  }
}

import { QueueFull } from '../platform/database/serial-batch.js';
import type { PublicKey } from '../platform/jws/public-key.js';
import type { PublishedKeys } from './key-documents.js';

/** The least and the most that fetched keys are used without asking again, and what counts where nothing is said. */
const MIN_FRESH_MS = 60_000;
const MAX_FRESH_MS = 3_600_000;
const DEFAULT_FRESH_MS = 300_000;
/** How long keys are used after that, while the partner does not answer. */
const STALE_MS = 3_600_000;
/** Between the beginnings of two fetches, whatever asks for them. */
const COOL_DOWN_MS = 30_000;
/** Requests that may wait for one fetch; more are answered 503. */
const MAX_WAITING = 500;

interface KnownKeys {
  readonly keys: readonly PublicKey[];
  readonly freshUntilMs: number;
}

/**
 * The keys that a partner publishes, cached within bounds: one fetch at a time, and none within the cool-down after
 * another, so that forged assertions with invented `kid`s cause one. While the partner is down, its last keys are used
 * for an hour.
 */
export class RemoteKeySet {
  private known: KnownKeys | null = null;
  private beganMs: number | null = null;
  private fetching: Promise<void> | null = null;
  private waiting = 0;

  /**
   * @param fetch gets the keys; where it rejects, it has told whoever needs to know
   * @param nowMs the present instant in milliseconds
   */
  constructor(
    private readonly fetch: () => Promise<PublishedKeys>,
    private readonly nowMs: () => number,
  ) {}

  /**
   * The keys as they are known, fetched where they are not known or no longer fresh.
   *
   * @param mayFetch whether an outgoing call may be made
   * @returns null where there are none to be had
   * @throws QueueFull where too many wait already
   */
  async keys(mayFetch: boolean): Promise<readonly PublicKey[] | null> {
    if (this.known !== null && this.nowMs() < this.known.freshUntilMs) return this.known.keys;
    if (mayFetch) await this.refresh();
    return this.known !== null && this.nowMs() < this.known.freshUntilMs + STALE_MS ? this.known.keys : null;
  }

  /**
   * Fetches the keys unless that was done a moment ago, for a `kid` that is not among them: the partner may have made a
   * new key.
   *
   * @returns null where nothing was fetched
   * @throws QueueFull where too many wait already
   */
  async newerKeys(): Promise<readonly PublicKey[] | null> {
    const before = this.known;
    await this.refresh();
    return this.known === before ? null : (this.known?.keys ?? null);
  }

  private async refresh(): Promise<void> {
    if (this.fetching === null && this.isCoolingDown()) return;
    if (this.waiting >= MAX_WAITING) throw new QueueFull('partner_keys');
    this.waiting += 1;
    try {
      this.fetching ??= this.fetchOnce();
      await this.fetching;
    } finally {
      this.waiting -= 1;
    }
  }

  private async fetchOnce(): Promise<void> {
    this.beganMs = this.nowMs();
    try {
      const { keys, maxAgeSeconds } = await this.fetch();
      const freshMs = maxAgeSeconds === null ? DEFAULT_FRESH_MS : maxAgeSeconds * 1000;
      this.known = { keys, freshUntilMs: this.nowMs() + Math.min(Math.max(freshMs, MIN_FRESH_MS), MAX_FRESH_MS) };
    } catch {
      // The keys that are known stay; the fetch itself has told of its failure.
    } finally {
      this.fetching = null;
    }
  }

  /** A clock that was set back does not prolong the wait. */
  private isCoolingDown(): boolean {
    if (this.beganMs === null) return false;
    const age = this.nowMs() - this.beganMs;
    return age >= 0 && age < COOL_DOWN_MS;
  }
}

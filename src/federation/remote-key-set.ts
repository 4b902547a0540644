import { QueueFull } from '../platform/database/serial-batch.js';
import type { PublicKey } from '../platform/jws/public-key.js';
import type { PublishedKeys } from './key-documents.js';
import { Places } from './places.js';

/** The least and the most that fetched keys are used without asking again, and what counts where nothing is said. */
const MIN_FRESH_MS = 60_000;
const MAX_FRESH_MS = 3_600_000;
const DEFAULT_FRESH_MS = 300_000;
/** How long keys are used after that, while the partner does not answer. */
const STALE_MS = 3_600_000;
/** Between the beginnings of two fetches, whatever asks for them. */
const COOL_DOWN_MS = 30_000;
/**
 * Requests that may wait for one fetch where no key is known; more are answered 503. They hold places of the token
 * endpoint, which lets 256 in at first, so it is a quarter of these.
 */
const MAX_WAITING = 64;
/** And for a `kid` that is not among the known keys: anybody can invent one. More are judged by the known keys. */
const MAX_WAITING_FOR_NEWER = 16;

/** What the key sets of all partners share, so that those of partners that hang leave room to the others. */
export interface SharedPlaces {
  readonly fetches: Places;
  readonly waiters: Places;
}

interface KnownKeys {
  readonly keys: readonly PublicKey[];
  readonly freshUntilMs: number;
}

/**
 * The keys that a partner publishes, cached within bounds: one fetch at a time, and none within the cool-down after
 * another, so that forged assertions with invented `kid`s cause one. While the partner is down, its last keys are used
 * for an hour, and once it is known to be down nobody waits for it who can do with them. Few may wait at all: a partner
 * that hangs costs others nothing.
 */
export class RemoteKeySet {
  private known: KnownKeys | null = null;
  private beganMs: number | null = null;
  private fetching: Promise<void> | null = null;
  private hasFailed = false;
  private readonly waiters = new Places(MAX_WAITING);
  private readonly waitersForNewer = new Places(MAX_WAITING_FOR_NEWER);

  /**
   * @param fetch gets the keys; where it rejects, it has told whoever needs to know
   * @param nowMs the present instant in milliseconds
   * @param shared what all partners share
   */
  constructor(
    private readonly fetch: () => Promise<PublishedKeys>,
    private readonly nowMs: () => number,
    private readonly shared: SharedPlaces,
  ) {}

  /**
   * The keys as they are known, fetched where they are not known or no longer fresh.
   *
   * @param mayFetch whether an outgoing call may be made
   * @returns null where there are none to be had
   * @throws QueueFull where none are known and too many wait already
   */
  async keys(mayFetch: boolean): Promise<readonly PublicKey[] | null> {
    if (this.known !== null && this.nowMs() < this.known.freshUntilMs) return this.known.keys;
    if (mayFetch) {
      if (this.hasFailed && this.usable !== null) void this.begin();
      else if (!(await this.refresh(this.waiters)) && this.usable === null) throw new QueueFull('partner_keys');
    }
    return this.usable;
  }

  /**
   * Fetches the keys unless that was done a moment ago, for a `kid` that is not among them: the partner may have made a
   * new key.
   *
   * @returns null where nothing was fetched, also where too many wait already
   */
  async newerKeys(): Promise<readonly PublicKey[] | null> {
    const before = this.known;
    await this.refresh(this.waitersForNewer);
    return this.known === before ? null : (this.known?.keys ?? null);
  }

  /** The keys that are known, unless they are too old. */
  private get usable(): readonly PublicKey[] | null {
    return this.known !== null && this.nowMs() < this.known.freshUntilMs + STALE_MS ? this.known.keys : null;
  }

  /** Waits for a fetch unless it is too soon for one. Answers false where there was no place for it. */
  private async refresh(waiters: Places): Promise<boolean> {
    if (this.isTooSoon) return true;
    if (!waiters.take()) return false;
    try {
      if (!this.shared.waiters.take()) return false;
      try {
        return await this.begin();
      } finally {
        this.shared.waiters.giveBack();
      }
    } finally {
      waiters.giveBack();
    }
  }

  /** Waits for the fetch that is under way, or for a new one unless it is too soon. Answers false where there was no place. */
  private async begin(): Promise<boolean> {
    if (this.fetching === null) {
      if (this.isTooSoon) return true;
      if (!this.shared.fetches.take()) return false;
      this.fetching = this.fetchOnce();
    }
    await this.fetching;
    return true;
  }

  private async fetchOnce(): Promise<void> {
    this.beganMs = this.nowMs();
    try {
      const { keys, maxAgeSeconds } = await this.fetch();
      const freshMs = maxAgeSeconds === null ? DEFAULT_FRESH_MS : maxAgeSeconds * 1000;
      this.known = { keys, freshUntilMs: this.nowMs() + Math.min(Math.max(freshMs, MIN_FRESH_MS), MAX_FRESH_MS) };
      this.hasFailed = false;
    } catch {
      // The keys that are known stay; the fetch itself has told of its failure.
      this.hasFailed = true;
    } finally {
      this.shared.fetches.giveBack();
      this.fetching = null;
    }
  }

  /** Whether the cool-down after the last fetch goes on. A clock that was set back does not prolong it. */
  private get isTooSoon(): boolean {
    if (this.fetching !== null || this.beganMs === null) return false;
    const age = this.nowMs() - this.beganMs;
    return age >= 0 && age < COOL_DOWN_MS;
  }
}

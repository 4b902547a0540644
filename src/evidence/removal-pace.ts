import { setTimeout as delay } from 'node:timers/promises';

/** A quick batch is followed by a rest so many times as long: removal has a fifth of one connection's time then. */
const RESTS = 4;
/**
 * What a batch and its rest take together at most, while both fit into it: batches of 500 make 6,250 events a second, more
 * than twice what one machine was seen to issue.
 */
const TURN_MS = 80;

/** Waits; resolves early, and does not reject, where the signal is aborted. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<void>;

/**
 * Leaves the machine to others between two batches of removal. A slow batch rests as long as it took: then removal has half
 * of one connection's time, and never more.
 */
export class RemovalPace {
  private readonly end = new AbortController();

  /**
   * @param nowMs a clock that only goes forward
   * @param wait waits for a rest to be over
   */
  constructor(
    private readonly nowMs: () => number = () => performance.now(),
    private readonly wait: Wait = waitUntil,
  ) {}

  /** Whether removal is to go on. */
  get goesOn(): boolean {
    return !this.end.signal.aborted;
  }

  /**
   * Does a batch, and rests.
   *
   * @returns what `batch` resolves to
   */
  async spend<Result>(batch: () => Promise<Result>): Promise<Result> {
    const started = this.nowMs();
    const result = await batch();
    const tookMs = this.nowMs() - started;
    const restMs = Math.max(tookMs, Math.min(RESTS * tookMs, TURN_MS - tookMs));
    if (this.goesOn) await this.wait(restMs, this.end.signal);
    return result;
  }

  /** Ends a rest that is under way; there is none after it. */
  stop(): void {
    this.end.abort();
  }
}

async function waitUntil(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

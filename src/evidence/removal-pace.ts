import { setTimeout as delay } from 'node:timers/promises';

/**
 * How many times as long as a batch took removal rests after it. So it has a fifth of one connection's time, and an
 * idle database goes no faster: some 8,000 events a second where a batch of 500 takes 12 ms.
 */
const RESTS = 4;
/** The longest rest: a database that is slow now may not be so later. */
const MAX_REST_MS = 1000;

/** Waits; resolves early, and does not reject, where the signal is aborted. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<void>;

/** Leaves the machine to others between two batches of removal. */
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
    const restMs = Math.min(RESTS * (this.nowMs() - started), MAX_REST_MS);
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

import { Clock } from '../../src/platform/kernel/clock.js';

/** A clock that stands where the test sets it, or runs on from there with the machine's. */
export class SettableClock extends Clock {
  private offsetMs = 0;
  private frozenAtMs: number | null = null;

  nowMs(): number {
    return this.frozenAtMs ?? Date.now() + this.offsetMs;
  }

  /** Sets the instant; the clock runs on from there. */
  set(instant: string): void {
    this.frozenAtMs = null;
    this.offsetMs = Date.parse(instant) - Date.now();
  }

  /** Sets the instant; the clock stands still. */
  freeze(instant: string): void {
    this.frozenAtMs = Date.parse(instant);
  }

  /** Moves the clock on. */
  advance(seconds: number): void {
    if (this.frozenAtMs === null) this.offsetMs += seconds * 1000;
    else this.frozenAtMs += seconds * 1000;
  }
}

import { Injectable } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';

/** Deliveries a second of one replica while it has time to spare, and while it is busy. */
const SPARE_RATE = 2000;
const BUSY_RATE = 530;
/** The share of the event loop's time above which a replica is busy. */
const BUSY_UTILIZATION = 0.5;
const MEASURE_EVERY_MS = 250;
/** A wait that is not worth a timer: so a few deliveries may go together. */
const SHORTEST_WAIT_MS = 10;
/**
 * All who wait go on together, this often: deliveries in small crowds wake the processor, the kernel and the receivers less
 * often than one after the other, evenly spaced.
 */
const TOGETHER_EVERY_MS = 40;
/** What a wait has cost is made up for, as far as this: the rate is kept, and no long pause ends in a rush. */
const MADE_UP_MS = 100;

/** Spaces the deliveries of a replica, so that they leave the processor to the token path when it needs it. */
@Injectable()
export class DeliveryPace {
  private rate = SPARE_RATE;
  private nextMs = 0;
  /** Who waits, by when they go on. */
  private readonly crowds = new Map<number, Promise<void>>();
  private measuredMs = performance.now();
  private measured = performance.eventLoopUtilization();

  /** Waits for the turn of one delivery. */
  async turn(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.measuredMs > MEASURE_EVERY_MS) this.measure(nowMs);
    this.nextMs = Math.max(this.nextMs, nowMs - MADE_UP_MS) + 1000 / this.rate;
    if (this.nextMs - nowMs > SHORTEST_WAIT_MS) await this.crowd(Math.ceil(this.nextMs / TOGETHER_EVERY_MS));
  }

  /** Waits with all others whose turn comes within the same stretch of time. */
  private crowd(number: number): Promise<void> {
    const known = this.crowds.get(number);
    if (known !== undefined) return known;
    const crowd = delay(number * TOGETHER_EVERY_MS - performance.now()).finally(() => this.crowds.delete(number));
    this.crowds.set(number, crowd);
    return crowd;
  }

  private measure(nowMs: number): void {
    const present = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(present, this.measured);
    this.rate = utilization > BUSY_UTILIZATION ? BUSY_RATE : SPARE_RATE;
    this.measured = present;
    this.measuredMs = nowMs;
  }
}

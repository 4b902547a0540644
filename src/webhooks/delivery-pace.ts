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
/** What a late timer has cost is made up for, as far as this: the rate is kept, and no long pause ends in a rush. */
const MADE_UP_MS = 50;

/** Spaces the deliveries of a replica, so that they leave the processor to the token path when it needs it. */
@Injectable()
export class DeliveryPace {
  private rate = SPARE_RATE;
  private nextMs = 0;
  private measuredMs = performance.now();
  private measured = performance.eventLoopUtilization();

  /** Waits for the turn of one delivery. */
  async turn(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.measuredMs > MEASURE_EVERY_MS) this.measure(nowMs);
    this.nextMs = Math.max(this.nextMs, nowMs - MADE_UP_MS) + 1000 / this.rate;
    const waitMs = this.nextMs - nowMs;
    if (waitMs > SHORTEST_WAIT_MS) await delay(waitMs);
  }

  private measure(nowMs: number): void {
    const present = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(present, this.measured);
    this.rate = utilization > BUSY_UTILIZATION ? BUSY_RATE : SPARE_RATE;
    this.measured = present;
    this.measuredMs = nowMs;
  }
}

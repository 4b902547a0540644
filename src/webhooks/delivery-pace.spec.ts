import { describe, expect, it } from '@jest/globals';
import { DeliveryPace } from './delivery-pace.js';

/** 0.4 s of them, at the rate of a replica that has time to spare. */
const DELIVERIES = 800;

describe('the pace of deliveries', () => {
  it('lets those who wait go on together, at the rate of all', async () => {
    const pace = new DeliveryPace();
    let iteration = 0;
    let counting = true;
    const count = () => {
      iteration += 1;
      if (counting) setImmediate(count);
    };
    count();
    const startedMs = performance.now();
    const went = await Promise.all(Array.from({ length: DELIVERIES }, () => pace.turn().then(() => iteration)));
    counting = false;
    expect(performance.now() - startedMs).toBeGreaterThan(250);
    // The first at once; then every 40 ms.
    expect(new Set(went).size).toBeLessThanOrEqual(14);
    expect(new Set(went).size).toBeGreaterThanOrEqual(4);
  });
});

/** How many days of webhook deliveries there is a partition for: 30 that are kept, and some of slack. */
const SLOT_COUNT = 36;

/** The partitions of `webhook_deliveries`: a ring of days, so that nobody makes or drops tables while we serve. */
export const DELIVERY_SLOTS: readonly number[] = Array.from({ length: SLOT_COUNT }, (_, slot) => slot);

const DAY_MS = 86_400_000;

/** The partition of a day. */
export function deliverySlotOf(epochMs: number): number {
  return Math.floor(epochMs / DAY_MS) % SLOT_COUNT;
}

/** The table that a partition is. */
export function deliverySlotTable(slot: number): string {
  return `webhook_deliveries_${String(slot).padStart(2, '0')}`;
}

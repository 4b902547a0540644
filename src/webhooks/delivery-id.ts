import { v7 as uuidv7 } from 'uuid';
import { deliverySlotOf } from '../platform/database/delivery-slots.js';

let count = 0;

/** A new id, whose time is `epochMs` and which sorts behind those that this process made before. */
export function newDeliveryId(epochMs: number): string {
  count = (count + 1) % 0xffff_ffff;
  return uuidv7({ msecs: epochMs, seq: count });
}

/** The partition that a delivery is in, read from the time in its id (RFC 9562 §5.7). */
export function slotOfDelivery(deliveryId: string): number {
  return deliverySlotOf(Number.parseInt(deliveryId.slice(0, 8) + deliveryId.slice(9, 13), 16));
}

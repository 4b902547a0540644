import { v7 as uuidv7 } from 'uuid';
import { deliverySlotOf } from '../platform/database/delivery-slots.js';

/**
 * The id of the delivery of a message to whichever subscription. It is known before the first attempt, sorts by the time
 * of what it tells of and then by its place, and says which partition the delivery is in.
 *
 * @param epochMs when that happened
 * @param sequence its place in the chain
 * @param messageId its `webhook-id`, a UUID
 */
export function deliveryIdOf(epochMs: number, sequence: number, messageId: string): string {
  const random = Buffer.from(messageId.replaceAll('-', ''), 'hex');
  return uuidv7({ msecs: epochMs, seq: sequence % 2 ** 32, random });
}

/** The partition that a delivery is in, read from the time in its id (RFC 9562 §5.7). */
export function slotOfDelivery(deliveryId: string): number {
  return deliverySlotOf(Number.parseInt(deliveryId.slice(0, 8) + deliveryId.slice(9, 13), 16));
}

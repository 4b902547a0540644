import { Injectable } from '@nestjs/common';
import { slotOfDelivery } from './delivery-id.js';
import type { DeliveryEntity } from './delivery.entity.js';
import { LaneFeed, type ChainMessage } from './lane-feed.js';
import type { WebhookEntity } from './webhook.entity.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** How many that wait are shown: those whose turn comes next. */
const SHOWN = 100;

/**
 * What waits for its first attempt, or is being sent for the first time. It is written down nowhere: it is what stands
 * behind the lane's place, so that an ordinary delivery costs one write, when it is done.
 */
@Injectable()
export class WaitingDeliveries {
  constructor(
    private readonly repository: WebhooksRepository,
    private readonly feed: LaneFeed,
  ) {}

  /** The next hundred of a subscription, newest first, under the ids that the history will have them with. */
  async of(webhook: WebhookEntity): Promise<DeliveryEntity[]> {
    const { organizationId, webhookId } = webhook;
    const place = await this.repository.place(organizationId, webhookId);
    if (place === null) return [];
    const { messages } = await this.feed.after(organizationId, place, webhook.events, SHOWN);
    return messages.map((message) => waiting(webhook, message)).sort((a, b) => (a.deliveryId < b.deliveryId ? 1 : -1));
  }
}

function waiting({ organizationId, webhookId }: WebhookEntity, message: ChainMessage): DeliveryEntity {
  const { deliveryId, messageId, type, sequence, timestamp } = message;
  return {
    organizationId,
    webhookId,
    slot: slotOfDelivery(deliveryId),
    deliveryId,
    eventId: messageId,
    event: type,
    sequence: String(sequence),
    body: null,
    status: 'pending',
    attempts: [],
    nextAttemptAt: null,
    createdAt: new Date(timestamp),
  };
}

import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { KeyObject } from 'node:crypto';
import { Clock } from '../platform/kernel/clock.js';
import { LanesRepository, type LeasedLane } from './lanes.repository.js';
import { SigningKeys } from './signing-keys.js';
import type { WebhookEntity } from './webhook.entity.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** How long what is known of a subscription is used, in milliseconds: a change holds for deliveries after so long. */
const KNOWN_FOR_MS = 1000;
const MAX_KNOWN = 1000;

/** Where a subscription's events go to, and what signs them. */
export interface Destination {
  readonly url: string;
  readonly events: readonly string[];
  /** The present key first. */
  readonly keys: readonly KeyObject[];
  /** When the key before the present one ceases to sign; null where there is none. */
  readonly overlapEndsAt: Date | null;
}

/** What lanes need to know of subscriptions, read once a second. */
@Injectable()
export class Destinations {
  private readonly known = new LRUCache<string, { readonly destination: Destination | null }>({
    max: MAX_KNOWN,
    ttl: KNOWN_FOR_MS,
  });

  constructor(
    private readonly repository: WebhooksRepository,
    private readonly lanes: LanesRepository,
    private readonly signingKeys: SigningKeys,
    private readonly clock: Clock,
  ) {}

  /** The destination of a lane; null where its subscription is not active. */
  async of({ organizationId, webhookId }: LeasedLane): Promise<Destination | null> {
    const known = this.known.get(webhookId);
    if (known !== undefined && !this.hasLapsed(known.destination)) return known.destination;
    const webhook = await this.lanes.bounded(() => this.repository.find(organizationId, webhookId));
    const destination = webhook?.status === 'active' ? this.destinationOf(webhook) : null;
    this.known.set(webhookId, { destination });
    return destination;
  }

  /** Forgets a subscription, so that it is read anew. */
  forget(webhookId: string): void {
    this.known.delete(webhookId);
  }

  private destinationOf(webhook: WebhookEntity): Destination {
    const { url, events, previousSecretExpiresAt } = webhook;
    const keys = this.signingKeys.open(webhook);
    return { url, events, keys, overlapEndsAt: keys.length > 1 ? previousSecretExpiresAt : null };
  }

  /** Whether a key in it signs no longer. */
  private hasLapsed(destination: Destination | null): boolean {
    const ends = destination?.overlapEndsAt ?? null;
    return ends !== null && ends <= this.clock.now();
  }
}

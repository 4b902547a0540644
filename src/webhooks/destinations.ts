import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { LanesRepository, type LeasedLane } from './lanes.repository.js';
import { SigningKeys } from './signing-keys.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** How long what is known of a subscription is used, in milliseconds: a change holds for deliveries after so long. */
const KNOWN_FOR_MS = 1000;
const MAX_KNOWN = 1000;

/** Where a subscription's events go to, and what signs them. */
export interface Destination {
  readonly url: string;
  readonly events: readonly string[];
  /** The present key first. */
  readonly keys: readonly Buffer[];
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
  ) {}

  /** The destination of a lane; null where its subscription is not active. */
  async of({ organizationId, webhookId }: LeasedLane): Promise<Destination | null> {
    const known = this.known.get(webhookId);
    if (known !== undefined) return known.destination;
    const webhook = await this.lanes.bounded(() => this.repository.find(organizationId, webhookId));
    const destination =
      webhook?.status === 'active'
        ? { url: webhook.url, events: webhook.events, keys: this.signingKeys.open(webhook) }
        : null;
    this.known.set(webhookId, { destination });
    return destination;
  }

  /** Forgets a subscription, so that it is read anew. */
  forget(webhookId: string): void {
    this.known.delete(webhookId);
  }
}

import { Injectable } from '@nestjs/common';
import { createSecretKey, type KeyObject } from 'node:crypto';
import { Resealing } from '../platform/database/resealing.js';
import { Clock } from '../platform/kernel/clock.js';
import { Sealer } from '../platform/kernel/sealer.js';
import { generateSigningKey, showSigningKey } from './signing-secret.js';
import type { WebhookEntity } from './webhook.entity.js';

/** The keys of subscriptions: made, sealed at rest, opened to sign. */
@Injectable()
export class SigningKeys {
  constructor(
    private readonly sealer: Sealer,
    private readonly clock: Clock,
    resealing: Resealing,
  ) {
    const webhooks = { table: 'webhooks', key: 'webhook_id', keyType: 'uuid', purposeOf } as const;
    resealing.register({ ...webhooks, column: 'sealed_secret' }, { ...webhooks, column: 'sealed_previous_secret' });
  }

  /** A new key: as it is kept, and as its receiver is shown it. */
  make(webhookId: string): { sealed: Buffer; shown: string } {
    const key = generateSigningKey();
    return { sealed: this.sealer.seal(key, purposeOf(webhookId)), shown: showSigningKey(key) };
  }

  /**
   * The keys that sign now: the present one first, then the one before while its overlap lasts.
   *
   * @throws SealBroken
   */
  open(webhook: WebhookEntity): KeyObject[] {
    const { sealedSecret, sealedPreviousSecret, previousSecretExpiresAt } = webhook;
    const sealed = [sealedSecret];
    const overlaps = previousSecretExpiresAt !== null && previousSecretExpiresAt > this.clock.now();
    if (sealedPreviousSecret !== null && overlaps) sealed.push(sealedPreviousSecret);
    return sealed.map((one) => createSecretKey(this.sealer.open(one, purposeOf(webhook.webhookId))));
  }
}

function purposeOf(webhookId: string): string {
  return `webhook:${webhookId}`;
}

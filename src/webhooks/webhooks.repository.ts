import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { WebhookEntity } from './webhook.entity.js';

/** The place of a subscription in the list. */
export interface WebhookPosition {
  readonly createdAt: string;
  readonly webhookId: string;
}

/** All SQL on subscriptions, their lanes included; what runs in the lanes is the lanes repository's. */
@Injectable()
export class WebhooksRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Inserts a subscription whose lane stands at the sequence `head` of the chain. */
  async insert(transaction: EntityManager, webhook: WebhookEntity, head: number): Promise<void> {
    await transaction.insert(WebhookEntity, webhook);
    await transaction.query(
      'INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence) VALUES ($1, $2, $3, $4)',
      [webhook.organizationId, webhook.webhookId, webhook.status === 'active', head],
    );
  }

  async update(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    const { organizationId, webhookId, ...columns } = webhook;
    await transaction.update(WebhookEntity, { organizationId, webhookId }, columns);
  }

  async delete(transaction: EntityManager, organizationId: string, webhookId: string): Promise<void> {
    await transaction.delete(WebhookEntity, { organizationId, webhookId });
  }

  /** Lets a lane run again from the sequence `head` of the chain on. */
  async activateLane(transaction: EntityManager, webhook: WebhookEntity, head: number): Promise<void> {
    await transaction.query(
      `UPDATE webhook_lanes SET active = true, sequence = $3, failing_since = NULL
        WHERE organization_id = $1 AND webhook_id = $2`,
      [webhook.organizationId, webhook.webhookId, head],
    );
  }

  /** Stops a lane, on whichever replica it runs. */
  async deactivateLane(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    await transaction.query(
      `UPDATE webhook_lanes SET active = false, next_due_at = NULL, failing_since = NULL, lease_owner = NULL,
          lease_until = NULL WHERE organization_id = $1 AND webhook_id = $2`,
      [webhook.organizationId, webhook.webhookId],
    );
  }

  find(
    organizationId: string,
    webhookId: string,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<WebhookEntity | null> {
    return reader.findOneBy(WebhookEntity, { organizationId, webhookId });
  }

  /** The organization of a subscription, for the operator; null where there is no such subscription. */
  async organizationOf(webhookId: string): Promise<string | null> {
    const webhook = await this.unitOfWork.reader.findOne(WebhookEntity, {
      where: { webhookId },
      select: { organizationId: true, webhookId: true },
    });
    return webhook?.organizationId ?? null;
  }

  /** Up to `limit` subscriptions, newest first, after a position. */
  list(organizationId: string, after: WebhookPosition | undefined, limit: number): Promise<WebhookEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(WebhookEntity, 'webhook')
      .where('webhook.organization_id = :organizationId', { organizationId })
      .orderBy('webhook.created_at', 'DESC')
      .addOrderBy('webhook.webhook_id', 'DESC')
      .limit(limit);
    if (after !== undefined) {
      query.andWhere('(webhook.created_at, webhook.webhook_id) < (:createdAt, :webhookId)', after);
    }
    return query.getMany();
  }

  /** How many subscriptions an organization has, disabled ones too. */
  count(organizationId: string, reader: EntityManager): Promise<number> {
    return reader.countBy(WebhookEntity, { organizationId });
  }
}

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { LanePlace } from './lane-feed.js';
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

  /** Inserts a subscription whose lane stands at `place`. */
  async insert(transaction: EntityManager, webhook: WebhookEntity, place: LanePlace): Promise<void> {
    await transaction.insert(WebhookEntity, webhook);
    const { organizationId, webhookId } = webhook;
    await transaction.query(
      `INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence, checkpoint_sequence)
        VALUES ($1, $2, $3, $4, $5)`,
      [organizationId, webhookId, webhook.status === 'active', place.sequence, place.checkpoint],
    );
  }

  async update(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    const { organizationId, webhookId, ...columns } = webhook;
    await transaction.update(WebhookEntity, { organizationId, webhookId }, columns);
  }

  async delete(transaction: EntityManager, organizationId: string, webhookId: string): Promise<void> {
    await transaction.delete(WebhookEntity, { organizationId, webhookId });
  }

  /** Lets a lane run again from `place` on. */
  async activateLane(transaction: EntityManager, webhook: WebhookEntity, place: LanePlace): Promise<void> {
    await transaction.query(
      `UPDATE webhook_lanes SET active = true, sequence = $3, checkpoint_sequence = $4, failing_since = NULL
        WHERE organization_id = $1 AND webhook_id = $2`,
      [webhook.organizationId, webhook.webhookId, place.sequence, place.checkpoint],
    );
  }

  /** Sets the place of a lane among the checkpoints; null where it follows none. */
  async moveAmongCheckpoints(
    transaction: EntityManager,
    webhook: WebhookEntity,
    checkpoint: number | null,
  ): Promise<void> {
    await transaction.query(
      'UPDATE webhook_lanes SET checkpoint_sequence = $3 WHERE organization_id = $1 AND webhook_id = $2',
      [webhook.organizationId, webhook.webhookId, checkpoint],
    );
  }

  /** Where the lane of an active subscription stands; null where it is not active. */
  async place(organizationId: string, webhookId: string): Promise<LanePlace | null> {
    const rows = await this.unitOfWork.reader.query<{ sequence: string; checkpoint: string | null }[]>(
      `SELECT sequence, checkpoint_sequence AS checkpoint FROM webhook_lanes
        WHERE organization_id = $1 AND webhook_id = $2 AND active`,
      [organizationId, webhookId],
    );
    const [row] = rows;
    if (row === undefined) return null;
    return { sequence: Number(row.sequence), checkpoint: row.checkpoint === null ? null : Number(row.checkpoint) };
  }

  /** Stops a lane, on whichever replica it runs. */
  async deactivateLane(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    await transaction.query(
      `UPDATE webhook_lanes SET active = false, checkpoint_sequence = NULL, next_due_at = NULL, failing_since = NULL,
          lease_owner = NULL, lease_until = NULL WHERE organization_id = $1 AND webhook_id = $2`,
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

  /**
   * The same for a change, held until the transaction ends: all columns are written again, and a change of the master key
   * seals the secrets anew without the organization's lock.
   */
  hold(transaction: EntityManager, organizationId: string, webhookId: string): Promise<WebhookEntity | null> {
    const lock = { mode: 'for_no_key_update' } as const;
    return transaction.findOne(WebhookEntity, { where: { organizationId, webhookId }, lock });
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

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { deliverySlotTable } from '../platform/database/delivery-slots.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { slotOfDelivery } from './delivery-id.js';
import { DeliveryEntity, type DeliveryStatus } from './delivery.entity.js';

/** All SQL on the history and on putting things into the queue. */
@Injectable()
export class DeliveriesRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Up to `limit` deliveries of a subscription, newest first, before the delivery `before`. */
  list(
    organizationId: string,
    webhookId: string,
    status: DeliveryStatus | undefined,
    before: string | undefined,
    limit: number,
  ): Promise<DeliveryEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(DeliveryEntity, 'delivery')
      .where('delivery.organization_id = :organizationId AND delivery.webhook_id = :webhookId', {
        organizationId,
        webhookId,
      })
      .orderBy('delivery.delivery_id', 'DESC')
      .limit(limit);
    if (before !== undefined) query.andWhere('delivery.delivery_id < :before', { before });
    if (status !== undefined) query.andWhere('delivery.status = :status', { status });
    return query.getMany();
  }

  find(
    reader: EntityManager,
    organizationId: string,
    webhookId: string,
    deliveryId: string,
  ): Promise<DeliveryEntity | null> {
    const slot = slotOfDelivery(deliveryId);
    return reader.findOneBy(DeliveryEntity, { organizationId, webhookId, slot, deliveryId });
  }

  async insert(transaction: EntityManager, delivery: DeliveryEntity): Promise<void> {
    await transaction.insert(DeliveryEntity, delivery);
  }

  /** How many things wait in the queue of a subscription that have not failed: put there by hand. */
  async countByHand(transaction: EntityManager, organizationId: string, webhookId: string): Promise<number> {
    const rows = await transaction.query<{ count: string }[]>(
      `SELECT count(*) AS count FROM webhook_queue
        WHERE organization_id = $1 AND webhook_id = $2 AND failures = 0`,
      [organizationId, webhookId],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** Locks the lane of a subscription: whoever puts something into its queue does this first. False where it is stopped. */
  async lockLane(transaction: EntityManager, organizationId: string, webhookId: string): Promise<boolean> {
    const rows = await transaction.query<{ active: boolean }[]>(
      'SELECT active FROM webhook_lanes WHERE organization_id = $1 AND webhook_id = $2 FOR UPDATE',
      [organizationId, webhookId],
    );
    return rows[0]?.active === true;
  }

  /** Makes a delivery due at once; its retries, should it fail, begin anew. */
  async enqueue(transaction: EntityManager, delivery: DeliveryEntity, body: string, now: Date): Promise<void> {
    const { organizationId, webhookId, slot, deliveryId, eventId, event } = delivery;
    await transaction.query(
      `INSERT INTO webhook_queue (organization_id, webhook_id, slot, delivery_id, event_id, event, body, failures,
          due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8)
        ON CONFLICT (organization_id, webhook_id, delivery_id) DO UPDATE SET due_at = EXCLUDED.due_at, failures = 0`,
      [organizationId, webhookId, slot, deliveryId, eventId, event, body, now],
    );
    await transaction.query(
      `UPDATE webhook_deliveries SET status = 'pending', next_attempt_at = $5
        WHERE organization_id = $1 AND webhook_id = $2 AND slot = $3 AND delivery_id = $4`,
      [organizationId, webhookId, slot, deliveryId, now],
    );
    await transaction.query(
      `UPDATE webhook_lanes SET next_due_at = least(next_due_at, $3) WHERE organization_id = $1 AND webhook_id = $2`,
      [organizationId, webhookId, now],
    );
  }

  /**
   * Gives up what waits in the queue of a subscription.
   *
   * @returns how many deliveries were given up, at most `limit`
   */
  async giveUp(transaction: EntityManager, organizationId: string, webhookId: string, limit: number): Promise<number> {
    const rows = await transaction.query<{ count: string }[]>(
      `WITH gone AS (
        DELETE FROM webhook_queue WHERE organization_id = $1 AND webhook_id = $2 AND delivery_id IN (
          SELECT delivery_id FROM webhook_queue WHERE organization_id = $1 AND webhook_id = $2 LIMIT $3
          FOR UPDATE SKIP LOCKED)
        RETURNING slot, delivery_id
      ), marked AS (
        UPDATE webhook_deliveries d SET status = 'failed', next_attempt_at = NULL FROM gone
          WHERE d.organization_id = $1 AND d.webhook_id = $2 AND d.slot = gone.slot
            AND d.delivery_id = gone.delivery_id
      ) SELECT count(*) AS count FROM gone`,
      [organizationId, webhookId, limit],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** Subscriptions, at most `limit`, that left something in the queue when they were disabled or deleted. */
  async leftBehind(limit: number): Promise<{ organizationId: string; webhookId: string }[]> {
    const rows = await this.unitOfWork.reader.query<{ organization_id: string; webhook_id: string }[]>(
      `SELECT DISTINCT q.organization_id, q.webhook_id FROM webhook_queue q
        LEFT JOIN webhook_lanes l ON l.organization_id = q.organization_id AND l.webhook_id = q.webhook_id AND l.active
        WHERE l.webhook_id IS NULL LIMIT $1`,
      [limit],
    );
    return rows.map((row) => ({ organizationId: row.organization_id, webhookId: row.webhook_id }));
  }

  /**
   * Empties a partition of the history, unless it holds a delivery that is younger than `cutoff`.
   *
   * @returns whether there was something in it that is gone now
   * @throws where somebody reads the history for too long
   */
  async emptySlot(transaction: EntityManager, slot: number, cutoff: Date): Promise<boolean> {
    const some = 'SELECT 1 FROM webhook_deliveries WHERE slot = $1 LIMIT 1';
    if ((await transaction.query<unknown[]>(some, [slot])).length === 0) return false;
    const younger = 'SELECT 1 FROM webhook_deliveries WHERE slot = $1 AND created_at >= $2 LIMIT 1';
    if ((await transaction.query<unknown[]>(younger, [slot, cutoff])).length > 0) return false;
    // While it waits for whoever reads the history, whoever wants to read it next waits behind it: rather not today.
    await transaction.query("SELECT set_config('lock_timeout', '100', true)");
    // eslint-disable-next-line no-restricted-syntax -- the name of a table, which no parameter can be
    await transaction.query(`TRUNCATE ${deliverySlotTable(slot)}`);
    return true;
  }
}

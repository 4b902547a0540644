import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../audit/audit.service.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import { WorkLimit } from '../platform/http/work-limit.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor } from '../platform/kernel/cursor.js';
import type { Principal } from '../platform/kernel/principal.js';
import { Problem, problems } from '../platform/kernel/problem.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { slotOfDelivery } from './delivery-id.js';
import type { DeliveryEntity, DeliveryStatus } from './delivery.entity.js';
import { TEST_EVENT } from './event-patterns.js';
import { renderPayload } from './payload.js';
import { WaitingDeliveries } from './waiting-deliveries.js';
import type { WebhookEntity } from './webhook.entity.js';
import { WebhooksService } from './webhooks.service.js';

/** What may wait in the queue of a subscription that was put there by hand. */
const MAX_BY_HAND = 100;
/** Attempts at one event, those by hand included. */
const MAX_ATTEMPTS = 100;

/** The history of deliveries, and what is sent by hand. */
@Injectable()
export class DeliveriesService {
  /** No index knows of statuses: a rare one is looked for through all of a history, on a connection of the pool. */
  private readonly searches = new WorkLimit(2, 4);

  constructor(
    private readonly repository: DeliveriesRepository,
    private readonly webhooks: WebhooksService,
    private readonly waiting: WaitingDeliveries,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
  ) {}

  /**
   * One page of a subscription's history, newest first; with it what waits for its first attempt.
   *
   * @throws Problem `not_found`, `validation_failed` for a cursor of another list, `rate_limited` or `unavailable`
   *   where enough look for a status already
   */
  async list(
    caller: Principal,
    webhookId: string,
    status: DeliveryStatus | undefined,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<DeliveryEntity>> {
    const webhook = await this.webhooks.read(caller, webhookId);
    const list = `deliveries:${webhook.webhookId}`;
    const [before] = cursor === undefined ? [] : decodeCursor(list, cursor, [LOWER_CASE_UUID]);
    // What waits first: what is recorded meanwhile is then in both, and in neither the other way about.
    const waiting = status === undefined || status === 'pending' ? await this.waiting.of(webhook) : [];
    const { organizationId } = webhook;
    const read = () => this.repository.list(organizationId, webhook.webhookId, status, before, limit + 1);
    const recorded = await (status === undefined ? read() : this.searches.run(organizationId, read));
    const found = merged(recorded, waiting, before).slice(0, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.deliveryId]));
  }

  /**
   * Sends a test event to one subscription, whatever events it names.
   *
   * @returns the delivery, which is pending
   * @throws Problem `not_found`, `conflict` for a disabled subscription, `rate_limited`
   */
  async test(caller: Principal, webhookId: string): Promise<DeliveryEntity> {
    const webhook = await this.webhooks.read(caller, webhookId);
    return this.unitOfWork.run(async (transaction) => {
      await this.requireQueue(transaction, webhook);
      const now = this.clock.now();
      const data = { webhookId: webhook.webhookId, organizationId: webhook.organizationId };
      const body = renderPayload(TEST_EVENT, now.toISOString(), data);
      const deliveryId = uuidv7({ msecs: now.getTime() });
      const delivery: DeliveryEntity = {
        organizationId: webhook.organizationId,
        webhookId: webhook.webhookId,
        slot: slotOfDelivery(deliveryId),
        deliveryId,
        eventId: uuidv7({ msecs: now.getTime() }),
        event: TEST_EVENT,
        sequence: null,
        body,
        status: 'pending',
        attempts: [],
        nextAttemptAt: now,
        createdAt: now,
      };
      await this.repository.insert(transaction, delivery);
      await this.repository.enqueue(transaction, delivery, body, now);
      return delivery;
    });
  }

  /**
   * Sends an event again, at once, under the same `webhook-id`; should it fail, its retries begin anew.
   *
   * @returns the delivery, which is pending
   * @throws Problem `not_found`, `conflict` for a disabled subscription, an event that waits for its first attempt or
   *   one that has passed its retention, `rate_limited`
   */
  async redeliver(caller: Principal, webhookId: string, deliveryId: string): Promise<DeliveryEntity> {
    const webhook = await this.webhooks.read(caller, webhookId);
    if (!isUuid(deliveryId)) throw problems.notFound;
    const { organizationId } = webhook;
    const id = deliveryId.toLowerCase();
    const known = await this.repository.find(this.unitOfWork.reader, organizationId, webhook.webhookId, id);
    if (known === null) throw await this.absent(webhook, id);
    // Not within the transaction: that has a connection already, and would wait for another one.
    const body = await this.bodyOf(known);
    return this.unitOfWork.run(async (transaction) => {
      await this.requireQueue(transaction, webhook);
      // Read anew: until the lane is locked an attempt may be recorded.
      const delivery = (await this.repository.find(transaction, organizationId, webhook.webhookId, id)) ?? known;
      if (delivery.attempts.length >= MAX_ATTEMPTS) {
        throw problems.conflict.withDetail(`There were ${MAX_ATTEMPTS} attempts at this delivery.`);
      }
      const now = this.clock.now();
      await this.repository.enqueue(transaction, delivery, body, now);
      return { ...delivery, status: 'pending', nextAttemptAt: now };
    });
  }

  private async bodyOf({ organizationId, sequence, body }: DeliveryEntity): Promise<string> {
    if (body !== null) return body;
    const event = await this.audit.at(organizationId, Number(sequence));
    if (event === null) throw problems.conflict.withDetail('The event has passed its retention in the audit log.');
    return renderPayload(event.action, event.occurredAt, event);
  }

  /** Why there is nothing to send again under an id. */
  private async absent(webhook: WebhookEntity, id: string): Promise<Problem> {
    const waits = (await this.waiting.of(webhook)).some(({ deliveryId }) => deliveryId === id);
    return waits ? problems.conflict.withDetail('The event waits for its first attempt.') : problems.notFound;
  }

  /** Locks the lane and refuses where nothing more may be put into its queue. */
  private async requireQueue(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    const { organizationId, webhookId } = webhook;
    if (!(await this.repository.lockLane(transaction, organizationId, webhookId))) {
      throw problems.conflict.withDetail('The webhook is disabled.');
    }
    if ((await this.repository.countByHand(transaction, organizationId, webhookId)) < MAX_BY_HAND) return;
    throw new Problem('rate_limited', { detail: `${MAX_BY_HAND} messages wait to be sent.` }).withHeaders({
      'Retry-After': '10',
    });
  }
}

/** Recorded and waiting deliveries before `before`, newest first, each once. */
function merged(
  recorded: readonly DeliveryEntity[],
  waiting: readonly DeliveryEntity[],
  before: string | undefined,
): DeliveryEntity[] {
  const known = new Set(recorded.map(({ deliveryId }) => deliveryId));
  const more = waiting.filter(
    ({ deliveryId }) => !known.has(deliveryId) && (before === undefined || deliveryId < before),
  );
  if (more.length === 0) return [...recorded];
  return [...recorded, ...more].sort((a, b) => (a.deliveryId < b.deliveryId ? 1 : -1));
}

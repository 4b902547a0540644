import { Injectable, Logger } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { DELIVERY_SLOTS, deliverySlotOf } from '../platform/database/delivery-slots.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Clock } from '../platform/kernel/clock.js';
import { RetentionService } from '../evidence/retention.service.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { LanesRepository } from './lanes.repository.js';

const DAY_MS = 86_400_000;
/** How long the history is kept, in days. */
const KEPT_DAYS = 30;
const EMPTY_EVERY_MS = 3_600_000;
const SWEEP_EVERY_MS = 60_000;
/** Subscriptions of one round of sweeping, and things of each: small, so that nothing waits for it. */
const SWEPT_WEBHOOKS = 20;
const SWEPT_DELIVERIES = 5000;

/**
 * Drops the history a day at a time, sweeps the queue after subscriptions that have ended, and holds the retention of the
 * audit log back where an active subscription has not come so far yet.
 */
@Injectable()
export class DeliveryRetention {
  private readonly logger = new Logger(DeliveryRetention.name);

  constructor(
    private readonly repository: DeliveriesRepository,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    lanes: LanesRepository,
    retention: RetentionService,
  ) {
    retention.register((organizationId, through) => lanes.passedThrough(organizationId, through));
  }

  /** Empties the partitions of days that have passed. Any number of replicas may do so at once. */
  @Interval(EMPTY_EVERY_MS)
  async emptyPassedDays(): Promise<void> {
    const nowMs = this.clock.nowMs();
    const cutoff = new Date(nowMs - KEPT_DAYS * DAY_MS);
    // The ring's days that lie ahead are those that have passed the longest ago.
    for (let ahead = 1; ahead < DELIVERY_SLOTS.length - KEPT_DAYS; ahead += 1) {
      const slot = deliverySlotOf(nowMs + ahead * DAY_MS);
      await this.unitOfWork
        .run((transaction) => this.repository.emptySlot(transaction, slot, cutoff))
        .catch((error: unknown) => this.logger.warn(`could not drop old deliveries: ${String(error)}`));
    }
  }

  /** Gives up what disabled and deleted subscriptions left in the queue. */
  @Interval(SWEEP_EVERY_MS)
  async sweepQueue(): Promise<void> {
    try {
      for (const { organizationId, webhookId } of await this.repository.leftBehind(SWEPT_WEBHOOKS)) {
        await this.unitOfWork.run((transaction) =>
          this.repository.giveUp(transaction, organizationId, webhookId, SWEPT_DELIVERIES),
        );
      }
    } catch (error) {
      this.logger.warn(`could not sweep the webhook queue: ${String(error)}`);
    }
  }
}

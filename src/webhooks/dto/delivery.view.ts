import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { DELIVERY_STATUSES, type DeliveryEntity } from '../delivery.entity.js';

/** One try to hand an event over. */
export class DeliveryAttemptView {
  @ApiProperty({ format: 'date-time' })
  readonly at!: string;

  @ApiProperty({ type: Number, nullable: true, description: 'The status of the answer; null where there was none.' })
  readonly statusCode!: number | null;

  @ApiProperty({ type: String, nullable: true, description: 'Why it failed.' })
  readonly error!: string | null;

  @ApiProperty({ example: 41 })
  readonly durationMs!: number;

  @ApiProperty({ type: String, nullable: true, description: 'The first KiB of the answer.' })
  readonly answer!: string | null;
}

/** What became of one event at one subscription. */
export class DeliveryView {
  @ApiProperty({ format: 'uuid' })
  readonly deliveryId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly webhookId!: string;

  @ApiProperty({ example: 'agent.suspended' })
  readonly event!: string;

  @ApiProperty({ format: 'uuid', description: 'Also the `webhook-id` of every attempt.' })
  readonly eventId!: string;

  @ApiProperty({
    enum: DELIVERY_STATUSES,
    description: '`pending`: is being sent, waits for its turn, or is to be sent again.',
  })
  readonly status!: string;

  @ApiProperty({ type: [DeliveryAttemptView], description: 'Oldest first.' })
  readonly attempts!: readonly DeliveryAttemptView[];

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When it is sent again; null where it is not, and where its first attempt comes in its turn.',
  })
  readonly nextAttemptAt!: string | null;

  @ApiProperty({ format: 'date-time', description: 'When the event happened.' })
  readonly createdAt!: string;

  /** What callers see of a delivery. */
  static of(delivery: DeliveryEntity): DeliveryView {
    return {
      deliveryId: delivery.deliveryId,
      webhookId: delivery.webhookId,
      event: delivery.event,
      eventId: delivery.eventId,
      status: delivery.status,
      attempts: delivery.attempts.map(({ at, statusCode, error, durationMs, answer }) => ({
        at,
        statusCode,
        error,
        durationMs,
        answer,
      })),
      nextAttemptAt: delivery.nextAttemptAt?.toISOString() ?? null,
      createdAt: delivery.createdAt.toISOString(),
    };
  }
}

/** A page of deliveries. */
export class DeliveryPage extends Page<DeliveryView> {
  @ApiProperty({ type: [DeliveryView] })
  declare readonly data: readonly DeliveryView[];
}

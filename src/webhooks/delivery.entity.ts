import { Column, Entity, PrimaryColumn } from 'typeorm';

/** The states of a delivery: to be tried again, done, or given up. */
export const DELIVERY_STATUSES = ['pending', 'delivered', 'failed'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** One try to hand an event over. */
export interface DeliveryAttempt {
  /** When it began: ISO 8601, UTC. */
  readonly at: string;
  readonly durationMs: number;
  /** The status of the answer; null where there was none. */
  readonly statusCode: number | null;
  /** Why it failed; null where it did not. */
  readonly error: string | null;
  /** The beginning of the answer's body; null where there was no answer. */
  readonly answer: string | null;
}

/** What became of one event at one subscription. Kept for 30 days in a ring of partitions, a day each (`slot`). */
@Entity({ name: 'webhook_deliveries' })
export class DeliveryEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ name: 'webhook_id', type: 'uuid' })
  webhookId!: string;

  @PrimaryColumn({ type: 'smallint' })
  slot!: number;

  @PrimaryColumn({ name: 'delivery_id', type: 'uuid' })
  deliveryId!: string;

  @Column({ name: 'event_id', type: 'uuid' })
  eventId!: string;

  @Column({ type: 'text' })
  event!: string;

  /** The event's place in the chain; null for a test event, which has none. */
  @Column({ type: 'bigint', nullable: true })
  sequence!: string | null;

  /** What is sent, where it is no event of the chain. */
  @Column({ type: 'text', nullable: true })
  body!: string | null;

  @Column({ type: 'text' })
  status!: DeliveryStatus;

  @Column({ type: 'jsonb' })
  attempts!: DeliveryAttempt[];

  @Column({ name: 'next_attempt_at', type: 'timestamptz', nullable: true })
  nextAttemptAt!: Date | null;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}

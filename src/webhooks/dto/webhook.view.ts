import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { DISABLED_REASONS, WEBHOOK_STATUSES, type WebhookEntity } from '../webhook.entity.js';

/** A subscription as callers see it: never its signing secret. */
export class WebhookView {
  @ApiProperty({ format: 'uuid' })
  readonly webhookId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ example: 'https://hooks.example.com/agentidp' })
  readonly url!: string;

  @ApiProperty({ type: [String], example: ['agent.*'] })
  readonly events!: readonly string[];

  @ApiProperty({ type: String, nullable: true })
  readonly description!: string | null;

  @ApiProperty({ enum: WEBHOOK_STATUSES })
  readonly status!: string;

  @ApiProperty({ enum: DISABLED_REASONS, nullable: true, description: 'Why it is disabled.' })
  readonly disabledReason!: string | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'Until when messages are signed with the secret before the last rotation too.',
  })
  readonly previousSecretExpiresAt!: string | null;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt!: string;

  /** What callers may see of a subscription. */
  static of(webhook: WebhookEntity): WebhookView {
    return {
      webhookId: webhook.webhookId,
      organizationId: webhook.organizationId,
      url: webhook.url,
      events: webhook.events,
      description: webhook.description,
      status: webhook.status,
      disabledReason: webhook.disabledReason,
      previousSecretExpiresAt: webhook.previousSecretExpiresAt?.toISOString() ?? null,
      createdAt: webhook.createdAt.toISOString(),
      updatedAt: webhook.updatedAt.toISOString(),
    };
  }
}

/** A subscription with its new signing secret, which is shown this once. */
export class WebhookWithSecretView extends WebhookView {
  @ApiProperty({ description: 'Shown this once.', example: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD' })
  readonly signingSecret!: string;
}

/** A page of subscriptions. */
export class WebhookPage extends Page<WebhookView> {
  @ApiProperty({ type: [WebhookView] })
  declare readonly data: readonly WebhookView[];
}

import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { AUDIT_ACTIONS, AUDIT_OUTCOMES } from '../../platform/kernel/audit-event.js';

/** What an event was about. */
export class AuditTargetView {
  @ApiProperty({ example: 'agent' })
  readonly type!: string;

  @ApiProperty({ example: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890' })
  readonly id!: string;
}

/** An event of the audit log. */
export class AuditEventView {
  @ApiProperty({ format: 'uuid' })
  readonly eventId!: string;

  @ApiProperty({ description: 'Its place in the chain of its organization: from 1, without gaps.', example: 42 })
  readonly sequence!: number;

  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ enum: AUDIT_ACTIONS, example: 'token.issued' })
  readonly action!: string;

  @ApiProperty({ enum: AUDIT_OUTCOMES })
  readonly outcome!: string;

  @ApiProperty({ type: String, format: 'uuid', nullable: true, description: 'The agent that acted.' })
  readonly actor!: string | null;

  @ApiProperty({ type: AuditTargetView })
  readonly target!: AuditTargetView;

  @ApiProperty({ type: String, nullable: true, example: '203.0.113.7' })
  readonly ip!: string | null;

  @ApiProperty({ type: String, nullable: true, example: 'curl/8.5.0' })
  readonly userAgent!: string | null;

  @ApiProperty({ type: 'object', additionalProperties: true, example: { scope: 'agents:read' } })
  readonly details!: unknown;

  @ApiProperty({ format: 'date-time' })
  readonly occurredAt!: string;

  @ApiProperty({ description: 'The hash of the event before; of the organization id for the first one.' })
  readonly previousHash!: string;

  @ApiProperty({ description: 'hex(SHA-256(JCS(event without "hash"))).' })
  readonly hash!: string;
}

/** A page of the audit log. */
export class AuditEventPage extends Page<AuditEventView> {
  @ApiProperty({ type: [AuditEventView] })
  declare readonly data: readonly AuditEventView[];
}

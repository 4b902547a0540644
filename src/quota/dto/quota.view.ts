import { ApiProperty } from '@nestjs/swagger';

/** The month's tokens. */
export class TokenQuotaView {
  @ApiProperty({ type: Number, nullable: true, description: 'Null: no limit.', example: 10_000 })
  readonly limit!: number | null;

  @ApiProperty({ example: 128 })
  readonly used!: number;

  @ApiProperty({ type: Number, nullable: true, description: 'Null: no limit.', example: 9872 })
  readonly remaining!: number | null;

  @ApiProperty({ format: 'date-time', example: '2026-12-01T00:00:00.000Z' })
  readonly resetsAt!: string;
}

/** The agents that are not decommissioned. */
export class AgentQuotaView {
  @ApiProperty({ type: Number, nullable: true, description: 'Null: no limit.', example: 100 })
  readonly limit!: number | null;

  @ApiProperty({ example: 3 })
  readonly used!: number;
}

/** Limits and usage of an organization. */
export class QuotaView {
  @ApiProperty({ enum: ['free', 'pro', 'enterprise'] })
  readonly tier!: string;

  @ApiProperty({ description: 'The UTC calendar month.', example: '2026-11' })
  readonly period!: string;

  @ApiProperty({ type: TokenQuotaView })
  readonly tokens!: TokenQuotaView;

  @ApiProperty({ type: AgentQuotaView })
  readonly agents!: AgentQuotaView;
}

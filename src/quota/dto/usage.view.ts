import { ApiProperty } from '@nestjs/swagger';
import { AgentQuotaView } from './quota.view.js';

const REFUSALS = {
  type: 'object',
  additionalProperties: { type: 'integer' },
  description: 'Refused token requests by reason.',
  example: { invalid_client: 3, quota_reached: 1 },
} as const;

/** What happened on a day. */
export class DailyUsageView {
  @ApiProperty({ format: 'date', example: '2026-11-22' })
  readonly day!: string;

  @ApiProperty({ description: 'Issued tokens.', example: 1280 })
  readonly tokens!: number;

  @ApiProperty(REFUSALS)
  readonly refusals!: Readonly<Record<string, number>>;
}

/** What happened in a month. */
export class MonthlyUsageView {
  @ApiProperty({ example: '2026-11' })
  readonly month!: string;

  @ApiProperty({ description: 'Issued tokens.', example: 38_400 })
  readonly tokens!: number;

  @ApiProperty(REFUSALS)
  readonly refusals!: Readonly<Record<string, number>>;
}

/** The usage of an organization. */
export class UsageView {
  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ format: 'date', description: 'The first day of `days`.' })
  readonly from!: string;

  @ApiProperty({ format: 'date', description: 'The last day of `days`.' })
  readonly to!: string;

  @ApiProperty({ type: [DailyUsageView], description: 'Days on which something happened, oldest first.' })
  readonly days!: readonly DailyUsageView[];

  @ApiProperty({ type: [MonthlyUsageView], description: 'The twelve months up to the last day, oldest first.' })
  readonly months!: readonly MonthlyUsageView[];

  @ApiProperty({ type: AgentQuotaView })
  readonly agents!: AgentQuotaView;
}

import { ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayUnique,
  IsArray,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  Max,
  MaxLength,
  Min,
  MinLength,
} from 'class-validator';
import { IsLabels, IsScopeToken, MayBeOmitted } from '../../platform/http/validators.js';
import { AGENT_ENVIRONMENTS, type AgentEnvironment } from '../agent.entity.js';

/** The members that registering and changing an agent share. Null clears a member that may be null. */
export class AgentFields {
  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 1024, example: 'Sorts incoming invoices' })
  @IsOptional()
  @IsString()
  @MaxLength(1024)
  description?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 256, example: 'team-finance' })
  @IsOptional()
  @IsString()
  @MaxLength(256)
  owner?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 64, example: 'classifier' })
  @IsOptional()
  @IsString()
  @MaxLength(64)
  type?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 64, example: '1.4.0' })
  @IsOptional()
  @IsString()
  @MaxLength(64)
  version?: string | null;

  @ApiPropertyOptional({ enum: AGENT_ENVIRONMENTS, nullable: true })
  @IsOptional()
  @IsIn(AGENT_ENVIRONMENTS)
  environment?: AgentEnvironment | null;

  @ApiPropertyOptional({ type: [String], maxItems: 64, example: ['invoices.classify'] })
  @MayBeOmitted()
  @IsArray()
  @ArrayMaxSize(64)
  @ArrayUnique()
  @IsString({ each: true })
  @MinLength(1, { each: true })
  @MaxLength(128, { each: true })
  capabilities?: string[];

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: { type: 'string', maxLength: 256 },
    maxProperties: 64,
    example: { costCentre: '4711' },
  })
  // As it was sent: class-transformer's copy would lack labels that are called as a member of every object is.
  @Transform(({ obj }: { obj: { labels?: unknown } }) => obj.labels)
  @MayBeOmitted()
  @IsLabels()
  labels?: Record<string, string>;

  @ApiPropertyOptional({
    type: [String],
    maxItems: 200,
    description: 'Only scopes that the caller holds can be granted.',
    example: ['agents:read'],
  })
  @MayBeOmitted()
  @IsArray()
  @ArrayMaxSize(200)
  @ArrayUnique()
  @IsScopeToken({ each: true })
  scopes?: string[];

  @ApiPropertyOptional({
    type: Number,
    nullable: true,
    minimum: 60,
    maximum: 86_400,
    description: 'Lifetime of its tokens in seconds; the smallest of this and the configured one counts.',
  })
  @IsOptional()
  @IsInt()
  @Min(60)
  @Max(86_400)
  tokenTtlSeconds?: number | null;
}

import { ApiPropertyOptional } from '@nestjs/swagger';
import { Transform } from 'class-transformer';
import { ArrayMaxSize, IsIn, IsOptional, IsString, IsUUID, Matches, MaxLength } from 'class-validator';
import { PageQuery } from '../../platform/http/page.js';
import { AGENT_ENVIRONMENTS, AGENT_STATUSES, type AgentEnvironment, type AgentStatus } from '../agent.entity.js';

/** The filters of the list of agents. */
export class ListAgentsQuery extends PageQuery {
  @ApiPropertyOptional({ enum: AGENT_STATUSES })
  @IsOptional()
  @IsIn(AGENT_STATUSES)
  status?: AgentStatus;

  @ApiPropertyOptional({ maxLength: 64 })
  @IsOptional()
  @IsString()
  @MaxLength(64)
  type?: string;

  @ApiPropertyOptional({ maxLength: 256 })
  @IsOptional()
  @IsString()
  @MaxLength(256)
  owner?: string;

  @ApiPropertyOptional({ enum: AGENT_ENVIRONMENTS })
  @IsOptional()
  @IsIn(AGENT_ENVIRONMENTS)
  environment?: AgentEnvironment;

  @ApiPropertyOptional({
    type: [String],
    description: '`key:value`, or `key` for any value; several must all match.',
    example: ['costCentre:4711'],
  })
  @IsOptional()
  @Transform(({ value }: { value: unknown }) => (Array.isArray(value) ? (value as unknown[]) : [value]))
  @ArrayMaxSize(16)
  @Matches(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}(:[^]{0,256})?$/, {
    each: true,
    message: 'each label must be key:value or key',
  })
  label?: string[];

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @IsOptional()
  @IsUUID()
  organizationId?: string;
}

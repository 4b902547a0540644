import { ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, Max, Min } from 'class-validator';
import { OrganizationQuery } from './organization.query.js';

/** What to export. */
export class ExportQuery extends OrganizationQuery {
  @ApiPropertyOptional({
    type: Number,
    minimum: 1,
    description: 'The first event: to go on where an export broke off.',
  })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  fromSequence?: number;
}

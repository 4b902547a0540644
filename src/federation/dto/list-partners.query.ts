import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsUUID } from 'class-validator';
import { PageQuery } from '../../platform/http/page.js';

/** Whose partners. */
export class ListPartnersQuery extends PageQuery {
  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @IsOptional()
  @IsUUID()
  organizationId?: string;
}

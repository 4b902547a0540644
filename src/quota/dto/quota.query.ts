import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional, IsUUID } from 'class-validator';

/** Whose quota. */
export class QuotaQuery {
  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @IsOptional()
  @IsUUID()
  organizationId?: string;
}

import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, IsUUID, Max, MaxLength, Min, MinLength } from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';

/** A checkpoint that the caller kept. */
export class VerifyKeptBody {
  @ApiProperty({ description: 'A checkpoint as it was given out: a compact JWS.' })
  @IsString()
  @MinLength(1)
  @MaxLength(8192)
  checkpoint!: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}

/** Which part of the chain to verify. */
export class VerifyAuditQuery {
  @ApiPropertyOptional({ type: Number, minimum: 1, description: 'The first event to check; 1 unless given.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  fromSequence?: number;

  @ApiPropertyOptional({ type: Number, minimum: 1, description: 'The last event to check; the newest unless given.' })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  toSequence?: number;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @IsOptional()
  @IsUUID()
  organizationId?: string;
}

import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn, IsInt, IsOptional, IsString, Max, MaxLength, Min, MinLength } from 'class-validator';
import { IsInstant } from '../../platform/http/validators.js';

/** The longest overlap of a rotation: seven days, in seconds. */
const MAX_OVERLAP_SECONDS = 604_800;

/** A new secret. */
export class CreateCredentialBody {
  @ApiPropertyOptional({ type: String, nullable: true, minLength: 1, maxLength: 128, example: 'production' })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name?: string | null;

  @ApiPropertyOptional({ type: String, nullable: true, format: 'date-time', description: 'Never, unless given.' })
  @IsOptional()
  @IsInstant()
  expiresAt?: string | null;
}

/** A rotation. */
export class RotateCredentialBody {
  @ApiPropertyOptional({
    type: Number,
    minimum: 0,
    maximum: MAX_OVERLAP_SECONDS,
    default: 0,
    nullable: true,
    description: 'How long the old secret works on, in seconds.',
  })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(MAX_OVERLAP_SECONDS)
  overlapSeconds?: number | null;
}

/** What becomes of the tokens of a credential that is revoked. */
export class RevokeCredentialQuery {
  @ApiPropertyOptional({ enum: ['true', 'false'], default: 'false', description: 'Let its tokens live on.' })
  @IsOptional()
  @IsIn(['true', 'false'])
  keepTokens?: 'true' | 'false';
}

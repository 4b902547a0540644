import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateNested,
} from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { TIERS, type Tier } from '../../platform/kernel/tier.js';

/** The largest limit that can be set; more is no limit, which is the tier's to give. */
const LARGEST_LIMIT = 1_000_000_000_000;
/** A hundred years. */
const LONGEST_RETENTION_DAYS = 36_500;
/** Lower-case ASCII, so that no two slugs differ only in case or Unicode form. */
const SLUG = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Limits of an organization's own. Null goes back to the tier's; a member that is left out stays as it is. */
export class OrganizationLimitsBody {
  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 0, maximum: LARGEST_LIMIT })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(LARGEST_LIMIT)
  tokensPerMonth?: number | null;

  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 0, maximum: LARGEST_LIMIT })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(LARGEST_LIMIT)
  agents?: number | null;

  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 1, maximum: LONGEST_RETENTION_DAYS })
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(LONGEST_RETENTION_DAYS)
  auditRetentionDays?: number | null;

  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 0, maximum: LARGEST_LIMIT })
  @IsOptional()
  @IsInt()
  @Min(0)
  @Max(LARGEST_LIMIT)
  webhooks?: number | null;
}

/** A new organization. */
export class CreateOrganizationBody {
  @ApiProperty({ minLength: 1, maxLength: 128, example: 'Acme' })
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name!: string;

  @ApiProperty({ pattern: SLUG.source, example: 'acme' })
  @IsString()
  @Matches(SLUG, { message: 'slug must be 1 to 63 of a-z 0-9 and -, and neither begin nor end with -' })
  slug!: string;

  @ApiPropertyOptional({ enum: TIERS, default: 'free' })
  @MayBeOmitted()
  @IsIn(TIERS)
  tier?: Tier;

  @ApiPropertyOptional({ type: OrganizationLimitsBody })
  @MayBeOmitted()
  @IsObject()
  @ValidateNested()
  @Type(() => OrganizationLimitsBody)
  limits?: OrganizationLimitsBody;
}

/** A change of an organization: members that are left out stay as they are. */
export class UpdateOrganizationBody {
  @ApiPropertyOptional({ minLength: 1, maxLength: 128, example: 'Acme' })
  @MayBeOmitted()
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name?: string;

  @ApiPropertyOptional({ pattern: SLUG.source, example: 'acme' })
  @MayBeOmitted()
  @IsString()
  @Matches(SLUG, { message: 'slug must be 1 to 63 of a-z 0-9 and -, and neither begin nor end with -' })
  slug?: string;

  @ApiPropertyOptional({ enum: TIERS })
  @MayBeOmitted()
  @IsIn(TIERS)
  tier?: Tier;

  @ApiPropertyOptional({ type: OrganizationLimitsBody })
  @MayBeOmitted()
  @IsObject()
  @ValidateNested()
  @Type(() => OrganizationLimitsBody)
  limits?: OrganizationLimitsBody;
}

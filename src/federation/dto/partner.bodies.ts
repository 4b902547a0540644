import { ApiProperty, ApiPropertyOptional, type ApiPropertyOptions } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsIn,
  IsObject,
  IsOptional,
  IsString,
  IsUUID,
  MaxLength,
  MinLength,
} from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { ASSERTION_ALGORITHMS } from '../../platform/jws/public-key.js';
import { MAX_INLINE_KEYS } from '../partner-trust.js';
import { PARTNER_STATUSES, type PartnerStatus } from '../partner.entity.js';

const NAME: ApiPropertyOptions = { minLength: 1, maxLength: 128, example: 'GitHub Actions' };

/** The members that making and changing a partner share. */
export class PartnerFields {
  @ApiPropertyOptional({
    type: String,
    nullable: true,
    maxLength: 2048,
    description:
      'Where the keys are. Discovered from the issuer unless this or `jwks` is given; null goes back to that.',
  })
  @IsOptional()
  @IsString()
  @MaxLength(2048)
  jwksUri?: string | null;

  @ApiPropertyOptional({
    type: 'object',
    nullable: true,
    additionalProperties: true,
    description: `The keys themselves: a JWK Set (RFC 7517) of 1 to ${MAX_INLINE_KEYS} public keys.`,
  })
  @IsOptional()
  @IsObject()
  jwks?: Record<string, unknown> | null;

  @ApiPropertyOptional({
    type: String,
    nullable: true,
    minLength: 1,
    maxLength: 512,
    description: 'What `aud` of the assertions must name; our issuer unless given.',
  })
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(512)
  audience?: string | null;

  @ApiPropertyOptional({
    type: 'array',
    nullable: true,
    items: { type: 'string', enum: [...ASSERTION_ALGORITHMS] },
    minItems: 1,
    description: 'The signature algorithms that are taken; all of these unless given.',
  })
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(ASSERTION_ALGORITHMS.length)
  @ArrayUnique()
  @IsIn(ASSERTION_ALGORITHMS, { each: true })
  algorithms?: string[] | null;

  @ApiPropertyOptional({ default: false, description: 'Whether each assertion may be used once only.' })
  @MayBeOmitted()
  @IsBoolean()
  singleUse?: boolean;

  @ApiPropertyOptional({ enum: PARTNER_STATUSES, description: 'The assertions of a disabled partner are refused.' })
  @MayBeOmitted()
  @IsIn(PARTNER_STATUSES)
  status?: PartnerStatus;
}

/** A new partner. */
export class CreatePartnerBody extends PartnerFields {
  @ApiProperty(NAME)
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name!: string;

  @ApiProperty({
    maxLength: 512,
    example: 'https://token.actions.githubusercontent.com',
    description: 'The `iss` of its assertions, letter by letter; unique in the organization.',
  })
  @IsString()
  @MaxLength(512)
  issuer!: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}

/** A change of a partner: members that are left out stay. The issuer never changes. */
export class UpdatePartnerBody extends PartnerFields {
  @ApiPropertyOptional(NAME)
  @MayBeOmitted()
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name?: string;
}

/** An assertion that is to be looked at. */
export class VerifyAssertionBody {
  @ApiProperty({ maxLength: 16_384, example: 'eyJhbGciOiJSUzI1NiIs…', description: 'An assertion of a partner.' })
  @IsString()
  @MinLength(1)
  @MaxLength(16_384)
  token!: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}

import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  IsUUID,
  Max,
  MaxLength,
  Min,
  MinLength,
  ValidateNested,
} from 'class-validator';
import { IsResourceIdentifier, IsScopeToken, MayBeOmitted } from '../../platform/http/validators.js';

/** The most scopes that one resource server may declare. */
const MAX_SCOPES = 200;

/** A scope that a resource server declares. */
export class ResourceScopeBody {
  @ApiProperty({ maxLength: 128, example: 'invoices:read' })
  @IsScopeToken()
  name!: string;

  @ApiProperty({ minLength: 1, maxLength: 256, example: 'Read invoices' })
  @IsString()
  @MinLength(1)
  @MaxLength(256)
  description!: string;
}

/** The members that registering and changing a resource server share; `scopes` is the whole list. */
export class ResourceFields {
  @ApiPropertyOptional({ type: [ResourceScopeBody], maxItems: MAX_SCOPES })
  @MayBeOmitted()
  @IsArray()
  @ArrayMaxSize(MAX_SCOPES)
  @IsObject({ each: true })
  @ValidateNested({ each: true })
  @Type(() => ResourceScopeBody)
  scopes?: ResourceScopeBody[];

  @ApiPropertyOptional({ type: Number, nullable: true, minimum: 60, maximum: 86_400 })
  @IsOptional()
  @IsInt()
  @Min(60)
  @Max(86_400)
  tokenTtlSeconds?: number | null;
}

/** A new resource server. */
export class CreateResourceBody extends ResourceFields {
  @ApiProperty({
    maxLength: 512,
    description: 'An absolute URI without fragment: the aud of the tokens for it. Unique in the installation.',
    example: 'https://invoices.example.com',
  })
  @IsResourceIdentifier()
  identifier!: string;

  @ApiProperty({ minLength: 1, maxLength: 128, example: 'Invoices' })
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name!: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}

/** A change of a resource server: members that are left out stay; `scopes` is the whole new list. */
export class UpdateResourceBody extends ResourceFields {
  @ApiPropertyOptional({ minLength: 1, maxLength: 128, example: 'Invoices' })
  @MayBeOmitted()
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name?: string;
}

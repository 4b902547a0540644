import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { ASSERTION_ALGORITHMS, type PublicJwk } from '../../platform/jws/public-key.js';
import { PARTNER_STATUSES, type PartnerEntity } from '../partner.entity.js';

/** Keys as a partner was given them: a JWK Set, RFC 7517 §5. */
export class PartnerJwksView {
  @ApiProperty({ type: 'array', items: { type: 'object', additionalProperties: { type: 'string' } } })
  readonly keys!: readonly PublicJwk[];
}

/** A partner as callers see it. */
export class PartnerView {
  @ApiProperty({ format: 'uuid' })
  readonly partnerId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ example: 'GitHub Actions' })
  readonly name!: string;

  @ApiProperty({ example: 'https://token.actions.githubusercontent.com' })
  readonly issuer!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly jwksUri!: string | null;

  @ApiProperty({ type: PartnerJwksView, nullable: true })
  readonly jwks!: PartnerJwksView | null;

  @ApiProperty({ description: 'What `aud` of the assertions must name.' })
  readonly audience!: string;

  @ApiProperty({ type: 'array', items: { type: 'string', enum: [...ASSERTION_ALGORITHMS] } })
  readonly algorithms!: readonly string[];

  @ApiProperty()
  readonly singleUse!: boolean;

  @ApiProperty({ enum: PARTNER_STATUSES })
  readonly status!: string;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt!: string;

  /**
   * What callers may see of a partner.
   *
   * @param issuer our own, the audience where none was given
   */
  static of(partner: PartnerEntity, issuer: string): PartnerView {
    return {
      partnerId: partner.partnerId,
      organizationId: partner.organizationId,
      name: partner.name,
      issuer: partner.issuer,
      jwksUri: partner.jwksUri,
      jwks: partner.jwks === null ? null : { keys: partner.jwks },
      audience: partner.audience ?? issuer,
      algorithms: partner.algorithms ?? ASSERTION_ALGORITHMS,
      singleUse: partner.singleUse,
      status: partner.status,
      createdAt: partner.createdAt.toISOString(),
      updatedAt: partner.updatedAt.toISOString(),
    };
  }
}

/** A page of partners. */
export class PartnerPage extends Page<PartnerView> {
  @ApiProperty({ type: [PartnerView] })
  declare readonly data: readonly PartnerView[];
}

/** What a look at an assertion found: the partner and the claims where it is valid, else the reason. */
export class AssertionVerdictView {
  @ApiProperty()
  readonly valid!: boolean;

  @ApiPropertyOptional({ format: 'uuid' })
  readonly partnerId?: string;

  @ApiPropertyOptional({ type: 'object', additionalProperties: true })
  readonly claims?: Readonly<Record<string, unknown>>;

  @ApiPropertyOptional({ example: 'wrong_audience' })
  readonly reason?: string;
}

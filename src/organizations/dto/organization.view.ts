import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { TIERS } from '../../platform/kernel/tier.js';
import { ORGANIZATION_STATUSES, type OrganizationEntity } from '../organization.entity.js';

/** The limits that an organization has of its own; null: its tier's. */
export class OrganizationLimitsView {
  @ApiProperty({ type: Number, nullable: true, example: null })
  readonly tokensPerMonth!: number | null;

  @ApiProperty({ type: Number, nullable: true, example: 500 })
  readonly agents!: number | null;

  @ApiProperty({ type: Number, nullable: true, example: null })
  readonly auditRetentionDays!: number | null;

  @ApiProperty({ type: Number, nullable: true, example: null })
  readonly webhooks!: number | null;
}

/** An organization as the operator sees it. */
export class OrganizationView {
  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ example: 'Acme' })
  readonly name!: string;

  @ApiProperty({ example: 'acme' })
  readonly slug!: string;

  @ApiProperty({ enum: TIERS })
  readonly tier!: string;

  @ApiProperty({ enum: ORGANIZATION_STATUSES })
  readonly status!: string;

  @ApiProperty({ type: OrganizationLimitsView })
  readonly limits!: OrganizationLimitsView;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt!: string;

  /** What the operator may see of an organization. */
  static of(organization: OrganizationEntity): OrganizationView {
    return {
      organizationId: organization.organizationId,
      name: organization.name,
      slug: organization.slug,
      tier: organization.tier,
      status: organization.status,
      limits: {
        tokensPerMonth: organization.limitTokensPerMonth,
        agents: organization.limitAgents,
        auditRetentionDays: organization.limitAuditRetentionDays,
        webhooks: organization.limitWebhooks,
      },
      createdAt: organization.createdAt.toISOString(),
      updatedAt: organization.updatedAt.toISOString(),
    };
  }
}

/** A page of organizations. */
export class OrganizationPage extends Page<OrganizationView> {
  @ApiProperty({ type: [OrganizationView] })
  declare readonly data: readonly OrganizationView[];
}

import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { Tier } from '../platform/kernel/tier.js';

/** Whether an organization may act. */
export const ORGANIZATION_STATUSES = ['active', 'suspended'] as const;
export type OrganizationStatus = (typeof ORGANIZATION_STATUSES)[number];

/** PostgreSQL's bigint, as the number that every limit fits in. */
const limit = {
  from: (value: string | null): number | null => (value === null ? null : Number(value)),
  to: (value: number | null): number | null => value,
};

/** A tenant. */
@Entity({ name: 'organizations' })
export class OrganizationEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @Column({ type: 'text' })
  name!: string;

  @Column({ type: 'text' })
  slug!: string;

  @Column({ type: 'text' })
  tier!: Tier;

  @Column({ type: 'text' })
  status!: OrganizationStatus;

  /** Whether it is the platform operator's own. */
  @Column({ name: 'is_operator', type: 'boolean' })
  isOperator!: boolean;

  /** Counts the acts that killed all of the organization's tokens at once. */
  @Column({ type: 'integer' })
  generation!: number;

  /** Limits of its own; null: the tier's. */
  @Column({ name: 'limit_tokens_per_month', type: 'bigint', nullable: true, transformer: limit })
  limitTokensPerMonth!: number | null;

  @Column({ name: 'limit_agents', type: 'bigint', nullable: true, transformer: limit })
  limitAgents!: number | null;

  @Column({ name: 'limit_audit_retention_days', type: 'bigint', nullable: true, transformer: limit })
  limitAuditRetentionDays!: number | null;

  @Column({ name: 'limit_webhooks', type: 'bigint', nullable: true, transformer: limit })
  limitWebhooks!: number | null;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}

import { Column, Entity, PrimaryColumn } from 'typeorm';

/** What an organization pays for; its limits stand in the table `tiers`. */
export type Tier = 'free' | 'pro' | 'enterprise';

/** Whether an organization may act. */
export type OrganizationStatus = 'active' | 'suspended';

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

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}

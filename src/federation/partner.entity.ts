import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { PublicJwk } from '../platform/jws/public-key.js';

/** The states of a partner: the assertions of a disabled one are refused. */
export const PARTNER_STATUSES = ['active', 'disabled'] as const;
export type PartnerStatus = (typeof PARTNER_STATUSES)[number];

/** An issuer whose assertions prove agents of an organization. */
@Entity({ name: 'federation_partners' })
export class PartnerEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ name: 'partner_id', type: 'uuid' })
  partnerId!: string;

  @Column({ type: 'text' })
  name!: string;

  /** Compared with `iss` letter by letter. It never changes: identities are trusted because of it. */
  @Column({ type: 'text' })
  issuer!: string;

  /** Where the keys are; null with `jwks` null: where the issuer's discovery document says. */
  @Column({ name: 'jwks_uri', type: 'text', nullable: true })
  jwksUri!: string | null;

  /** The keys themselves. */
  @Column({ type: 'jsonb', nullable: true })
  jwks!: readonly PublicJwk[] | null;

  /** What `aud` must name; null: our issuer. */
  @Column({ type: 'text', nullable: true })
  audience!: string | null;

  /** The signature algorithms that are taken; null: all that we know. */
  @Column({ type: 'text', array: true, nullable: true })
  algorithms!: string[] | null;

  /** Whether each of its assertions may be used once only. */
  @Column({ name: 'single_use', type: 'boolean' })
  singleUse!: boolean;

  @Column({ type: 'text' })
  status!: PartnerStatus;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}

/** What of a partner decides whether an assertion is one of its own. */
export type PartnerTrust = Pick<PartnerEntity, 'partnerId' | 'issuer' | 'jwksUri' | 'jwks' | 'audience' | 'algorithms'>;

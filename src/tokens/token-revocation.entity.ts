import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A token that was revoked by itself; kept until it would have expired anyway. */
@Entity({ name: 'token_revocations' })
export class TokenRevocationEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ type: 'uuid' })
  jti!: string;

  @Column({ name: 'expires_at', type: 'timestamptz' })
  expiresAt!: Date;
}

import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Where a signing key is in its life. */
export type SigningKeyPhase = 'next' | 'active' | 'retired' | 'revoked';

/** What a signing key signs; a key of one purpose is never taken for another. */
export type KeyPurpose = 'access_token' | 'audit';

/** A key that signs access tokens or audit checkpoints; its private half is sealed under the master key. */
@Entity({ name: 'signing_keys' })
export class SigningKeyEntity {
  @PrimaryColumn({ type: 'text' })
  kid!: string;

  @Column({ type: 'text' })
  purpose!: KeyPurpose;

  @Column({ type: 'text' })
  algorithm!: string;

  @Column({ type: 'text' })
  phase!: SigningKeyPhase;

  @Column({ name: 'public_jwk', type: 'jsonb' })
  publicJwk!: Record<string, unknown>;

  @Column({ name: 'sealed_private_key', type: 'bytea' })
  sealedPrivateKey!: Buffer;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'retired_at', type: 'timestamptz', nullable: true })
  retiredAt!: Date | null;
}

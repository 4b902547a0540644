import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { SigningAlgorithm } from '../platform/config/config.js';

/**
 * Where a signing key is in its life: published ahead of its use, signing, published for what it has signed, or revoked.
 */
export const SIGNING_KEY_PHASES = ['next', 'active', 'retired', 'revoked'] as const;
export type SigningKeyPhase = (typeof SIGNING_KEY_PHASES)[number];

/** What a signing key signs; a key of one purpose is never taken for another. */
export const KEY_PURPOSES = ['access_token', 'audit'] as const;
export type KeyPurpose = (typeof KEY_PURPOSES)[number];

/** A key that signs access tokens or audit checkpoints; its private half is sealed under the master key. */
@Entity({ name: 'signing_keys' })
export class SigningKeyEntity {
  @PrimaryColumn({ type: 'text' })
  kid!: string;

  @Column({ type: 'text' })
  purpose!: KeyPurpose;

  @Column({ type: 'text' })
  algorithm!: SigningAlgorithm;

  @Column({ type: 'text' })
  phase!: SigningKeyPhase;

  @Column({ name: 'public_jwk', type: 'jsonb' })
  publicJwk!: Record<string, unknown>;

  /** Empty once the key will never sign again. */
  @Column({ name: 'sealed_private_key', type: 'bytea' })
  sealedPrivateKey!: Buffer;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  /** Since when it is in the JWKS, by the clock of the database, as all instants here. */
  @Column({ name: 'published_at', type: 'timestamptz' })
  publishedAt!: Date;

  @Column({ name: 'activated_at', type: 'timestamptz', nullable: true })
  activatedAt!: Date | null;

  @Column({ name: 'retired_at', type: 'timestamptz', nullable: true })
  retiredAt!: Date | null;

  @Column({ name: 'revoked_at', type: 'timestamptz', nullable: true })
  revokedAt!: Date | null;

  /** The longest lifetime that a replica may have given a token of it. */
  @Column({ name: 'token_ttl_seconds', type: 'integer' })
  tokenTtlSeconds!: number;

  /** The longest that a replica may have let others keep the JWKS while it was published ahead. */
  @Column({ name: 'jwks_max_age_seconds', type: 'integer' })
  jwksMaxAgeSeconds!: number;
}

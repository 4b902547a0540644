import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { PublicJwk } from '../platform/jws/public-key.js';
import type { ClaimPattern } from './claim-pattern.js';

/** The ways of proving an agent: a client secret, a public key for `private_key_jwt`, a subject at a partner. */
export type CredentialKind = 'secret' | 'key' | 'federated';

/** The states of a credential. A `retiring` one works until `retiresAt` and counts as revoked from then on. */
export const CREDENTIAL_STATUSES = ['active', 'retiring', 'revoked'] as const;
export type CredentialStatus = (typeof CREDENTIAL_STATUSES)[number];

/** One way for an agent to prove itself. */
@Entity({ name: 'credentials' })
export class CredentialEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ name: 'agent_id', type: 'uuid' })
  agentId!: string;

  @PrimaryColumn({ name: 'credential_id', type: 'uuid' })
  credentialId!: string;

  @Column({ type: 'text' })
  kind!: CredentialKind;

  @Column({ type: 'text', nullable: true })
  name!: string | null;

  @Column({ type: 'text' })
  status!: CredentialStatus;

  /** Of a secret: its beginning. */
  @Column({ type: 'text', nullable: true })
  prefix!: string | null;

  @Column({ name: 'secret_hash', type: 'bytea', nullable: true })
  secretHash!: Buffer | null;

  /** Of a key. */
  @Column({ name: 'public_jwk', type: 'jsonb', nullable: true })
  publicJwk!: PublicJwk | null;

  /** Of a key: RFC 7638. */
  @Column({ type: 'text', nullable: true })
  thumbprint!: string | null;

  /** Of a federated identity, until its partner is deleted. */
  @Column({ name: 'partner_id', type: 'uuid', nullable: true })
  partnerId!: string | null;

  /** Of a federated identity: what `sub` must be. */
  @Column({ type: 'text', nullable: true })
  subject!: string | null;

  /** Of a federated identity: what other claims must be. */
  @Column({ type: 'jsonb', nullable: true })
  claims!: ClaimPattern | null;

  /** Compared with the one in its tokens: another one, and they are dead. */
  @Column({ type: 'integer' })
  generation!: number;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'expires_at', type: 'timestamptz', nullable: true })
  expiresAt!: Date | null;

  @Column({ name: 'retires_at', type: 'timestamptz', nullable: true })
  retiresAt!: Date | null;

  @Column({ name: 'revoked_at', type: 'timestamptz', nullable: true })
  revokedAt!: Date | null;

  @Column({ name: 'last_used_at', type: 'timestamptz', nullable: true })
  lastUsedAt!: Date | null;
}

/** The state that a credential is in at an instant: a retiring one is revoked once its overlap has passed. */
export function statusAt(credential: CredentialEntity, now: Date): CredentialStatus {
  const { status, retiresAt } = credential;
  return status === 'retiring' && retiresAt !== null && retiresAt <= now ? 'revoked' : status;
}

/** Whether a credential proves its agent at an instant. */
export function isUsable(
  credential: { status: CredentialStatus; expiresAt: Date | null; retiresAt: Date | null },
  now: Date,
): boolean {
  if (credential.status === 'revoked') return false;
  if (credential.retiresAt !== null && credential.retiresAt <= now) return false;
  return credential.expiresAt === null || credential.expiresAt > now;
}

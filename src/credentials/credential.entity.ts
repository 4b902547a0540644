import { Column, Entity, PrimaryColumn } from 'typeorm';

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
  kind!: 'secret';

  @Column({ type: 'text', nullable: true })
  name!: string | null;

  @Column({ type: 'text' })
  status!: CredentialStatus;

  @Column({ type: 'text' })
  prefix!: string;

  @Column({ name: 'secret_hash', type: 'bytea' })
  secretHash!: Buffer;

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

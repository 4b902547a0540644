import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { CREDENTIAL_STATUSES, statusAt, type CredentialEntity } from '../credential.entity.js';
import { CredentialMembers } from './credential-members.js';

/** A client secret as callers see it: never the secret itself. */
export class CredentialView extends CredentialMembers {
  @ApiProperty({ description: 'The beginning of the secret, to tell secrets apart.', example: 'sas_4fZk81Qw' })
  readonly prefix!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'When a retiring one stops working.' })
  readonly retiresAt!: string | null;

  /** What callers may see of a credential at an instant. */
  static of(credential: CredentialEntity, now: Date): CredentialView {
    const status = statusAt(credential, now);
    const revokedAt = credential.revokedAt ?? (status === 'revoked' ? credential.retiresAt : null);
    return {
      ...CredentialMembers.membersOf(credential),
      status,
      prefix: credential.prefix ?? '',
      retiresAt: credential.retiresAt?.toISOString() ?? null,
      revokedAt: revokedAt?.toISOString() ?? null,
    };
  }
}

/** A new secret, shown this once. */
export class IssuedCredentialView {
  @ApiProperty({ format: 'uuid' })
  readonly credentialId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly clientId!: string;

  @ApiProperty({ description: 'Shown this once.', example: 'sas_4fZk81Qw…' })
  readonly clientSecret!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly name!: string | null;

  @ApiProperty({ example: 'sas_4fZk81Qw' })
  readonly prefix!: string;

  @ApiProperty({ enum: CREDENTIAL_STATUSES })
  readonly status!: string;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  readonly expiresAt!: string | null;

  /** The one view of a credential that has its secret. */
  static of(credential: CredentialEntity, clientSecret: string): IssuedCredentialView {
    return {
      credentialId: credential.credentialId,
      clientId: credential.agentId,
      clientSecret,
      name: credential.name,
      prefix: credential.prefix ?? '',
      status: credential.status,
      createdAt: credential.createdAt.toISOString(),
      expiresAt: credential.expiresAt?.toISOString() ?? null,
    };
  }
}

/** A page of credentials. */
export class CredentialPage extends Page<CredentialView> {
  @ApiProperty({ type: [CredentialView] })
  declare readonly data: readonly CredentialView[];
}

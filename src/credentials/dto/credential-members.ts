import { ApiProperty } from '@nestjs/swagger';
import { CREDENTIAL_STATUSES, type CredentialEntity } from '../credential.entity.js';

/** What callers see of any credential, whatever its kind. */
export class CredentialMembers {
  @ApiProperty({ format: 'uuid' })
  readonly credentialId!: string;

  @ApiProperty({ format: 'uuid', description: 'The agent, as the OAuth client_id.' })
  readonly clientId!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly name!: string | null;

  @ApiProperty({ enum: CREDENTIAL_STATUSES })
  readonly status!: string;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  readonly expiresAt!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  readonly revokedAt!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'To the minute.' })
  readonly lastUsedAt!: string | null;

  /** These members of one credential. */
  static membersOf(credential: CredentialEntity): CredentialMembers {
    return {
      credentialId: credential.credentialId,
      clientId: credential.agentId,
      name: credential.name,
      status: credential.status,
      createdAt: credential.createdAt.toISOString(),
      expiresAt: credential.expiresAt?.toISOString() ?? null,
      revokedAt: credential.revokedAt?.toISOString() ?? null,
      lastUsedAt: credential.lastUsedAt?.toISOString() ?? null,
    };
  }
}

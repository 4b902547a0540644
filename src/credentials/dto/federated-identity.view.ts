import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import type { ClaimPattern } from '../claim-pattern.js';
import { CREDENTIAL_STATUSES, type CredentialEntity } from '../credential.entity.js';

/** A federated identity of an agent as callers see it. */
export class FederatedIdentityView {
  @ApiProperty({ format: 'uuid' })
  readonly credentialId!: string;

  @ApiProperty({ format: 'uuid', description: 'The agent, as the OAuth client_id.' })
  readonly clientId!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly name!: string | null;

  @ApiProperty({ format: 'uuid' })
  readonly partnerId!: string;

  @ApiProperty({ example: 'repo:octo-org/octo-repo:environment:production' })
  readonly subject!: string;

  @ApiProperty({ type: 'object', additionalProperties: true })
  readonly claims!: ClaimPattern;

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

  /** What callers may see of an identity. */
  static of(credential: CredentialEntity): FederatedIdentityView {
    return {
      credentialId: credential.credentialId,
      clientId: credential.agentId,
      name: credential.name,
      partnerId: credential.partnerId ?? '',
      subject: credential.subject ?? '',
      claims: credential.claims ?? {},
      status: credential.status,
      createdAt: credential.createdAt.toISOString(),
      expiresAt: credential.expiresAt?.toISOString() ?? null,
      revokedAt: credential.revokedAt?.toISOString() ?? null,
      lastUsedAt: credential.lastUsedAt?.toISOString() ?? null,
    };
  }
}

/** A page of federated identities. */
export class FederatedIdentityPage extends Page<FederatedIdentityView> {
  @ApiProperty({ type: [FederatedIdentityView] })
  declare readonly data: readonly FederatedIdentityView[];
}

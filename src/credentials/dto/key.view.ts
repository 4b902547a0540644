import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import type { PublicJwk } from '../../platform/jws/public-key.js';
import { CREDENTIAL_STATUSES, type CredentialEntity } from '../credential.entity.js';

/** A public key of an agent as callers see it. */
export class KeyView {
  @ApiProperty({ format: 'uuid' })
  readonly credentialId!: string;

  @ApiProperty({ format: 'uuid', description: 'The agent, as the OAuth client_id.' })
  readonly clientId!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly name!: string | null;

  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' } })
  readonly jwk!: PublicJwk;

  @ApiProperty({ description: 'RFC 7638, SHA-256.', example: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k' })
  readonly thumbprint!: string;

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

  /** What callers may see of a key: all of it, for it is public. */
  static of(credential: CredentialEntity): KeyView {
    return {
      credentialId: credential.credentialId,
      clientId: credential.agentId,
      name: credential.name,
      jwk: credential.publicJwk ?? {},
      thumbprint: credential.thumbprint ?? '',
      status: credential.status,
      createdAt: credential.createdAt.toISOString(),
      expiresAt: credential.expiresAt?.toISOString() ?? null,
      revokedAt: credential.revokedAt?.toISOString() ?? null,
      lastUsedAt: credential.lastUsedAt?.toISOString() ?? null,
    };
  }
}

/** A page of keys. */
export class KeyPage extends Page<KeyView> {
  @ApiProperty({ type: [KeyView] })
  declare readonly data: readonly KeyView[];
}

import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import type { PublicJwk } from '../../platform/jws/public-key.js';
import type { CredentialEntity } from '../credential.entity.js';
import { CredentialMembers } from './credential-members.js';

/** A public key of an agent as callers see it. */
export class KeyView extends CredentialMembers {
  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' } })
  readonly jwk!: PublicJwk;

  @ApiProperty({ description: 'RFC 7638, SHA-256.', example: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k' })
  readonly thumbprint!: string;

  /** What callers may see of a key: all of it, for it is public. */
  static of(credential: CredentialEntity): KeyView {
    return {
      ...CredentialMembers.membersOf(credential),
      jwk: credential.publicJwk ?? {},
      thumbprint: credential.thumbprint ?? '',
    };
  }
}

/** A page of keys. */
export class KeyPage extends Page<KeyView> {
  @ApiProperty({ type: [KeyView] })
  declare readonly data: readonly KeyView[];
}

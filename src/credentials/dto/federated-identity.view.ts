import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import type { ClaimPattern } from '../claim-pattern.js';
import type { CredentialEntity } from '../credential.entity.js';
import { CredentialMembers } from './credential-members.js';

/** A federated identity of an agent as callers see it. */
export class FederatedIdentityView extends CredentialMembers {
  @ApiProperty({ format: 'uuid' })
  readonly partnerId!: string;

  @ApiProperty({ example: 'repo:octo-org/octo-repo:environment:production' })
  readonly subject!: string;

  @ApiProperty({ type: 'object', additionalProperties: true })
  readonly claims!: ClaimPattern;

  /** What callers may see of an identity. */
  static of(credential: CredentialEntity): FederatedIdentityView {
    return {
      ...CredentialMembers.membersOf(credential),
      partnerId: credential.partnerId ?? '',
      subject: credential.subject ?? '',
      claims: credential.claims ?? {},
    };
  }
}

/** A page of federated identities. */
export class FederatedIdentityPage extends Page<FederatedIdentityView> {
  @ApiProperty({ type: [FederatedIdentityView] })
  declare readonly data: readonly FederatedIdentityView[];
}

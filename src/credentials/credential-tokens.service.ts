import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { isUuid } from '../platform/kernel/uuid.js';
import { CredentialTokensRepository } from './credential-tokens.repository.js';
import type { CredentialEntity } from './credential.entity.js';

export type { CredentialEntity } from './credential.entity.js';

/** Ends the tokens that credentials earned, for a room below, which holds the organization's lock and tells of it. */
@Injectable()
export class CredentialTokensService {
  constructor(private readonly repository: CredentialTokensRepository) {}

  /**
   * The credential that a token names in `cred`, of whatever kind and organization.
   *
   * @returns null where there is none, or an identity whose partner was deleted, which is gone with it
   */
  async find(credentialId: string): Promise<CredentialEntity | null> {
    const credential = isUuid(credentialId) ? await this.repository.find(credentialId.toLowerCase()) : null;
    return credential?.kind === 'federated' && credential.partnerId === null ? null : credential;
  }

  /**
   * Ends the tokens that a credential has earned so far, in one write; the credential works on.
   *
   * @param issuedBefore only those issued before this instant; null: all
   */
  end(transaction: EntityManager, credential: CredentialEntity, issuedBefore: Date | null): Promise<void> {
    return this.repository.end(transaction, credential, issuedBefore);
  }

  /** The same for all identities of a partner. */
  endOfPartner(
    transaction: EntityManager,
    organizationId: string,
    partnerId: string,
    issuedBefore: Date | null,
  ): Promise<void> {
    return this.repository.endOfPartner(transaction, organizationId, partnerId, issuedBefore);
  }

  /** All scopes of the agents that have an identity of a partner, or had one. */
  scopesOfPartner(reader: EntityManager, organizationId: string, partnerId: string): Promise<string[]> {
    return this.repository.scopesOfPartner(reader, organizationId, partnerId);
  }
}

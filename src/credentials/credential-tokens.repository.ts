import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { endTokens } from '../platform/database/token-cut.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { CredentialEntity } from './credential.entity.js';

/** All SQL on what credentials have earned. */
@Injectable()
export class CredentialTokensRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** The credential with an id, of whatever kind and organization; null where there is none. */
  find(credentialId: string): Promise<CredentialEntity | null> {
    return this.unitOfWork.reader.findOneBy(CredentialEntity, { credentialId });
  }

  /** Ends the tokens of one credential. */
  end(transaction: EntityManager, credential: CredentialEntity, issuedBefore: Date | null): Promise<void> {
    const { organizationId, agentId, credentialId } = credential;
    const where = { organization_id: organizationId, agent_id: agentId, credential_id: credentialId };
    return endTokens(transaction, { table: 'credentials', where }, issuedBefore);
  }

  /** Ends the tokens of all identities of a partner: revoked ones may have left tokens that live. */
  endOfPartner(
    transaction: EntityManager,
    organizationId: string,
    partnerId: string,
    issuedBefore: Date | null,
  ): Promise<void> {
    const where = { organization_id: organizationId, partner_id: partnerId };
    return endTokens(transaction, { table: 'credentials', where }, issuedBefore);
  }

  /** All scopes of the agents that have an identity of a partner, or had one. */
  async scopesOfPartner(reader: EntityManager, organizationId: string, partnerId: string): Promise<string[]> {
    const rows = await reader.query<{ scope: string }[]>(
      `SELECT DISTINCT unnest(a.scopes) AS scope FROM credentials c
        JOIN agents a ON a.organization_id = c.organization_id AND a.agent_id = c.agent_id
        WHERE c.organization_id = $1 AND c.partner_id = $2`,
      [organizationId, partnerId],
    );
    return rows.map(({ scope }) => scope);
  }
}

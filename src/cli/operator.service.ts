import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { AuditService } from '../audit/audit.service.js';
import { AgentsService } from '../agents/agents.service.js';
import { CredentialsService } from '../credentials/credentials.service.js';
import { KeysService } from '../keys/keys.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import type { BootstrapConfig } from '../platform/config/config.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { NO_ORIGIN } from '../platform/kernel/principal.js';

/** What an operator needs to get a token; the secret is shown once. */
export interface OperatorCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Makes the first operator, and helps one who has lost every secret. */
@Injectable()
export class OperatorService {
  constructor(
    private readonly organizations: OrganizationsService,
    private readonly agents: AgentsService,
    private readonly credentials: CredentialsService,
    private readonly keys: KeysService,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /**
   * Makes the operator organization and its first agent with a secret, where there is no operator organization yet.
   * Replicas that start together make one.
   *
   * @param fixed id and secret from the environment; made at random unless given
   * @returns what to show once, or null where an operator exists
   */
  ensure(fixed: BootstrapConfig | null): Promise<OperatorCredentials | null> {
    return this.unitOfWork.run(async (transaction) => {
      const { organizationId, created } = await this.organizations.ensureOperator(transaction);
      if (!created) return null;
      const agentId = fixed?.clientId ?? randomUUID();
      const agent = await this.agents.createOperator(transaction, organizationId, agentId);
      return this.credentials.createForOperator(transaction, agent, fixed?.clientSecret);
    });
  }

  /**
   * Makes a new key for checkpoints, told in the operator organization's log; the old one stays published.
   *
   * @returns the new key's `kid`
   */
  rotateAuditKey(): Promise<string> {
    return this.unitOfWork.run(async (transaction) => {
      const { organizationId } = await this.organizations.ensureOperator(transaction);
      const kid = await this.keys.rotateAuditKey(transaction);
      await this.audit.append(transaction, {
        organizationId,
        action: 'key.rotated',
        outcome: 'success',
        actor: null,
        target: { type: 'key', id: kid },
        origin: NO_ORIGIN,
        details: { purpose: 'audit' },
      });
      return kid;
    });
  }

  /**
   * Gives the operator a new secret, for when every one is lost: the oldest operator agent is active with all built-in
   * scopes again, and the secrets and tokens that it had are revoked. Where there is none left, a new one is made.
   */
  reset(): Promise<OperatorCredentials> {
    return this.unitOfWork.run(async (transaction) => {
      const { organizationId } = await this.organizations.ensureOperator(transaction);
      const agent = await this.agents.restoreOperator(transaction, organizationId);
      return this.credentials.createForOperator(transaction, agent);
    });
  }
}

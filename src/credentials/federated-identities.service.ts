import { Injectable } from '@nestjs/common';
import { isDeepStrictEqual } from 'node:util';
import { AgentsService } from '../agents/agents.service.js';
import { PartnersService } from '../federation/partners.service.js';
import type { Page } from '../platform/http/page.js';
import type { FieldFault } from '../platform/kernel/problem.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { claimPatternFaults, type ClaimPattern } from './claim-pattern.js';
import { CredentialLife } from './credential-life.js';
import type { CredentialEntity } from './credential.entity.js';
import { CredentialsRepository } from './credentials.repository.js';
import type { CreateFederatedIdentityBody } from './dto/federated-identity.bodies.js';
import { subjectPatternFault } from './subject-pattern.js';

/** Identities that hang on one partner: they end in one write when it is deleted. A bound, not a product limit. */
const MAX_OF_PARTNER = 20_000;

/** Which subjects at which partners prove an agent. */
@Injectable()
export class FederatedIdentitiesService {
  constructor(
    private readonly repository: CredentialsRepository,
    private readonly agents: AgentsService,
    private readonly partners: PartnersService,
    private readonly life: CredentialLife,
  ) {
    partners.dependedOnBy({
      scopes: (transaction, partner) => this.repository.scopesOfPartner(transaction, partner),
      end: (transaction, partner, now) => this.repository.revokeOfPartner(transaction, partner, now),
    });
  }

  /**
   * Lets a subject at a partner prove an agent.
   *
   * @throws Problem `validation_failed`, `not_found` also for a partner of somebody else, `insufficient_scope`,
   *   `limit_reached`, `conflict` for a decommissioned agent, and for an identity that the agent has
   */
  create(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    body: CreateFederatedIdentityBody,
  ): Promise<CredentialEntity> {
    const claims = (body.claims ?? {}) as ClaimPattern;
    const { subject } = body;
    const partnerId = body.partnerId.toLowerCase();
    refuseFaults(subject, claims);
    return this.agents.manage(caller, agentId, async (transaction, agent) => {
      const { organizationId } = agent;
      if ((await this.partners.find(transaction, organizationId, partnerId)) === null) throw problems.notFound;
      const others = await this.repository.unrevoked(transaction, organizationId, agent.agentId, 'federated');
      const isThere = others.some(
        (each) => each.partnerId === partnerId && each.subject === subject && isDeepStrictEqual(each.claims, claims),
      );
      if (isThere) throw problems.conflict.withDetail('The agent has this identity already.');
      const used = await this.repository.countOfPartner(transaction, organizationId, partnerId);
      if (used >= MAX_OF_PARTNER) {
        throw problems.limitReached
          .withDetail(`A partner may have ${MAX_OF_PARTNER} identities.`)
          .withExtensions({ limit: MAX_OF_PARTNER, used });
      }
      const proof = { partnerId, subject, claims };
      const credential = this.life.begin(
        agent,
        'federated',
        body.name ?? null,
        this.life.expiry(body.expiresAt),
        proof,
      );
      await this.life.store(transaction, agent, credential, caller.agentId, origin);
      return credential;
    });
  }

  /** One page of an agent's identities, newest first. */
  list(caller: Principal, agentId: string, limit: number, cursor: string | undefined): Promise<Page<CredentialEntity>> {
    return this.life.list(caller, agentId, 'federated', limit, cursor);
  }

  /**
   * Takes an identity from an agent, and the tokens that it earned unless they are to be kept.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` for the last operator's last credential
   */
  revoke(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    credentialId: string,
    keepTokens: boolean,
  ): Promise<void> {
    return this.life.revoke(caller, origin, agentId, 'federated', credentialId, keepTokens);
  }
}

function refuseFaults(subject: string, claims: ClaimPattern): void {
  const faults: FieldFault[] = claimPatternFaults(claims);
  const detail = subjectPatternFault(subject, Object.keys(claims).length > 0);
  if (detail !== null) faults.push({ pointer: '/subject', detail });
  if (faults.length > 0) throw problems.validationFailed.withErrors(...faults);
}

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AgentTokensService } from '../agents/agent-tokens.service.js';
import { AgentsService, type AgentEntity } from '../agents/agents.service.js';
import { CredentialTokensService, type CredentialEntity } from '../credentials/credential-tokens.service.js';
import { PartnersService } from '../federation/partners.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { insufficientScope, requireBuiltInScopes } from '../platform/kernel/grants.js';
import { isOperator, type Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { OPERATOR_SCOPE } from '../platform/kernel/scopes.js';
import type { RevocationSelector } from './dto/revocation.body.js';

/** Whose tokens are to die, found for a caller that may reach them. */
export type Subject =
  | { readonly kind: 'credential'; readonly organizationId: string; readonly credential: CredentialEntity }
  | { readonly kind: 'partner'; readonly organizationId: string; readonly partnerId: string; readonly issuer: string }
  | { readonly kind: 'agent'; readonly organizationId: string; readonly agentId: string }
  | { readonly kind: 'organization'; readonly organizationId: string };

/** What the audit log tells of a revocation. */
export interface SubjectEvent {
  readonly action: AuditAction;
  readonly target: { readonly type: string; readonly id: string };
  readonly details: Readonly<Record<string, AuditDetail>>;
}

const SUBJECT_MEMBERS = ['credentialId', 'keyId', 'partnerId', 'agentId', 'organizationId'] as const;

/** Finds whose tokens a selector names, tells whether a caller may end them, and ends them. */
@Injectable()
export class RevocationSubjects {
  constructor(
    private readonly organizations: OrganizationsService,
    private readonly agents: AgentsService,
    private readonly agentTokens: AgentTokensService,
    private readonly partners: PartnersService,
    private readonly credentials: CredentialTokensService,
  ) {}

  /**
   * What a selector names.
   *
   * @throws Problem `validation_failed` where it names none or several, `not_found` for what the caller may not reach,
   *   `insufficient_scope` for an organization
   */
  async find(caller: Principal, selector: RevocationSelector): Promise<Subject> {
    const named = SUBJECT_MEMBERS.filter((member) => selector[member] !== undefined);
    const [member, ...others] = named;
    if (member === undefined || others.length > 0) {
      const detail = `must name exactly one of ${SUBJECT_MEMBERS.join(', ')}`;
      throw problems.validationFailed.withErrors({ pointer: '/selector', detail });
    }
    const id = selector[member] ?? '';
    switch (member) {
      case 'credentialId':
        return this.credential(caller, id);
      case 'keyId':
        return this.credential(caller, id, 'key');
      case 'partnerId': {
        const { organizationId, partnerId, issuer } = await this.partners.read(caller, id);
        return { kind: 'partner', organizationId, partnerId, issuer };
      }
      case 'agentId': {
        const { organizationId, agentId } = await this.agents.read(caller, id);
        return { kind: 'agent', organizationId, agentId };
      }
      case 'organizationId': {
        if (!isOperator(caller)) throw insufficientScope([OPERATOR_SCOPE]);
        const { organizationId } = await this.organizations.read(id);
        return { kind: 'organization', organizationId };
      }
    }
  }

  /**
   * Refuses a caller that lacks a built-in scope of an agent whose tokens would die: nobody acts on an agent that is
   * stronger.
   *
   * @param reader the transaction that holds the organization's lock, where the answer must not change any more
   * @throws Problem `insufficient_scope`
   */
  async requireScopes(reader: EntityManager, caller: Principal, subject: Subject): Promise<void> {
    requireBuiltInScopes(caller, await this.scopesConcerned(reader, caller, subject));
  }

  /**
   * Ends the tokens, under the lock of the organization.
   *
   * @param issuedBefore only those issued before this instant; null: all so far
   * @throws Problem `not_found` where a partner was deleted meanwhile
   */
  async end(transaction: EntityManager, subject: Subject, issuedBefore: Date | null): Promise<void> {
    const { organizationId } = subject;
    switch (subject.kind) {
      case 'credential':
        return this.credentials.end(transaction, subject.credential, issuedBefore);
      case 'partner':
        if ((await this.partners.find(transaction, organizationId, subject.partnerId)) === null) {
          throw problems.notFound;
        }
        return this.credentials.endOfPartner(transaction, organizationId, subject.partnerId, issuedBefore);
      case 'agent':
        return this.agentTokens.end(
          transaction,
          await this.agentOf(transaction, organizationId, subject.agentId),
          issuedBefore,
        );
      case 'organization':
        return this.organizations.endTokens(transaction, organizationId, issuedBefore);
    }
  }

  /**
   * Whether the log still tells what a subject has earned: credentials of a partner that is deleted no longer name it.
   *
   * @param reader asked after the count
   */
  async isCountable(reader: EntityManager, subject: Subject): Promise<boolean> {
    if (subject.kind !== 'partner') return true;
    return (await this.partners.find(reader, subject.organizationId, subject.partnerId)) !== null;
  }

  private async credential(caller: Principal, id: string, kind?: 'key'): Promise<Subject> {
    const credential = await this.credentials.find(id);
    const isTheirs = credential?.organizationId === caller.organizationId || isOperator(caller);
    if (credential === null || !isTheirs || (kind !== undefined && credential.kind !== kind)) throw problems.notFound;
    return { kind: 'credential', organizationId: credential.organizationId, credential };
  }

  private async scopesConcerned(
    reader: EntityManager,
    caller: Principal,
    subject: Subject,
  ): Promise<readonly string[]> {
    const { organizationId } = subject;
    switch (subject.kind) {
      case 'credential':
        return (await this.agentOf(reader, organizationId, subject.credential.agentId)).scopes;
      case 'partner':
        return this.credentials.scopesOfPartner(reader, organizationId, subject.partnerId);
      case 'agent':
        return (await this.agentOf(reader, organizationId, subject.agentId)).scopes;
      case 'organization':
        return this.agentTokens.beyond(reader, caller, organizationId);
    }
  }

  private async agentOf(reader: EntityManager, organizationId: string, agentId: string): Promise<AgentEntity> {
    const agent = await this.agents.find(reader, organizationId, agentId);
    if (agent === null) throw problems.notFound;
    return agent;
  }
}

/** What the audit log tells of the end of a subject's tokens. */
export function eventOf(subject: Subject): SubjectEvent {
  switch (subject.kind) {
    case 'credential': {
      const { credentialId, agentId, kind } = subject.credential;
      const target = { type: 'credential', id: credentialId };
      return { action: 'credential.tokens_revoked', target, details: { agentId, kind } };
    }
    case 'partner': {
      const { partnerId, issuer } = subject;
      return { action: 'federation.tokens_revoked', target: { type: 'partner', id: partnerId }, details: { issuer } };
    }
    case 'agent':
      return { action: 'agent.tokens_revoked', target: { type: 'agent', id: subject.agentId }, details: {} };
    case 'organization': {
      const target = { type: 'organization', id: subject.organizationId };
      return { action: 'organization.tokens_revoked', target, details: {} };
    }
  }
}

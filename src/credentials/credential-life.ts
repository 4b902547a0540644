import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AgentsService, type AgentEntity } from '../agents/agents.service.js';
import { AuditService } from '../audit/audit.service.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import type { CredentialEntity, CredentialKind } from './credential.entity.js';
import { CredentialsRepository } from './credentials.repository.js';

/** Credentials of a kind that one agent may have unrevoked at one time: bounds, not product limits. */
const MAX_UNREVOKED: Readonly<Record<CredentialKind, number>> = { secret: 100, key: 20, federated: 50 };

const PLURALS: Readonly<Record<CredentialKind, string>> = {
  secret: 'secrets',
  key: 'keys',
  federated: 'federated identities',
};

/** What of a credential depends on its kind. */
export type Proof = Partial<
  Pick<CredentialEntity, 'prefix' | 'secretHash' | 'publicJwk' | 'thumbprint' | 'partnerId' | 'subject' | 'claims'>
>;

/** What all kinds of credentials have in common: how they begin, how they are listed, how they end. */
@Injectable()
export class CredentialLife {
  constructor(
    private readonly repository: CredentialsRepository,
    private readonly agents: AgentsService,
    private readonly audit: AuditService,
    private readonly clock: Clock,
  ) {}

  /** A new credential of an agent, not yet stored. */
  begin(
    { organizationId, agentId }: AgentEntity,
    kind: CredentialKind,
    name: string | null,
    expiresAt: Date | null,
    proof: Proof,
  ): CredentialEntity {
    return {
      organizationId,
      agentId,
      credentialId: randomUUID(),
      kind,
      name,
      status: 'active',
      prefix: null,
      secretHash: null,
      publicJwk: null,
      thumbprint: null,
      partnerId: null,
      subject: null,
      claims: null,
      ...proof,
      generation: 1,
      createdAt: this.clock.now(),
      expiresAt,
      retiresAt: null,
      revokedAt: null,
      lastUsedAt: null,
    };
  }

  /**
   * Stores a new credential with its event, for an agent that may have one.
   *
   * @throws Problem `conflict` for a decommissioned agent, `limit_reached`
   */
  async store(
    transaction: EntityManager,
    agent: AgentEntity,
    credential: CredentialEntity,
    actor: string | null,
    origin: RequestOrigin,
  ): Promise<void> {
    if (agent.status === 'decommissioned') {
      throw problems.conflict.withDetail('A decommissioned agent gets no credentials.');
    }
    await this.requireRoom(transaction, agent, credential.kind);
    await this.repository.insert(transaction, credential);
    const expiresAt = credential.expiresAt?.toISOString() ?? null;
    await this.log(transaction, credential, 'credential.created', actor, origin, { expiresAt });
  }

  /** One page of an agent's credentials of a kind, newest first. */
  async list(
    caller: Principal,
    agentId: string,
    kind: CredentialKind,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<CredentialEntity>> {
    const agent = await this.agents.read(caller, agentId);
    const list = `${kind === 'secret' ? 'credentials' : kind}:${agent.agentId}`;
    const [createdAt, credentialId] =
      cursor === undefined ? [] : decodeCursor(list, cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || credentialId === undefined ? undefined : { createdAt, credentialId };
    const found = await this.repository.list(agent.organizationId, agent.agentId, kind, after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.credentialId]));
  }

  /**
   * Revokes a credential, and the tokens that it earned unless they are to be kept.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` for the last operator's last credential
   */
  async revoke(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    kind: CredentialKind,
    credentialId: string,
    keepTokens: boolean,
  ): Promise<void> {
    await this.agents.manage(caller, agentId, async (transaction, agent) => {
      const credential = await this.find(transaction, agent, kind, credentialId);
      if (credential.status === 'revoked' && keepTokens) return;
      credential.status = 'revoked';
      credential.revokedAt ??= this.clock.now();
      if (!keepTokens) credential.generation += 1;
      await this.repository.update(transaction, credential);
      await this.log(transaction, credential, 'credential.revoked', caller.agentId, origin, { keepTokens });
    });
  }

  /**
   * A credential of an agent, under the lock of its organization.
   *
   * @throws Problem `not_found`
   */
  async find(
    transaction: EntityManager,
    { organizationId, agentId }: AgentEntity,
    kind: CredentialKind,
    credentialId: string,
  ): Promise<CredentialEntity> {
    const credential = isUuid(credentialId)
      ? await this.repository.find(transaction, organizationId, agentId, kind, credentialId.toLowerCase())
      : null;
    // An identity whose partner was deleted is gone with it.
    if (credential === null || (kind === 'federated' && credential.partnerId === null)) throw problems.notFound;
    return credential;
  }

  /**
   * The instant at which a credential is to expire.
   *
   * @throws Problem `validation_failed` where it has passed
   */
  expiry(text: string | null | undefined): Date | null {
    if (text === null || text === undefined) return null;
    const expiresAt = new Date(text);
    if (!(expiresAt > this.clock.now())) {
      throw problems.validationFailed.withErrors({ pointer: '/expiresAt', detail: 'must be in the future' });
    }
    return expiresAt;
  }

  /** @throws Problem `limit_reached` where an agent has as many of a kind as it may */
  async requireRoom(transaction: EntityManager, agent: AgentEntity, kind: CredentialKind): Promise<void> {
    const { organizationId, agentId } = agent;
    const used = await this.repository.countUnrevoked(transaction, organizationId, agentId, kind, this.clock.now());
    const limit = MAX_UNREVOKED[kind];
    if (used < limit) return;
    throw problems.limitReached
      .withDetail(`An agent may have ${limit} ${PLURALS[kind]} that are not revoked.`)
      .withExtensions({ limit, used });
  }

  /** Appends the event of an act on a credential. */
  async log(
    transaction: EntityManager,
    credential: CredentialEntity,
    action: AuditAction,
    actor: string | null,
    origin: RequestOrigin,
    details: Record<string, AuditDetail>,
  ): Promise<void> {
    await this.audit.append(transaction, {
      organizationId: credential.organizationId,
      action,
      outcome: 'success',
      actor,
      target: { type: 'credential', id: credential.credentialId },
      origin,
      details: { agentId: credential.agentId, ...marksOf(credential), ...details },
    });
  }
}

/** What tells a credential from others, none of it secret. */
function marksOf({ kind, prefix, thumbprint, partnerId, subject }: CredentialEntity): Record<string, AuditDetail> {
  switch (kind) {
    case 'secret':
      return { prefix };
    case 'key':
      return { kind, thumbprint };
    case 'federated':
      return { kind, partnerId, subject };
  }
}

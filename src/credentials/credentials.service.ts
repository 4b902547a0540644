import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AgentsService, type AgentEntity } from '../agents/agents.service.js';
import { AuditService } from '../audit/audit.service.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import { isUsable, type CredentialEntity } from './credential.entity.js';
import { CredentialsRepository } from './credentials.repository.js';
import type { CreateCredentialBody, RotateCredentialBody } from './dto/credential.bodies.js';
import { CredentialView, IssuedCredentialView } from './dto/credential.view.js';
import { generateSecret, prefixOf } from './secret-format.js';
import { SecretHasher } from './secret-hasher.js';

/** Secrets of one agent that may be unrevoked at one time: a bound, not a product limit. */
const MAX_UNREVOKED = 100;

/** The secrets of agents: made, rotated, revoked. */
@Injectable()
export class CredentialsService {
  constructor(
    private readonly repository: CredentialsRepository,
    private readonly agents: AgentsService,
    private readonly hasher: SecretHasher,
    private readonly audit: AuditService,
    private readonly clock: Clock,
  ) {
    agents.whenDecommissioned((transaction, agent, now) => this.repository.revokeAll(transaction, agent, now));
  }

  /** Loads what secrets are hashed with. Called once before the service listens. */
  prepare(): Promise<void> {
    return this.hasher.prepare();
  }

  /**
   * Makes a secret for an agent.
   *
   * @returns the credential with its secret, which is shown this once
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` for a decommissioned agent, `limit_reached`,
   *   `validation_failed` for an expiry that has passed
   */
  create(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    body: CreateCredentialBody,
  ): Promise<IssuedCredentialView> {
    return this.agents.manage(caller, agentId, async (transaction, agent) => {
      if (agent.status === 'decommissioned') throw conflict('A decommissioned agent gets no credentials.');
      await this.requireRoom(transaction, agent);
      const expiresAt = this.expiry(body.expiresAt ?? null);
      const { credential, secret } = this.newCredential(agent, body.name ?? null, expiresAt, generateSecret());
      await this.repository.insert(transaction, credential);
      await this.log(transaction, credential, 'credential.created', caller.agentId, origin, expiryOf(credential));
      return IssuedCredentialView.of(credential, secret);
    });
  }

  /**
   * Gives an agent a secret without a caller: for the bootstrap and the operator's commands only.
   *
   * @param secret the secret, where the environment fixes it
   */
  async createForOperator(
    transaction: EntityManager,
    agent: AgentEntity,
    secret: string = generateSecret(),
  ): Promise<IssuedCredentialView> {
    const { credential } = this.newCredential(agent, 'operator', null, secret);
    await this.repository.insert(transaction, credential);
    await this.log(transaction, credential, 'credential.created', null, NO_ORIGIN, expiryOf(credential));
    return IssuedCredentialView.of(credential, secret);
  }

  /** One page of an agent's secrets, newest first; never a secret itself. */
  async list(
    caller: Principal,
    agentId: string,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<CredentialView>> {
    const agent = await this.agents.read(caller, agentId);
    const list = `credentials:${agent.agentId}`;
    const [createdAt, credentialId] =
      cursor === undefined ? [] : decodeCursor(list, cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || credentialId === undefined ? undefined : { createdAt, credentialId };
    const found = await this.repository.list(agent.organizationId, agent.agentId, after, limit + 1);
    const now = this.clock.now();
    const page = pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.credentialId]));
    return { data: page.data.map((credential) => CredentialView.of(credential, now)), nextCursor: page.nextCursor };
  }

  /**
   * Replaces a secret by a new one with the same name and expiry. The old one works on for the overlap; tokens that it
   * earned live on. A client that authenticated itself may rotate the very secret that it showed, and no other.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` where the secret no longer works or retires already
   */
  rotate(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    credentialId: string,
    body: RotateCredentialBody,
  ): Promise<IssuedCredentialView> {
    const ownSecret = caller.agentId === agentId.toLowerCase() && caller.credentialId === credentialId.toLowerCase();
    if (caller.method === 'client_authentication' && !ownSecret) {
      throw problems.insufficientScope.withDetail('A client may rotate only the very secret that it shows.');
    }
    return this.agents.manage(caller, agentId, async (transaction, agent) => {
      const old = await this.findOrRefuse(transaction, agent, credentialId);
      // It may have been suspended while its request waited.
      if (caller.method === 'client_authentication' && agent.status !== 'active') throw problems.invalidToken;
      const now = this.clock.now();
      if (old.status !== 'active' || !isUsable(old, now)) {
        throw conflict('Only a secret that works and does not retire yet can be rotated.');
      }
      const overlapSeconds = body.overlapSeconds ?? 0;
      const { credential, secret } = this.newCredential(agent, old.name, old.expiresAt, generateSecret());
      if (overlapSeconds > 0) await this.requireRoom(transaction, agent);
      await this.repository.insert(transaction, credential);
      if (overlapSeconds > 0) {
        old.status = 'retiring';
        old.retiresAt = new Date(now.getTime() + overlapSeconds * 1000);
      } else {
        old.status = 'revoked';
        old.revokedAt = now;
      }
      await this.repository.update(transaction, old);
      const details = { newCredentialId: credential.credentialId, overlapSeconds };
      await this.log(transaction, old, 'credential.rotated', caller.agentId, origin, details);
      return IssuedCredentialView.of(credential, secret);
    });
  }

  /**
   * Revokes a secret, and the tokens that it earned unless they are to be kept.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` for the last operator's last secret
   */
  async revoke(
    caller: Principal,
    origin: RequestOrigin,
    agentId: string,
    credentialId: string,
    keepTokens: boolean,
  ): Promise<void> {
    await this.agents.manage(caller, agentId, async (transaction, agent) => {
      const credential = await this.findOrRefuse(transaction, agent, credentialId);
      if (credential.status === 'revoked' && keepTokens) return;
      credential.status = 'revoked';
      credential.revokedAt ??= this.clock.now();
      if (!keepTokens) credential.generation += 1;
      await this.repository.update(transaction, credential);
      await this.log(transaction, credential, 'credential.revoked', caller.agentId, origin, { keepTokens });
    });
  }

  private async findOrRefuse(
    transaction: EntityManager,
    agent: AgentEntity,
    credentialId: string,
  ): Promise<CredentialEntity> {
    if (!isUuid(credentialId)) throw problems.notFound;
    const { organizationId, agentId } = agent;
    const credential = await this.repository.find(transaction, organizationId, agentId, credentialId.toLowerCase());
    if (credential === null) throw problems.notFound;
    return credential;
  }

  private newCredential(
    agent: AgentEntity,
    name: string | null,
    expiresAt: Date | null,
    secret: string,
  ): { credential: CredentialEntity; secret: string } {
    const credential: CredentialEntity = {
      organizationId: agent.organizationId,
      agentId: agent.agentId,
      credentialId: randomUUID(),
      kind: 'secret',
      name,
      status: 'active',
      prefix: prefixOf(secret),
      secretHash: this.hasher.digest(secret),
      generation: 1,
      createdAt: this.clock.now(),
      expiresAt,
      retiresAt: null,
      revokedAt: null,
      lastUsedAt: null,
    };
    return { credential, secret };
  }

  private expiry(text: string | null): Date | null {
    if (text === null) return null;
    const expiresAt = new Date(text);
    if (!(expiresAt > this.clock.now())) {
      throw problems.validationFailed.withErrors({ pointer: '/expiresAt', detail: 'must be in the future' });
    }
    return expiresAt;
  }

  private async requireRoom(transaction: EntityManager, agent: AgentEntity): Promise<void> {
    const used = await this.repository.countUnrevoked(
      transaction,
      agent.organizationId,
      agent.agentId,
      this.clock.now(),
    );
    if (used < MAX_UNREVOKED) return;
    throw problems.limitReached
      .withDetail(`An agent may have ${MAX_UNREVOKED} secrets that are not revoked.`)
      .withExtensions({ limit: MAX_UNREVOKED, used });
  }

  private async log(
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
      details: { agentId: credential.agentId, prefix: credential.prefix, ...details },
    });
  }
}

function expiryOf(credential: CredentialEntity): Record<string, AuditDetail> {
  return { expiresAt: credential.expiresAt?.toISOString() ?? null };
}

function conflict(detail: string) {
  return problems.conflict.withDetail(detail);
}

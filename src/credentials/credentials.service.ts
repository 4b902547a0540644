import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AgentsService, type AgentEntity } from '../agents/agents.service.js';
import type { Page } from '../platform/http/page.js';
import { Clock } from '../platform/kernel/clock.js';
import { NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUsable, type CredentialEntity } from './credential.entity.js';
import { CredentialLife } from './credential-life.js';
import { CredentialsRepository } from './credentials.repository.js';
import type { CreateCredentialBody, RotateCredentialBody } from './dto/credential.bodies.js';
import { CredentialView, IssuedCredentialView } from './dto/credential.view.js';
import { generateSecret, prefixOf } from './secret-format.js';
import { SecretHasher } from './secret-hasher.js';

/** The secrets of agents: made, rotated, revoked. */
@Injectable()
export class CredentialsService {
  constructor(
    private readonly repository: CredentialsRepository,
    private readonly agents: AgentsService,
    private readonly hasher: SecretHasher,
    private readonly life: CredentialLife,
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
      const expiresAt = this.life.expiry(body.expiresAt);
      const { credential, secret } = this.newCredential(agent, body.name ?? null, expiresAt, generateSecret());
      await this.life.store(transaction, agent, credential, caller.agentId, origin);
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
    await this.life.store(transaction, agent, credential, null, NO_ORIGIN);
    return IssuedCredentialView.of(credential, secret);
  }

  /** One page of an agent's secrets, newest first; never a secret itself. */
  async list(
    caller: Principal,
    agentId: string,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<CredentialView>> {
    const page = await this.life.list(caller, agentId, 'secret', limit, cursor);
    const now = this.clock.now();
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
      const old = await this.life.find(transaction, agent, 'secret', credentialId);
      // It may have been suspended while its request waited.
      if (caller.method === 'client_authentication' && agent.status !== 'active') throw problems.invalidToken;
      const now = this.clock.now();
      if (old.status !== 'active' || !isUsable(old, now)) {
        throw conflict('Only a secret that works and does not retire yet can be rotated.');
      }
      const overlapSeconds = body.overlapSeconds ?? 0;
      const { credential, secret } = this.newCredential(agent, old.name, old.expiresAt, generateSecret());
      if (overlapSeconds > 0) await this.life.requireRoom(transaction, agent, 'secret');
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
      await this.life.log(transaction, old, 'credential.rotated', caller.agentId, origin, details);
      return IssuedCredentialView.of(credential, secret);
    });
  }

  /**
   * Revokes a secret, and the tokens that it earned unless they are to be kept.
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
    return this.life.revoke(caller, origin, agentId, 'secret', credentialId, keepTokens);
  }

  private newCredential(
    agent: AgentEntity,
    name: string | null,
    expiresAt: Date | null,
    secret: string,
  ): { credential: CredentialEntity; secret: string } {
    const proof = { prefix: prefixOf(secret), secretHash: this.hasher.digest(secret) };
    return { credential: this.life.begin(agent, 'secret', name, expiresAt, proof), secret };
  }
}

function conflict(detail: string) {
  return problems.conflict.withDetail(detail);
}

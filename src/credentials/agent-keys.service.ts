import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AgentsService, type AgentEntity } from '../agents/agents.service.js';
import type { Page } from '../platform/http/page.js';
import { parsePublicJwk, type PublicKey } from '../platform/jws/public-key.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { CredentialLife } from './credential-life.js';
import type { CredentialEntity } from './credential.entity.js';
import { CredentialsRepository } from './credentials.repository.js';
import type { CreateKeyBody } from './dto/key.bodies.js';

/** The public keys of agents, for `private_key_jwt`. */
@Injectable()
export class AgentKeysService {
  constructor(
    private readonly repository: CredentialsRepository,
    private readonly agents: AgentsService,
    private readonly life: CredentialLife,
  ) {}

  /**
   * Gives an agent a public key.
   *
   * @throws Problem `validation_failed` for a key that is not fit, `not_found`, `insufficient_scope`, `limit_reached`,
   *   `conflict` for a decommissioned agent, and for a key or a `kid` that the agent has
   */
  create(caller: Principal, origin: RequestOrigin, agentId: string, body: CreateKeyBody): Promise<CredentialEntity> {
    const key = parsePublicJwk(body.jwk);
    if (typeof key === 'string') {
      throw problems.validationFailed.withErrors({ pointer: '/jwk', detail: `the key ${key}` });
    }
    return this.agents.manage(caller, agentId, async (transaction, agent) => {
      await this.refuseTaken(transaction, agent, key);
      const proof = { publicJwk: key.jwk, thumbprint: key.thumbprint };
      const credential = this.life.begin(agent, 'key', body.name ?? null, this.life.expiry(body.expiresAt), proof);
      await this.life.store(transaction, agent, credential, caller.agentId, origin);
      return credential;
    });
  }

  /** One page of an agent's keys, newest first. */
  list(caller: Principal, agentId: string, limit: number, cursor: string | undefined): Promise<Page<CredentialEntity>> {
    return this.life.list(caller, agentId, 'key', limit, cursor);
  }

  /**
   * Takes a key from an agent, and the tokens that it earned unless they are to be kept.
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
    return this.life.revoke(caller, origin, agentId, 'key', credentialId, keepTokens);
  }

  /** A `kid` names one key of an agent. */
  private async refuseTaken(transaction: EntityManager, agent: AgentEntity, key: PublicKey): Promise<void> {
    const { organizationId, agentId } = agent;
    const keys = await this.repository.unrevoked(transaction, organizationId, agentId, 'key');
    if (keys.some(({ thumbprint }) => thumbprint === key.thumbprint)) {
      throw problems.conflict.withDetail('The agent has this key already.');
    }
    if (key.kid !== null && keys.some(({ publicJwk }) => publicJwk?.['kid'] === key.kid)) {
      throw problems.conflict.withDetail('The agent has a key with this kid.');
    }
  }
}

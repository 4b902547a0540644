import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Clock } from '../platform/kernel/clock.js';
import { BUILT_IN_SCOPE_NAMES } from '../platform/kernel/scopes.js';
import type { Principal } from '../platform/kernel/principal.js';
import { firstUuidAt } from '../platform/kernel/uuid.js';
import { killTokens } from './agent-changes.js';
import { AgentTokensRepository } from './agent-tokens.repository.js';
import type { AgentEntity } from './agent.entity.js';
import { AgentsRepository } from './agents.repository.js';

/** Ends the tokens of agents for a room below, which holds the organization's lock and tells of it. */
@Injectable()
export class AgentTokensService {
  constructor(
    private readonly repository: AgentTokensRepository,
    private readonly agents: AgentsRepository,
    private readonly clock: Clock,
  ) {}

  /**
   * Ends the tokens that an agent has been issued so far, in one write.
   *
   * @param issuedBefore only those issued before this instant; null: all
   */
  async end(transaction: EntityManager, agent: AgentEntity, issuedBefore: Date | null): Promise<void> {
    const now = this.clock.now();
    if (issuedBefore === null) {
      killTokens(agent, now);
      await this.agents.update(transaction, agent);
    } else {
      const { organizationId, agentId } = agent;
      await this.repository.endEarlier(transaction, organizationId, agentId, firstUuidAt(issuedBefore), now);
    }
  }

  /** The built-in scopes that agents of an organization hold and a caller lacks. */
  async beyond(reader: EntityManager, caller: Principal, organizationId: string): Promise<string[]> {
    const lacked = BUILT_IN_SCOPE_NAMES.filter((scope) => !caller.scopes.has(scope));
    return lacked.length === 0 ? [] : this.repository.heldOf(reader, organizationId, lacked);
  }
}

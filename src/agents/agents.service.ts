import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { lockOrganization, lockOrganizationFor } from '../platform/database/organization-lock.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { holdsAllBuiltInScopes, insufficientScope, requireBuiltInScopes } from '../platform/kernel/grants.js';
import { isOperator, NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { BUILT_IN_SCOPE_NAMES, isBuiltInScope } from '../platform/kernel/scopes.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import { ResourcesService } from '../resources/resources.service.js';
import { AgentReader } from './agent-reader.js';
import { applyChanges, changes, killTokens, newAgent } from './agent-changes.js';
import type { AgentEntity } from './agent.entity.js';
import { AgentsRepository, type AgentFilter } from './agents.repository.js';
import type { CreateAgentBody } from './dto/create-agent.body.js';
import type { UpdateAgentBody } from './dto/update-agent.body.js';

export type { AgentEntity } from './agent.entity.js';

/** What an act on an agent does within its transaction. */
type AgentAct<T> = (transaction: EntityManager, agent: AgentEntity) => Promise<T>;

/** Ends what belongs to an agent that is decommissioned. */
type EndOfAgent = (transaction: EntityManager, agent: AgentEntity, now: Date) => Promise<void>;

/** Agent identities, the scopes they are granted, and their life from registration to decommissioning. */
@Injectable()
export class AgentsService {
  private readonly endings: EndOfAgent[] = [];

  constructor(
    private readonly repository: AgentsRepository,
    private readonly reader: AgentReader,
    private readonly organizations: OrganizationsService,
    private readonly resources: ResourcesService,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
  ) {
    resources.whenScopesAreRemoved((...removal) => this.repository.takeScopes(...removal));
    organizations.aroundSuspension((transaction) => this.watchOperators(transaction));
  }

  /** Lets a room below end what belongs to an agent when it is decommissioned, in the same transaction. */
  whenDecommissioned(end: EndOfAgent): void {
    this.endings.push(end);
  }

  /**
   * Registers an agent in the caller's organization, or, for the operator, in the one that the body names.
   *
   * @throws Problem `insufficient_scope`, `limit_reached`, `not_found`
   */
  async create(caller: Principal, origin: RequestOrigin, body: CreateAgentBody): Promise<AgentEntity> {
    const organizationId = organizationFor(caller, body.organizationId);
    requireBuiltInScopes(caller, body.scopes ?? []);
    return this.unitOfWork.run(async (transaction) => {
      if (!(await lockOrganizationFor(transaction, caller, organizationId))) throw problems.notFound;
      await this.requireDeclared(transaction, organizationId, body.scopes ?? []);
      await this.requireRoomForAgent(transaction, organizationId);
      const agent = newAgent(organizationId, randomUUID(), body, this.clock.now());
      await this.insert(transaction, agent, caller.agentId, origin);
      return agent;
    });
  }

  /**
   * Registers the first operator agent, with all built-in scopes. For the bootstrap and the operator's commands only.
   */
  async createOperator(transaction: EntityManager, organizationId: string, agentId: string): Promise<AgentEntity> {
    const body = { name: 'Operator', scopes: [...BUILT_IN_SCOPE_NAMES] };
    const agent = newAgent(organizationId, agentId, body, this.clock.now());
    await this.insert(transaction, agent, null, NO_ORIGIN);
    return agent;
  }

  /**
   * Brings the oldest operator agent of an organization back: active, with all built-in scopes, its secrets and tokens
   * revoked. Makes one where there is none. For the operator's commands only.
   */
  async restoreOperator(transaction: EntityManager, organizationId: string): Promise<AgentEntity> {
    await lockOrganization(transaction, organizationId);
    const agent = await this.repository.findOldestOperator(transaction, organizationId);
    if (agent === null) return this.createOperator(transaction, organizationId, randomUUID());
    agent.status = 'active';
    agent.scopes = [...new Set([...agent.scopes, ...BUILT_IN_SCOPE_NAMES])];
    killTokens(agent, this.clock.now());
    await this.repository.update(transaction, agent);
    for (const end of this.endings) await end(transaction, agent, agent.updatedAt);
    const details = { cause: 'operator_reset', secretsRevoked: true };
    await this.log(transaction, agent, 'agent.tokens_revoked', null, NO_ORIGIN, details);
    return agent;
  }

  /** One page of an organization's agents, newest first. */
  async list(
    caller: Principal,
    organizationId: string | undefined,
    filter: AgentFilter,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<AgentEntity>> {
    const organization = organizationFor(caller, organizationId);
    const list = `agents:${organization}`;
    const [createdAt, agentId] = cursor === undefined ? [] : decodeCursor(list, cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || agentId === undefined ? undefined : { createdAt, agentId };
    const found = await this.repository.list(organization, filter, after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.agentId]));
  }

  /**
   * One agent of the caller's organization; the operator reads any.
   *
   * @throws Problem `not_found`
   */
  async read(caller: Principal, agentId: string): Promise<AgentEntity> {
    const organizationId = await this.organizationOf(caller, agentId);
    const agent = await this.reader.read({ organizationId, agentId: agentId.toLowerCase() });
    if (agent === null) throw problems.notFound;
    return agent;
  }

  /**
   * Changes an agent. Tokens that hold a scope taken away are inactive from then on.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` for a decommissioned agent or the last operator
   */
  async update(caller: Principal, origin: RequestOrigin, agentId: string, body: UpdateAgentBody): Promise<AgentEntity> {
    requireBuiltInScopes(caller, body.scopes ?? []);
    return this.manage(caller, agentId, async (transaction, agent) => {
      if (agent.status === 'decommissioned') throw conflict('A decommissioned agent cannot be changed.');
      await this.requireDeclared(transaction, agent.organizationId, body.scopes ?? []);
      const before = agent.scopes;
      applyChanges(agent, body, this.clock.now());
      await this.repository.update(transaction, agent);
      await this.log(transaction, agent, 'agent.updated', caller.agentId, origin, changes(body, before, agent.scopes));
      return agent;
    });
  }

  /**
   * Suspends an agent: it gets no tokens, and those it has are dead for good.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict`
   */
  suspend(caller: Principal, origin: RequestOrigin, agentId: string): Promise<AgentEntity> {
    return this.manage(caller, agentId, async (transaction, agent) => {
      if (agent.status !== 'active')
        throw conflict(`Only an active agent can be suspended; this one is ${agent.status}.`);
      agent.status = 'suspended';
      killTokens(agent, this.clock.now());
      await this.repository.update(transaction, agent);
      await this.log(transaction, agent, 'agent.suspended', caller.agentId, origin);
      return agent;
    });
  }

  /**
   * Lets a suspended agent work again. Its tokens from before stay dead.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict`
   */
  reactivate(caller: Principal, origin: RequestOrigin, agentId: string): Promise<AgentEntity> {
    return this.manage(caller, agentId, async (transaction, agent) => {
      if (agent.status !== 'suspended') {
        throw conflict(`Only a suspended agent can be reactivated; this one is ${agent.status}.`);
      }
      agent.status = 'active';
      agent.updatedAt = this.clock.now();
      await this.repository.update(transaction, agent);
      await this.log(transaction, agent, 'agent.reactivated', caller.agentId, origin);
      return agent;
    });
  }

  /**
   * Decommissions an agent for good: its credentials and tokens are revoked, its record stays. Doing so again changes
   * nothing.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict`
   */
  async decommission(caller: Principal, origin: RequestOrigin, agentId: string): Promise<void> {
    await this.manage(caller, agentId, async (transaction, agent) => {
      if (agent.status === 'decommissioned') return;
      agent.status = 'decommissioned';
      killTokens(agent, this.clock.now());
      await this.repository.update(transaction, agent);
      for (const end of this.endings) await end(transaction, agent, agent.updatedAt);
      await this.log(transaction, agent, 'agent.decommissioned', caller.agentId, origin);
    });
  }

  /**
   * Kills all tokens that the agent has been issued so far, in one small write.
   *
   * @returns the instant up to which tokens are dead; a token issued after the answer lives
   * @throws Problem `not_found`, `insufficient_scope`
   */
  async revokeTokens(caller: Principal, origin: RequestOrigin, agentId: string): Promise<{ revokedBefore: string }> {
    return this.manage(caller, agentId, async (transaction, agent) => {
      killTokens(agent, this.clock.now());
      await this.repository.update(transaction, agent);
      await this.log(transaction, agent, 'agent.tokens_revoked', caller.agentId, origin);
      return { revokedBefore: agent.updatedAt.toISOString() };
    });
  }

  /** How many agents count against an organization's limit. */
  count(organizationId: string): Promise<number> {
    return this.repository.count(organizationId);
  }

  /** An agent under the organization's lock, which the caller holds; null where there is none. */
  find(transaction: EntityManager, organizationId: string, agentId: string): Promise<AgentEntity | null> {
    return this.repository.find(organizationId, agentId, transaction);
  }

  /**
   * Runs an act on an agent in one transaction, under the lock of its organization, for a caller that may manage it, and
   * refuses the act where it would leave no usable operator. Rooms below use it for what belongs to an agent.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict`, or what the act throws
   */
  async manage<T>(caller: Principal, agentId: string, act: AgentAct<T>): Promise<T> {
    const organizationId = await this.organizationOf(caller, agentId);
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId);
      const agent = await this.repository.find(organizationId, agentId.toLowerCase(), transaction);
      if (agent === null) throw problems.notFound;
      requireBuiltInScopes(caller, agent.scopes);
      return this.keepingAnOperator(transaction, agent, act);
    });
  }

  /**
   * Runs an act on an agent and refuses it where it would leave no usable operator.
   *
   * @throws Problem `conflict`
   */
  async keepingAnOperator<T>(transaction: EntityManager, agent: AgentEntity, act: AgentAct<T>): Promise<T> {
    if (agent.status !== 'active' || !holdsAllBuiltInScopes(agent.scopes)) return act(transaction, agent);
    const refuseWhereNoneIsLeft = await this.watchOperators(transaction);
    const result = await act(transaction, agent);
    await refuseWhereNoneIsLeft();
    return result;
  }

  /**
   * Looks whether there is a usable operator, before an act. Where there is none already, as when the last credential has
   * expired, the act is not what leaves none.
   *
   * @returns what refuses the act with `conflict`, once it is done, where it has left none
   */
  async watchOperators(transaction: EntityManager): Promise<() => Promise<void>> {
    const usable = () => this.repository.hasUsableOperator(transaction, this.clock.now());
    const before = await usable();
    return async () => {
      if (!before || (await usable())) return;
      throw conflict(
        'This would leave no usable operator: no active agent with every built-in scope and a credential.',
      );
    };
  }

  /** Scopes that are not built-in can be granted when a resource server of the agent's organization declares them. */
  private async requireDeclared(
    transaction: EntityManager,
    organizationId: string,
    scopes: readonly string[],
  ): Promise<void> {
    const own = scopes.filter((scope) => !isBuiltInScope(scope));
    if (own.length === 0) return;
    const declared = await this.resources.declaredScopes(transaction, organizationId, own);
    const undeclared = own.filter((scope) => !declared.has(scope));
    if (undeclared.length > 0) throw insufficientScope(undeclared);
  }

  /** The organization in which the caller may reach an agent. */
  private async organizationOf(caller: Principal, agentId: string): Promise<string> {
    if (!isUuid(agentId)) throw problems.notFound;
    if (!isOperator(caller)) return caller.organizationId;
    const organizationId = await this.repository.organizationOf(agentId.toLowerCase());
    if (organizationId === null) throw problems.notFound;
    return organizationId;
  }

  private async requireRoomForAgent(transaction: EntityManager, organizationId: string): Promise<void> {
    const { agents: limit } = await this.organizations.limits(organizationId, transaction);
    if (limit === null) return;
    const used = await this.repository.count(organizationId, transaction);
    if (used < limit) return;
    throw problems.limitReached
      .withDetail(`The organization has ${used} of ${limit} agents.`)
      .withExtensions({ limit, used });
  }

  private async insert(
    transaction: EntityManager,
    agent: AgentEntity,
    actor: string | null,
    origin: RequestOrigin,
  ): Promise<void> {
    await this.repository.insert(transaction, agent);
    await this.log(transaction, agent, 'agent.created', actor, origin, { name: agent.name, scopes: agent.scopes });
  }

  private async log(
    transaction: EntityManager,
    agent: AgentEntity,
    action: AuditAction,
    actor: string | null,
    origin: RequestOrigin,
    details: Record<string, AuditDetail> = {},
  ): Promise<void> {
    const { organizationId, agentId } = agent;
    const target = { type: 'agent', id: agentId };
    await this.audit.append(transaction, {
      organizationId,
      action,
      outcome: 'success',
      actor,
      target,
      origin,
      details,
    });
  }
}

function conflict(detail: string) {
  return problems.conflict.withDetail(detail);
}

import type { AuditDetail } from '../platform/kernel/audit-event.js';
import type { AgentEntity } from './agent.entity.js';
import type { CreateAgentBody } from './dto/create-agent.body.js';
import type { UpdateAgentBody } from './dto/update-agent.body.js';

/** Scopes taken away that an agent's row remembers: every check of its tokens reads them. */
export const MAX_SCOPE_REMOVALS = 200;

/** A new agent, active. */
export function newAgent(organizationId: string, agentId: string, body: CreateAgentBody, now: Date): AgentEntity {
  return {
    organizationId,
    agentId,
    name: body.name,
    description: body.description ?? null,
    owner: body.owner ?? null,
    type: body.type ?? null,
    version: body.version ?? null,
    environment: body.environment ?? null,
    capabilities: body.capabilities ?? [],
    labels: body.labels ?? {},
    scopes: body.scopes ?? [],
    tokenTtlSeconds: body.tokenTtlSeconds ?? null,
    status: 'active',
    generation: 1,
    validFromGeneration: 1,
    scopeRemovals: {},
    createdAt: now,
    updatedAt: now,
  };
}

/** Puts the members that a change names on the agent; a scope taken away kills the tokens that hold it. */
export function applyChanges(agent: AgentEntity, body: UpdateAgentBody, now: Date): void {
  const { scopes, ...rest } = body;
  const named = Object.entries(rest).filter(([, value]) => value !== undefined);
  Object.assign(agent, Object.fromEntries(named), { updatedAt: now });
  if (scopes === undefined) return;
  const removed = agent.scopes.filter((scope) => !scopes.includes(scope));
  agent.scopes = scopes;
  if (removed.length === 0) return;
  agent.generation += 1;
  agent.scopeRemovals = {
    ...agent.scopeRemovals,
    ...Object.fromEntries(removed.map((scope) => [scope, agent.generation])),
  };
  // Where more would have to be remembered, every token so far dies in its place.
  if (Object.keys(agent.scopeRemovals).length > MAX_SCOPE_REMOVALS) killTokens(agent, now);
}

/** Every token of an earlier generation is dead from now on. */
export function killTokens(agent: AgentEntity, now: Date): void {
  agent.generation += 1;
  agent.validFromGeneration = agent.generation;
  agent.scopeRemovals = {};
  agent.updatedAt = now;
}

/** What the audit log tells of a change: which members, never their values, and the scopes. */
export function changes(
  body: UpdateAgentBody,
  before: readonly string[],
  after: readonly string[],
): Record<string, AuditDetail> {
  return {
    changed: Object.entries(body)
      .filter(([, value]) => value !== undefined)
      .map(([name]) => name)
      .sort(),
    scopesAdded: after.filter((scope) => !before.includes(scope)),
    scopesRemoved: before.filter((scope) => !after.includes(scope)),
  };
}

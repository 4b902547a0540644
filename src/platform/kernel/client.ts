import type { Principal } from './principal.js';
import type { Tier } from './tier.js';

/** The resource server that a scope of an agent belongs to. */
export interface ScopeAudience {
  readonly scope: string;
  /** The `aud` of tokens with the scope. */
  readonly identifier: string;
  /** The longest lifetime of tokens for it, in seconds. */
  readonly ttlSeconds: number | null;
}

/** A client that has authenticated itself (RFC 6749 §2.3), with the state that was read while it did. */
export interface Client {
  readonly agentId: string;
  readonly organizationId: string;
  readonly credentialId: string;
  readonly agentStatus: 'active' | 'suspended' | 'decommissioned';
  readonly organizationStatus: 'active' | 'suspended';
  readonly tier: Tier;
  readonly scopes: readonly string[];
  /** The resource servers of its scopes; those that are not here are built-in. */
  readonly audiences: readonly ScopeAudience[];
  /** The agent's own limit on the lifetime of its tokens, in seconds. */
  readonly tokenTtlSeconds: number | null;
  /** What its tokens carry as `gen`: the generations of organization, agent and credential. */
  readonly generation: string;
}

/** Whether neither the agent nor its organization is suspended. */
export function isActive(client: Pick<Client, 'agentStatus' | 'organizationStatus'>): boolean {
  return client.agentStatus === 'active' && client.organizationStatus === 'active';
}

/** The principal that an authenticated client is at an endpoint that takes client authentication in place of a token. */
export function principalOf(client: Client): Principal {
  return {
    agentId: client.agentId,
    organizationId: client.organizationId,
    tier: client.tier,
    credentialId: client.credentialId,
    scopes: new Set(client.scopes),
    method: 'client_authentication',
    token: null,
  };
}

import type { Principal } from './principal.js';

/** A client that has authenticated itself (RFC 6749 §2.3), with the state that was read while it did. */
export interface Client {
  readonly agentId: string;
  readonly organizationId: string;
  readonly credentialId: string;
  readonly agentStatus: 'active' | 'suspended' | 'decommissioned';
  readonly organizationStatus: 'active' | 'suspended';
  readonly scopes: readonly string[];
  /** The agent's own limit on the lifetime of its tokens, in seconds. */
  readonly tokenTtlSeconds: number | null;
  /** What its tokens carry as `gen`: the generations of organization, agent and credential. */
  readonly generation: string;
}

/** Whether neither the agent nor its organization is suspended. */
export function isActive(client: Client): boolean {
  return client.agentStatus === 'active' && client.organizationStatus === 'active';
}

/** The principal that an authenticated client is at an endpoint that takes client authentication in place of a token. */
export function principalOf(client: Client): Principal {
  return {
    agentId: client.agentId,
    organizationId: client.organizationId,
    credentialId: client.credentialId,
    scopes: new Set(client.scopes),
    method: 'client_authentication',
  };
}

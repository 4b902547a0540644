import { OPERATOR_SCOPE } from './scopes.js';
import type { Tier } from './tier.js';

/** How a caller proved who it is. */
export type AuthenticationMethod = 'bearer' | 'client_authentication';

/** What tells whether a principal's token is still alive. */
export interface PrincipalToken {
  readonly jti: string;
  /** The key that signed it. */
  readonly kid: string;
  /** Its scopes, separated by single spaces. */
  readonly scope: string;
  /** The generations of organization, agent and credential that it was issued under. */
  readonly generations: readonly [number, number, number];
}

/**
 * Whoever makes an authenticated request: the agent that a valid Bearer token names, or the client that authenticated
 * itself at an OAuth endpoint. `scopes` are those of the token (Bearer) or those of the agent (client authentication).
 */
export interface Principal {
  readonly agentId: string;
  readonly organizationId: string;
  readonly tier: Tier;
  readonly scopes: ReadonlySet<string>;
  readonly credentialId: string;
  readonly method: AuthenticationMethod;
  /** The Bearer token, as far as its state is asked for again; null for client authentication. */
  readonly token: PrincipalToken | null;
}

/** Whether the principal is the platform operator, who may reach every organization. */
export function isOperator(principal: Principal): boolean {
  return principal.scopes.has(OPERATOR_SCOPE);
}

/** Where a request came from, as the audit log records it. */
export interface RequestOrigin {
  /** The peer's address, or the one that a trusted proxy names. */
  readonly ip: string | null;
  /** The `User-Agent` header, cut to 256 characters. */
  readonly userAgent: string | null;
}

/** The origin of acts that no request caused: bootstrap, commands, scheduled work. */
export const NO_ORIGIN: RequestOrigin = { ip: null, userAgent: null };

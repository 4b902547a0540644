import type { Client } from '../platform/kernel/client.js';

/** What a token is to grant, to whom it is to be shown, and how long it may live. */
export interface Grant {
  readonly scopes: readonly string[];
  /** One audience, or, where `scope` was omitted, all audiences of the agent's scopes. */
  readonly audience: string | readonly string[];
  /** The longest lifetime that the resource servers among the audiences allow, in seconds; null: no limit of theirs. */
  readonly ttlSeconds: number | null;
}

/** Scopes and audiences of one token, in characters: what fits in a header that every server accepts. */
const MAX_GRANT_LENGTH = 6000;

/** Why nothing can be granted. */
export type GrantRefusal = 'invalid_scope' | 'invalid_target';

/** What a request asks for. */
export interface GrantRequest {
  /** The scopes named, each once; null where `scope` is omitted. */
  readonly scopes: readonly string[] | null;
  /** The resource named (RFC 8707 §2); null where it is omitted. */
  readonly resource: string | null;
}

/**
 * Decides scopes and audience (RFC 6749 §3.3, RFC 8707 §2, RFC 9068 §3). Built-in scopes belong to our own API, whose
 * audience is the issuer; every other scope belongs to one resource server. Scopes that are named must belong to one
 * audience, which is that of the named resource where there is one.
 *
 * A resource of which the agent has no scope at all is refused: a token for it would grant nothing but entry to APIs
 * that look at the audience only. Nor is a token made that would be too large for a header; naming fewer scopes helps.
 *
 * @param client the client, with the audiences of its scopes
 * @param issuer the audience of our own API
 * @param known whether the organization has a resource server with the named identifier
 */
export function decideGrant(
  client: Client,
  request: GrantRequest,
  issuer: string,
  known: boolean,
): Grant | GrantRefusal {
  const audienceOf = new Map(client.audiences.map(({ scope, identifier }) => [scope, identifier]));
  const audience = (scope: string): string => audienceOf.get(scope) ?? issuer;
  const { scopes, resource } = request;
  if (scopes !== null && !scopes.every((scope) => client.scopes.includes(scope))) {
    return resource === null || known ? 'invalid_scope' : 'invalid_target';
  }
  if (resource !== null) {
    if (!known) return 'invalid_target';
    const there = client.scopes.filter((scope) => audience(scope) === resource);
    if (scopes !== null && !scopes.every((scope) => there.includes(scope))) return 'invalid_scope';
    if (there.length === 0 && resource !== issuer) return 'invalid_target';
    return grantOf(client, scopes ?? there, [resource]);
  }
  const granted = scopes ?? client.scopes;
  const audiences = [...new Set(granted.map(audience))];
  if (scopes !== null && audiences.length > 1) return 'invalid_scope';
  return grantOf(client, granted, audiences.length === 0 ? [issuer] : audiences);
}

function grantOf(client: Client, scopes: readonly string[], audiences: readonly string[]): Grant | GrantRefusal {
  if (scopes.join(' ').length + audiences.join(' ').length > MAX_GRANT_LENGTH) return 'invalid_scope';
  const limits = client.audiences.flatMap(({ identifier, ttlSeconds }) =>
    ttlSeconds !== null && audiences.includes(identifier) ? [ttlSeconds] : [],
  );
  const [only, ...others] = audiences;
  return {
    scopes,
    audience: only !== undefined && others.length === 0 ? only : audiences,
    ttlSeconds: limits.length === 0 ? null : Math.min(...limits),
  };
}

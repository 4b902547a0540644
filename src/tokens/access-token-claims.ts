/** The claims of an access token: RFC 7519 §4.1, RFC 9068 §2.2, and our own `org`, `cred` and `gen`. */
export interface AccessTokenClaims {
  /** The agent. */
  readonly sub: string;
  /** The agent again, as the client that asked. */
  readonly client_id: string;
  /** The scopes, separated by single spaces; empty when there are none. */
  readonly scope: string;
  readonly jti: string;
  /** Seconds since the Unix epoch. */
  readonly iat: number;
  /** Seconds since the Unix epoch. */
  readonly exp: number;
  /** Seconds since the Unix epoch; no token of ours has it, but RFC 7519 §4.1.5 has it heeded. */
  readonly nbf?: number;
  readonly iss: string;
  readonly aud: string | readonly string[];
  /** The organization. */
  readonly org: string;
  /** The credential that earned the token. */
  readonly cred: string;
  /** The generations of organization, agent and credential that it was issued under: `1.4.1`. */
  readonly gen: string;
}

const GENERATIONS = /^(\d{1,9})\.(\d{1,9})\.(\d{1,9})$/;

/** The three generations in `gen`, or null where it is malformed. */
export function generationsOf(gen: string): readonly [number, number, number] | null {
  const match = GENERATIONS.exec(gen);
  return match === null ? null : [Number(match[1]), Number(match[2]), Number(match[3])];
}

/** Whether a token is meant for `audience`. */
export function isFor(claims: AccessTokenClaims, audience: string): boolean {
  return typeof claims.aud === 'string' ? claims.aud === audience : claims.aud.includes(audience);
}

/** The scopes of a token. */
export function scopesOf(claims: AccessTokenClaims): string[] {
  return claims.scope === '' ? [] : claims.scope.split(' ');
}

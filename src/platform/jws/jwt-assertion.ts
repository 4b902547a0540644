import { parseCompactJws, type CompactJws } from './compact-jws.js';

/** How far clocks may be apart, in seconds. */
export const CLOCK_SKEW_SECONDS = 60;

/** The longest `iss`, `sub` or `jti`, and one audience, in characters. */
const MAX_TEXT = 1024;
const MAX_AUDIENCES = 16;
/** RFC 7519 §5.1, §4.1.2 of the JWT-SVID specification, and what client assertions are to be called. */
const TYPS: ReadonlySet<string> = new Set(['jwt', 'jose', 'client-authentication+jwt']);

/** A JWT assertion (RFC 7523 §3) whose claims have the shapes that the RFC asks for; nothing of it is verified. */
export interface JwtAssertion {
  readonly jws: CompactJws;
  readonly issuer: string;
  readonly subject: string;
  readonly audiences: readonly string[];
  /** Seconds since the Unix epoch, perhaps with a fraction; so are `notBefore` and `issuedAt`. */
  readonly expiresAt: number;
  readonly notBefore: number | null;
  readonly issuedAt: number | null;
  readonly id: string | null;
}

/**
 * Reads an assertion: a strict compact JWS with `iss`, `sub`, `aud` and `exp` of RFC 7523 §3. A JWT of another kind, as
 * its `typ` tells (RFC 8725 §3.11), is none.
 *
 * @returns null for anything else
 */
export function parseAssertion(text: string): JwtAssertion | null {
  const jws = parseCompactJws(text);
  if (jws === null || !isAssertionTyp(jws.typ)) return null;
  const { iss, sub, aud, exp, nbf, iat, jti } = jws.claims;
  const audiences = Array.isArray(aud) ? (aud as unknown[]) : [aud];
  if (!isText(iss) || !isText(sub) || !audiences.every(isText)) return null;
  if (audiences.length === 0 || audiences.length > MAX_AUDIENCES) return null;
  if (!isNumericDate(exp) || !isOptional(nbf, isNumericDate) || !isOptional(iat, isNumericDate)) return null;
  if (!isOptional(jti, isText)) return null;
  return {
    jws,
    issuer: iss,
    subject: sub,
    audiences,
    expiresAt: exp,
    notBefore: nbf ?? null,
    issuedAt: iat ?? null,
    id: jti ?? null,
  };
}

/**
 * Whether an assertion is of its time, with the skew that clocks may have (RFC 7523 §3, 4 to 6).
 *
 * @param nowSeconds seconds since the Unix epoch
 * @returns what is wrong, or null
 */
export function timeFault(assertion: JwtAssertion, nowSeconds: number): 'expired' | 'not_yet_valid' | null {
  if (assertion.expiresAt + CLOCK_SKEW_SECONDS <= nowSeconds) return 'expired';
  const begins = Math.max(assertion.notBefore ?? 0, assertion.issuedAt ?? 0);
  return begins > nowSeconds + CLOCK_SKEW_SECONDS ? 'not_yet_valid' : null;
}

function isAssertionTyp(typ: string | null): boolean {
  return typ === null || TYPS.has(typ.toLowerCase().replace(/^application\//, ''));
}

function isText(value: unknown): value is string {
  // PostgreSQL takes no NUL.
  return typeof value === 'string' && value !== '' && value.length <= MAX_TEXT && !value.includes('\0');
}

/** RFC 7519 §2. Beyond the years that a `Date` knows it is none. */
function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 253_402_300_799;
}

function isOptional<T>(value: unknown, isIt: (value: unknown) => value is T): value is T | undefined {
  return value === undefined || isIt(value);
}

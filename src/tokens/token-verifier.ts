import { Injectable } from '@nestjs/common';
import { hash } from 'node:crypto';
import { compactVerify, decodeProtectedHeader } from 'jose';
import { LRUCache } from 'lru-cache';
import { KeysService, type VerificationKey } from '../keys/keys.service.js';
import { Config } from '../platform/config/config.js';
import { Clock } from '../platform/kernel/clock.js';
import { isUuid } from '../platform/kernel/uuid.js';
import { generationsOf, type AccessTokenClaims } from './access-token-claims.js';

/** Signatures that are remembered as verified: some 150 bytes each. */
const REMEMBERED_SIGNATURES = 50_000;
const REMEMBERED_HEADERS = 100;
/** Tokens whose claims are remembered as well: less than 2 KB each. */
const REMEMBERED_CLAIMS = 5_000;
/** The claims of longer tokens are not remembered, so that the memory has a bound. */
const MAX_REMEMBERED_LENGTH = 2048;
/** A longer token is none of ours. */
const MAX_TOKEN_LENGTH = 32_768;
const ACCESS_TOKEN_TYPS: ReadonlySet<string> = new Set(['jwt', 'at+jwt']);
/** RFC 7515 §2: base64url has no padding, no white space and no other characters; decoders forgive them. */
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const PRINTABLE = /^[\x20-\x7e]*$/;

/** A token whose signature is right and that has not expired. */
export interface VerifiedToken {
  readonly claims: AccessTokenClaims;
  /** The key that signed it. */
  readonly kid: string;
}

interface TokenHeader {
  readonly kid: string;
  readonly alg: string;
}

/**
 * Verifies what never changes about an access token: its signature, its issuer and its claims' shapes. That a signature
 * is right is a pure function of the token and the key, so it is remembered; whether the token is still alive is a state
 * and is asked of the database on every request.
 */
@Injectable()
export class TokenVerifier {
  private readonly verified = new LRUCache<string, true>({ max: REMEMBERED_SIGNATURES });
  /** What was read from the tokens that were seen last; whoever calls shows the same one again and again. */
  private readonly read = new LRUCache<string, VerifiedToken>({ max: REMEMBERED_CLAIMS });
  /** Of the headers that named one of our keys, the encoded form: all tokens of a key have the same. */
  private readonly headers = new LRUCache<string, TokenHeader>({ max: REMEMBERED_HEADERS });

  constructor(
    private readonly keys: KeysService,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /**
   * The claims of a token that one of our published keys signed and that has not expired.
   *
   * The algorithm is the key's, never the token's to choose; keys in the token (`jwk`, `jku`, `x5u`) are not looked at
   * (RFC 8725 §3.1, §3.10).
   *
   * @returns null for anything else, whatever is wrong with it; without a promise where nothing has to be waited for.
   *   Of a token that is remembered always the same object
   */
  verify(token: string): VerifiedToken | null | Promise<VerifiedToken | null> {
    if (token.length > MAX_TOKEN_LENGTH) return null;
    const digest = hash('sha256', token, 'base64');
    const read = this.read.get(digest);
    // Its key may be published no more.
    if (read !== undefined && this.keys.isPublished(read.kid)) return this.inItsTime(read);
    return this.verifyAnew(token, digest);
  }

  /** Verifies a token that is not remembered, and remembers it. */
  private async verifyAnew(token: string, digest: string): Promise<VerifiedToken | null> {
    const key = await this.keyOf(token);
    if (key === null || !(await this.signatureIsRight(token, digest, key))) return null;
    const claims = parseClaims(token);
    if (claims === null || claims.iss !== this.config.tokens.issuer) return null;
    const verified = { claims, kid: key.kid };
    if (token.length <= MAX_REMEMBERED_LENGTH) this.read.set(digest, verified);
    return this.inItsTime(verified);
  }

  /** The token where now lies between its `nbf` and `exp`, which change with the clock and so are never remembered. */
  private inItsTime(token: VerifiedToken): VerifiedToken | null {
    const now = this.clock.nowSeconds();
    return token.claims.exp > now && (token.claims.nbf ?? now) <= now ? token : null;
  }

  private async keyOf(token: string): Promise<VerificationKey | null> {
    const encoded = token.slice(0, token.indexOf('.'));
    const known = this.headers.get(encoded);
    const header = known ?? (COMPACT_JWS.test(token) ? parseHeader(token) : null);
    if (header === null) return null;
    const key = await this.keys.find(header.kid);
    if (key === null || key.algorithm !== header.alg) return null;
    if (known === undefined) this.headers.set(encoded, header);
    return key;
  }

  private async signatureIsRight(token: string, digest: string, key: VerificationKey): Promise<boolean> {
    if (this.verified.get(digest) === true) return true;
    if (!COMPACT_JWS.test(token) || !isCanonical(token.slice(token.lastIndexOf('.') + 1))) return false;
    try {
      await compactVerify(token, key.publicKey, { algorithms: [key.algorithm] });
    } catch {
      return false;
    }
    this.verified.set(digest, true);
    return true;
  }
}

/** Whether no other text stands for the same bytes: the last character may have bits to spare (RFC 4648 §3.5). */
function isCanonical(encoded: string): boolean {
  return Buffer.from(encoded, 'base64url').toString('base64url') === encoded;
}

/** The header of a token that may be an access token of ours: null where it cannot be one. */
function parseHeader(token: string): TokenHeader | null {
  let header: ReturnType<typeof decodeProtectedHeader>;
  try {
    header = decodeProtectedHeader(token);
  } catch {
    return null;
  }
  const { kid, alg, typ, crit } = header;
  if (typeof kid !== 'string' || typeof alg !== 'string' || typeof typ !== 'string') return null;
  // RFC 7515 §4.1.11: we know no critical extension.
  if (crit !== undefined) return null;
  return ACCESS_TOKEN_TYPS.has(typ.toLowerCase().replace(/^application\//, '')) ? { kid, alg } : null;
}

function parseClaims(token: string): AccessTokenClaims | null {
  const [, payload = ''] = token.split('.', 2);
  let claims: unknown;
  try {
    claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  } catch {
    return null;
  }
  return isAccessTokenClaims(claims) ? claims : null;
}

function isAccessTokenClaims(value: unknown): value is AccessTokenClaims {
  if (typeof value !== 'object' || value === null) return false;
  const claims = value as Record<string, unknown>;
  const { sub, client_id, jti, org, cred, scope, iss, gen, iat, exp } = claims;
  return (
    isUuidString(sub) &&
    (client_id === sub || isUuidString(client_id)) &&
    isUuidString(jti) &&
    isUuidString(org) &&
    isUuidString(cred) &&
    isPrintable(scope) &&
    isPrintable(iss) &&
    isPrintable(gen) &&
    Number.isInteger(iat) &&
    Number.isInteger(exp) &&
    (claims['nbf'] === undefined || Number.isInteger(claims['nbf'])) &&
    (typeof claims['aud'] === 'string' || Array.isArray(claims['aud'])) &&
    generationsOf(gen as string) !== null
  );
}

function isPrintable(value: unknown): boolean {
  return typeof value === 'string' && PRINTABLE.test(value);
}

function isUuidString(value: unknown): boolean {
  return typeof value === 'string' && isUuid(value);
}

import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { AUDIT_ALGORITHM, type VerificationKey } from '../checkpoint.js';

/** Why a JWK Set is not to be believed, told in the words that follow the name of its place. */
export class UnusableKeys extends Error {}

/**
 * The audit keys of a JWK Set by their `kid`. Keys of other purposes are not believed, and those that are not understood
 * are passed over (RFC 7517 §5).
 *
 * @throws UnusableKeys where there is none, where a `kid` means two keys, and where a private key was published
 */
export function auditKeysIn(text: string): ReadonlyMap<string, VerificationKey> {
  const keys = new Map<string, VerificationKey>();
  for (const jwk of jwksIn(text)) {
    const { kid, alg, purpose } = jwk;
    if (purpose !== 'audit' || typeof kid !== 'string' || alg !== AUDIT_ALGORITHM) continue;
    if ('d' in jwk) throw new UnusableKeys('holds a private key');
    const publicKey = publicKeyOf(jwk);
    if (publicKey === null) continue;
    if (keys.get(kid)?.publicKey.equals(publicKey) === false) throw new UnusableKeys(`has two keys ${kid}`);
    keys.set(kid, { publicKey, algorithm: AUDIT_ALGORITHM });
  }
  if (keys.size === 0) throw new UnusableKeys('has no audit key');
  return keys;
}

function jwksIn(text: string): (JsonWebKey & Record<string, unknown>)[] {
  try {
    const { keys } = JSON.parse(text) as { keys?: unknown };
    if (Array.isArray(keys) && keys.every((key) => typeof key === 'object' && key !== null)) {
      return keys as (JsonWebKey & Record<string, unknown>)[];
    }
  } catch {
    // Said below.
  }
  throw new UnusableKeys('is not a JWK Set');
}

function publicKeyOf(jwk: JsonWebKey): KeyObject | null {
  if (jwk.kty !== 'EC' || jwk.crv !== 'P-256') return null;
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return null;
  }
}

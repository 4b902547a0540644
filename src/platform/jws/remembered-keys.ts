import { LRUCache } from 'lru-cache';
import { parsePublicJwk, type PublicJwk, type PublicKey } from './public-key.js';

/** Keys that are remembered: some 4 KiB each. */
const MAX_REMEMBERED = 2000;

/**
 * Stored public JWKs as keys. What key a JWK is never changes, so it is remembered; whether somebody may still use it is a
 * state and is not known here.
 */
export class RememberedKeys {
  private readonly keys = new LRUCache<string, PublicKey>({ max: MAX_REMEMBERED });

  /**
   * @param jwk a JWK that was checked when it was stored
   * @returns null where it is none that we take any more
   */
  of(jwk: PublicJwk): PublicKey | null {
    const text = JSON.stringify(jwk);
    const remembered = this.keys.get(text);
    if (remembered !== undefined) return remembered;
    const key = parsePublicJwk(jwk);
    if (typeof key === 'string') return null;
    this.keys.set(text, key);
    return key;
  }
}

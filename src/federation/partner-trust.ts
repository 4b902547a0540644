import { parsePublicJwk, type PublicJwk } from '../platform/jws/public-key.js';
import type { FieldFault } from '../platform/kernel/problem.js';

/** Keys that an inline JWK Set may have: it is read on each request. */
export const MAX_INLINE_KEYS = 32;

/** ASCII as URLs have it: what is compared letter by letter has one spelling. */
const PLAIN_URL = /^https?:\/\/[\x21\x24-\x3e\x40-\x7e]+$/;

/** Tells what is wrong with a URL as a destination; null where nothing is. */
type UrlFault = (url: string) => string | null;

/**
 * What is wrong with an issuer (RFC 8414 §2: a URL without query and fragment).
 *
 * @param discovers whether its discovery document is going to be fetched
 */
export function issuerFaults(issuer: string, own: string, discovers: boolean, fault: UrlFault): FieldFault[] {
  const at = (detail: string): FieldFault[] => [{ pointer: '/issuer', detail }];
  if (!PLAIN_URL.test(issuer) || !URL.canParse(issuer)) return at('must be an https URL without query and fragment');
  const { username, password } = new URL(issuer);
  if (username !== '' || password !== '') return at('must not hold a user or a password');
  // Else a token of ours would prove the next one for ever.
  if (new URL(issuer).href.replace(/\/$/, '') === new URL(own).href.replace(/\/$/, '')) return at('is our own issuer');
  const unreachable = discovers || issuer.startsWith('http:') ? fault(issuer) : null;
  return unreachable === null ? [] : at(unreachable);
}

/** What is wrong with the place of a partner's keys. */
export function jwksUriFaults(jwksUri: string, fault: UrlFault): FieldFault[] {
  const detail = fault(jwksUri);
  return detail === null ? [] : [{ pointer: '/jwksUri', detail }];
}

/**
 * Reads an inline JWK Set (RFC 7517 §5) strictly: every key is fit for signatures, and none could be taken for another.
 *
 * @returns its keys with nothing in them but what public keys have, and what is wrong
 */
export function readJwks(jwks: Readonly<Record<string, unknown>>): { keys: PublicJwk[]; faults: FieldFault[] } {
  const { keys: given } = jwks;
  if (!Array.isArray(given) || given.length === 0 || given.length > MAX_INLINE_KEYS) {
    return { keys: [], faults: [{ pointer: '/jwks/keys', detail: `must be a list of 1 to ${MAX_INLINE_KEYS} keys` }] };
  }
  const keys: PublicJwk[] = [];
  const faults: FieldFault[] = [];
  const kids = new Set<string>();
  const thumbprints = new Set<string>();
  for (const [index, each] of given.entries()) {
    const key = parsePublicJwk(each);
    const pointer = `/jwks/keys/${index}`;
    if (typeof key === 'string') {
      faults.push({ pointer, detail: `the key ${key}` });
      continue;
    }
    if (key.kid !== null && kids.has(key.kid)) faults.push({ pointer, detail: 'the key has the kid of another' });
    if (thumbprints.has(key.thumbprint)) faults.push({ pointer, detail: 'the key is in the set twice' });
    if (key.kid !== null) kids.add(key.kid);
    thumbprints.add(key.thumbprint);
    keys.push(key.jwk);
  }
  return { keys, faults };
}

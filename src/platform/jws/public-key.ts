import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { compactVerify } from 'jose';
import type { CompactJws } from './compact-jws.js';

/**
 * The signature algorithms of RFC 7518 §3.1, RFC 8037 and RFC 9864 that assertions may be signed with: all of them
 * asymmetric.
 */
export const ASSERTION_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'EdDSA',
  'Ed25519',
] as const;

/** A signature algorithm that assertions may be signed with. */
export type AssertionAlgorithm = (typeof ASSERTION_ALGORITHMS)[number];

/** A JWK (RFC 7517) with nothing in it but what a public key for signatures has. */
export type PublicJwk = Readonly<Record<string, string>>;

/** A public key that verifies assertions. */
export interface PublicKey {
  readonly jwk: PublicJwk;
  readonly kid: string | null;
  /** RFC 7638, SHA-256, base64url. */
  readonly thumbprint: string;
  readonly keyObject: KeyObject;
  /** The algorithms that fit the key, and its `alg` where it names one: a JWS has no say in it. */
  readonly algorithms: readonly AssertionAlgorithm[];
}

/** The members of a private or a symmetric key: RFC 7518 §6.2.2, §6.3.2, §6.4. */
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
const MIN_RSA_BITS = 2048;
/** A larger key would make every verification dear. */
const MAX_RSA_BITS = 8192;
const MAX_KID = 256;
const RSA_ALGORITHMS: readonly AssertionAlgorithm[] = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
/** `jwt-svid` is what bundles of SPIFFE write in the place of `sig`. */
const SIGNATURE_USES: readonly unknown[] = [undefined, 'sig', 'jwt-svid'];
const CURVES: Readonly<Record<string, { readonly bytes: number; readonly algorithms: readonly AssertionAlgorithm[] }>> =
  {
    'P-256': { bytes: 32, algorithms: ['ES256'] },
    'P-384': { bytes: 48, algorithms: ['ES384'] },
    Ed25519: { bytes: 32, algorithms: ['EdDSA', 'Ed25519'] },
  };

/**
 * Reads a public JWK: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519.
 *
 * @returns the key, or what is wrong with it, to be read after "the key"
 */
export function parsePublicJwk(value: unknown): PublicKey | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'must be a JSON object';
  const jwk = value as Record<string, unknown>;
  // Before anything else: whoever sends a private key has lost it, and is to be told so.
  if (PRIVATE_MEMBERS.some((name) => Object.hasOwn(jwk, name))) {
    return 'holds private or secret members: do not use it any more, and send the public part of a new one';
  }
  if (jwk['kid'] !== undefined && !isKid(jwk['kid'])) return `has a kid that is no text of 1 to ${MAX_KID} characters`;
  if (!SIGNATURE_USES.includes(jwk['use'])) return 'is not for signatures: its use is not sig';
  const operations = jwk['key_ops'];
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) {
    return 'is not for signatures: its key_ops do not have verify';
  }
  const material = materialOf(jwk);
  if (typeof material === 'string') return material;
  const { alg } = jwk;
  const algorithms = material.algorithms.filter((each) => alg === undefined || alg === each);
  if (algorithms.length === 0) return 'has an alg that does not fit it';
  try {
    const keyObject = createPublicKey({ key: material.members, format: 'jwk' });
    const kid = (jwk['kid'] as string | undefined) ?? null;
    return {
      jwk: {
        ...material.members,
        ...(alg === undefined ? {} : { alg: alg as string }),
        ...(kid === null ? {} : { kid }),
      },
      kid,
      thumbprint: thumbprintOf(material.members),
      keyObject,
      algorithms,
    };
  } catch {
    return 'is no key: its members do not belong together';
  }
}

/**
 * The key among `keys` that a JWS says it was signed with (RFC 7515 §4.1.4): the one with its `kid`, or the only one that
 * fits where it names none.
 *
 * @returns `ambiguous_key` where several could be meant: nobody guesses
 */
export function keyOf(jws: CompactJws, keys: readonly PublicKey[]): PublicKey | 'unknown_key' | 'ambiguous_key' {
  const fitting = keys.filter((key) => fits(jws, key) && (jws.kid === null || key.kid === jws.kid));
  const [only, ...others] = fitting;
  if (only === undefined) return 'unknown_key';
  return others.length === 0 ? only : 'ambiguous_key';
}

/** Whether the algorithm that a JWS names is one of the key's. */
export function fits(jws: CompactJws, key: PublicKey): boolean {
  return key.algorithms.some((algorithm) => algorithm === jws.algorithm);
}

/** Whether `key` made the signature of a JWS, with an algorithm of the key's own. */
export async function isSignedBy(jws: CompactJws, key: PublicKey): Promise<boolean> {
  if (!fits(jws, key)) return false;
  try {
    await compactVerify(jws.text, key.keyObject, { algorithms: [...key.algorithms] });
    return true;
  } catch {
    return false;
  }
}

interface Material {
  /** The required members, in the order of RFC 7638 §3.2. */
  readonly members: Readonly<Record<string, string>>;
  readonly algorithms: readonly AssertionAlgorithm[];
}

function materialOf(jwk: Record<string, unknown>): Material | string {
  const { kty, crv, x, y } = jwk;
  if (kty === 'RSA') return rsaMaterial(jwk);
  const curve = typeof crv === 'string' && Object.hasOwn(CURVES, crv) ? CURVES[crv] : undefined;
  const isEdwards = crv === 'Ed25519';
  if (curve === undefined || kty !== (isEdwards ? 'OKP' : 'EC')) {
    return 'must be of kty RSA, EC with crv P-256 or P-384, or OKP with crv Ed25519';
  }
  const coordinates = isEdwards ? [x] : [x, y];
  if (coordinates.some((each) => bytesOf(each)?.length !== curve.bytes)) {
    return `has coordinates that are not ${curve.bytes} bytes in base64url`;
  }
  const members = { crv: crv as string, kty: kty as string, x: x as string, ...(isEdwards ? {} : { y: y as string }) };
  return { members, algorithms: curve.algorithms };
}

function rsaMaterial({ n, e }: Record<string, unknown>): Material | string {
  const [modulus, exponent] = [bytesOf(n), bytesOf(e)];
  if (modulus === null || exponent === null || modulus[0] === 0 || exponent[0] === 0) {
    return 'has an n or an e that is no number in base64url';
  }
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS) return `must have ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits`;
  if (exponent.length > 4 || exponent.length < 3 || isEven(exponent) || isEven(modulus)) {
    return 'must have an odd exponent of 65537 to 4294967295, and an odd modulus';
  }
  return { members: { e: e as string, kty: 'RSA', n: n as string }, algorithms: RSA_ALGORITHMS };
}

/** The bytes of a base64url text that has only one spelling, else null. */
function bytesOf(value: unknown): Buffer | null {
  if (typeof value !== 'string' || value === '') return null;
  const bytes = Buffer.from(value, 'base64url');
  return bytes.toString('base64url') === value ? bytes : null;
}

function isEven(bytes: Buffer): boolean {
  return ((bytes.at(-1) ?? 0) & 1) === 0;
}

function isKid(kid: unknown): boolean {
  return typeof kid === 'string' && kid !== '' && kid.length <= MAX_KID;
}

function thumbprintOf(members: Readonly<Record<string, string>>): string {
  return createHash('sha256').update(JSON.stringify(members), 'utf8').digest('base64url');
}

import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { calculateJwkThumbprint, type JWK } from 'jose';
import type { SigningAlgorithm } from '../platform/config/config.js';

const generate = promisify(generateKeyPair);

/** A public key as it stands in the JWKS (RFC 7517 §4). */
export interface PublicJwk extends JWK {
  readonly kid: string;
  readonly use: 'sig';
  readonly alg: SigningAlgorithm;
}

/** The public half of a key of ours: parsed once, so that verifying parses nothing. */
export interface VerificationKey {
  readonly kid: string;
  readonly algorithm: SigningAlgorithm;
  readonly publicKey: KeyObject;
  readonly publicJwk: PublicJwk;
}

/** A key that signs. */
export interface SigningKey extends VerificationKey {
  readonly privateKey: KeyObject;
}

/**
 * Makes a key pair for an algorithm: RSA 2048, P-256 or Ed25519. The `kid` is the key's thumbprint (RFC 7638).
 */
export async function generateSigningKey(algorithm: SigningAlgorithm): Promise<SigningKey> {
  const { privateKey, publicKey } = await generatePair(algorithm);
  const jwk = publicKey.export({ format: 'jwk' }) as JWK;
  const kid = await calculateJwkThumbprint(jwk);
  return { kid, algorithm, privateKey, publicKey, publicJwk: { ...jwk, kid, use: 'sig', alg: algorithm } };
}

/** Parses a stored public half. */
export function parseVerificationKey(publicJwk: PublicJwk): VerificationKey {
  return {
    kid: publicJwk.kid,
    algorithm: publicJwk.alg,
    publicKey: createPublicKey({ key: publicJwk as never, format: 'jwk' }),
    publicJwk,
  };
}

/** Parses a stored key. */
export function parseSigningKey(publicJwk: PublicJwk, pkcs8: Buffer): SigningKey {
  return {
    ...parseVerificationKey(publicJwk),
    privateKey: createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }),
  };
}

/** What the private half of a key is sealed for. */
export function purposeOfKey(kid: string): string {
  return `signing-key:${kid}`;
}

/** The private half in PKCS #8, for sealing. */
export function exportPrivateKey(key: SigningKey): Buffer {
  return key.privateKey.export({ format: 'der', type: 'pkcs8' });
}

function generatePair(algorithm: SigningAlgorithm): Promise<{ privateKey: KeyObject; publicKey: KeyObject }> {
  switch (algorithm) {
    case 'RS256':
    case 'PS256':
      return generate('rsa', { modulusLength: 2048, publicExponent: 0x10001 });
    case 'ES256':
      return generate('ec', { namedCurve: 'P-256' });
    case 'EdDSA':
      return generate('ed25519');
  }
}

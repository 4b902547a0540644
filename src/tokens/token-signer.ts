import { Injectable } from '@nestjs/common';
import { constants, sign, type KeyObject, type SignKeyObjectInput } from 'node:crypto';
import { KeysService, type SigningKey } from '../keys/keys.service.js';
import { Config } from '../platform/config/config.js';
import { Backlog } from '../platform/database/backlog.js';
import type { AccessTokenClaims } from './access-token-claims.js';

/** How `node:crypto` is asked for an algorithm of RFC 7518 §3.1 or RFC 8037 §3.1. */
interface SignatureParameters {
  readonly digest: 'sha256' | null;
  readonly key: KeyObject | SignKeyObjectInput;
}

/** A token and the key that signed it. */
export interface SignedToken {
  /** The compact serialization. */
  readonly token: string;
  readonly kid: string;
}

/**
 * Signs access tokens as compact JWS (RFC 7515 §7.1). The callback form of `crypto.sign` runs on the thread pool, so
 * signatures use every core and block nothing.
 */
@Injectable()
export class TokenSigner {
  /** Of the keys that are in use: what is forgotten elsewhere is forgotten here. */
  private readonly headers = new WeakMap<SigningKey, string>();

  constructor(
    private readonly keys: KeysService,
    private readonly config: Config,
    private readonly backlog: Backlog,
  ) {}

  /** Signs with the key that is active, as far as this replica knows. */
  sign(claims: AccessTokenClaims): Promise<SignedToken> {
    const key = this.keys.signer();
    const input = `${this.header(key)}.${Buffer.from(JSON.stringify(claims), 'utf8').toString('base64url')}`;
    const { digest, key: signingKey } = parametersOf(key);
    return new Promise((resolve, reject) => {
      sign(digest, Buffer.from(input, 'ascii'), signingKey, (error, signature) => {
        this.backlog.end();
        if (error) reject(error);
        else resolve({ token: `${input}.${signature.toString('base64url')}`, kid: key.kid });
      });
      // Behind the call, which may throw: then nothing has begun.
      this.backlog.begin();
    });
  }

  /** The encoded header, rendered once a key. */
  private header(key: SigningKey): string {
    const known = this.headers.get(key);
    if (known !== undefined) return known;
    const header = JSON.stringify({ alg: key.algorithm, typ: this.config.tokens.typ, kid: key.kid });
    const encoded = Buffer.from(header, 'utf8').toString('base64url');
    this.headers.set(key, encoded);
    return encoded;
  }
}

function parametersOf({ algorithm, privateKey }: SigningKey): SignatureParameters {
  switch (algorithm) {
    case 'RS256':
      return { digest: 'sha256', key: privateKey };
    case 'PS256':
      return {
        digest: 'sha256',
        key: {
          key: privateKey,
          padding: constants.RSA_PKCS1_PSS_PADDING,
          saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
        },
      };
    case 'ES256':
      return { digest: 'sha256', key: { key: privateKey, dsaEncoding: 'ieee-p1363' } };
    case 'EdDSA':
      return { digest: null, key: privateKey };
  }
}

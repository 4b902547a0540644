import { Injectable } from '@nestjs/common';
import { Config, type SigningAlgorithm } from '../platform/config/config.js';
import { Resealing } from '../platform/database/resealing.js';
import { Sealer } from '../platform/kernel/sealer.js';
import type { NewSigningKey } from './keys.repository.js';
import type { KeyPurpose } from './signing-key.entity.js';
import { exportPrivateKey, generateSigningKey, purposeOfKey } from './signing-key.js';

/** Makes keys as they are stored: the private half sealed, with what this replica promises those who use them. */
@Injectable()
export class KeyMaker {
  constructor(
    private readonly sealer: Sealer,
    private readonly config: Config,
    resealing: Resealing,
  ) {
    resealing.register({
      table: 'signing_keys',
      column: 'sealed_private_key',
      key: 'kid',
      keyType: 'text',
      purposeOf: purposeOfKey,
    });
  }

  /** A new key; nothing is stored. An RSA key takes some tenths of a second, on the thread pool. */
  async make(purpose: KeyPurpose, algorithm: SigningAlgorithm): Promise<NewSigningKey> {
    const key = await generateSigningKey(algorithm);
    return {
      kid: key.kid,
      purpose,
      algorithm,
      publicJwk: key.publicJwk as unknown as Record<string, unknown>,
      sealedPrivateKey: this.sealer.seal(exportPrivateKey(key), purposeOfKey(key.kid)),
      tokenTtlSeconds: this.config.tokens.ttlSeconds,
      jwksMaxAgeSeconds: this.config.tokens.jwksMaxAgeSeconds,
    };
  }
}

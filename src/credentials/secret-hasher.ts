import { Injectable } from '@nestjs/common';
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { Resealing } from '../platform/database/resealing.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Clock } from '../platform/kernel/clock.js';
import { Sealer } from '../platform/kernel/sealer.js';
import { CredentialsRepository } from './credentials.repository.js';

const PEPPER = 'secret-pepper';

/**
 * Hashes client secrets: HMAC-SHA-256 under a random pepper that is itself sealed under the master key. A secret has 256
 * random bits, so nothing is gained by the slow hashes that passwords need.
 */
@Injectable()
export class SecretHasher {
  private pepper: Buffer | null = null;

  constructor(
    private readonly repository: CredentialsRepository,
    private readonly unitOfWork: UnitOfWork,
    private readonly sealer: Sealer,
    private readonly clock: Clock,
    resealing: Resealing,
  ) {
    resealing.register({
      table: 'sealed_secrets',
      column: 'sealed',
      key: 'name',
      keyType: 'text',
      purposeOf: (name) => name,
    });
  }

  /**
   * Loads the pepper, and makes it at the first start; replicas that start together agree on one.
   *
   * @throws SealBroken where another master key sealed it
   */
  async prepare(): Promise<void> {
    const fresh = this.sealer.seal(randomBytes(32), PEPPER);
    const sealed = await this.unitOfWork.run((transaction) =>
      this.repository.sealedSecret(transaction, { name: PEPPER, sealed: fresh, createdAt: this.clock.now() }),
    );
    this.pepper = this.sealer.open(sealed, PEPPER);
  }

  /** What is stored of a secret: 32 bytes. */
  digest(secret: string): Buffer {
    if (this.pepper === null) throw new Error('the secret hasher is not prepared');
    return createHmac('sha256', this.pepper).update(secret, 'utf8').digest();
  }

  /** Whether two digests are equal, in constant time. */
  equal(left: Buffer, right: Buffer): boolean {
    return left.length === right.length && timingSafeEqual(left, right);
  }
}

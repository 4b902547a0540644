import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { SigningKeyEntity } from './signing-key.entity.js';

/** Serializes changes of the signing keys over all replicas. An arbitrary constant. */
const KEYS_LOCK = 7_301_100_102;

/** All SQL on the signing keys. */
@Injectable()
export class KeysRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Waits until no other replica changes keys; held until the transaction ends. */
  async lock(transaction: EntityManager): Promise<void> {
    await transaction.query('SELECT pg_advisory_xact_lock($1)', [KEYS_LOCK]);
  }

  /** All keys that relying parties may still need, those of access tokens first, oldest first. */
  published(reader: EntityManager = this.unitOfWork.reader): Promise<SigningKeyEntity[]> {
    return reader
      .createQueryBuilder(SigningKeyEntity, 'key')
      .where("key.phase <> 'revoked'")
      .orderBy('key.purpose', 'ASC')
      .addOrderBy('key.created_at', 'ASC')
      .addOrderBy('key.kid', 'ASC')
      .getMany();
  }

  /** Every key, newest first, for the operator's list. */
  all(): Promise<SigningKeyEntity[]> {
    return this.unitOfWork.reader.find(SigningKeyEntity, { order: { createdAt: 'DESC', kid: 'DESC' } });
  }

  /** The organization in whose chain acts on keys stand; null before it is made. */
  async operatorOrganization(transaction: EntityManager): Promise<string | null> {
    const rows = await transaction.query<{ organization_id: string }[]>(
      'SELECT organization_id FROM organizations WHERE is_operator',
    );
    return rows[0]?.organization_id ?? null;
  }

  async insert(transaction: EntityManager, key: SigningKeyEntity): Promise<void> {
    await transaction.insert(SigningKeyEntity, key as never);
  }

  /** The key signs no more; its tokens verify until they expire. */
  async retire(transaction: EntityManager, kid: string, at: Date): Promise<void> {
    await transaction.update(SigningKeyEntity, { kid }, { phase: 'retired', retiredAt: at });
  }
}

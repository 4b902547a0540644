import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { SigningAlgorithm } from '../platform/config/config.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { SigningKeyEntity } from './signing-key.entity.js';

/** Serializes changes of the signing keys over all replicas. An arbitrary constant. */
const KEYS_LOCK = 7_301_100_102;
const MOST_REMOVED = 100;

/** What is stored of a key that was just made; its instants are the database's. */
export type NewSigningKey = Pick<
  SigningKeyEntity,
  'kid' | 'purpose' | 'algorithm' | 'publicJwk' | 'sealedPrivateKey' | 'tokenTtlSeconds' | 'jwksMaxAgeSeconds'
>;

/** The set of keys that is in force. */
export interface KeySet {
  /** Grows with every change. */
  readonly version: number;
  /** The algorithm that access tokens are to be signed with; null before the first start. */
  readonly algorithm: SigningAlgorithm | null;
  /** The clock of the database. */
  readonly now: Date;
}

/** All SQL on the signing keys. */
@Injectable()
export class KeysRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Waits until no other replica changes keys; held until the transaction ends. */
  async lock(transaction: EntityManager): Promise<void> {
    await transaction.query('SELECT pg_advisory_xact_lock($1)', [KEYS_LOCK]);
  }

  /** The version of the keys, their algorithm, and the time that all replicas share. */
  async set(reader: EntityManager = this.unitOfWork.reader): Promise<KeySet> {
    const [row] = await reader.query<KeySet[]>(
      'SELECT version, algorithm, clock_timestamp() AS now FROM signing_key_set',
    );
    if (row === undefined) throw new Error('the row of the set of signing keys is missing');
    return row;
  }

  /** The version alone. */
  async version(): Promise<number> {
    return (await this.set()).version;
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

  /** The keys that sign no more, as many as one look may remove: the retired, which are few, then the longest revoked. */
  ended(): Promise<SigningKeyEntity[]> {
    return this.unitOfWork.reader
      .createQueryBuilder(SigningKeyEntity, 'key')
      .where("key.phase = 'revoked' OR key.phase = 'retired' AND key.purpose = 'access_token'")
      .orderBy('key.phase', 'ASC')
      .addOrderBy('key.revoked_at', 'ASC')
      .limit(MOST_REMOVED)
      .getMany();
  }

  /** Up to `limit` keys of every phase, newest first, those behind `after` where it is given. */
  list(after: { createdAt: string; kid: string } | undefined, limit: number): Promise<SigningKeyEntity[]> {
    const query = this.unitOfWork.reader.createQueryBuilder(SigningKeyEntity, 'key');
    if (after !== undefined) query.where('(key.created_at, key.kid) < (:createdAt::timestamptz, :kid)', after);
    return query.orderBy('key.created_at', 'DESC').addOrderBy('key.kid', 'DESC').limit(limit).getMany();
  }

  /** A key of any phase, or null. */
  find(reader: EntityManager, kid: string): Promise<SigningKeyEntity | null> {
    return reader.findOneBy(SigningKeyEntity, { kid });
  }

  /** The organization in whose chain acts on keys stand; null before it is made. */
  async operatorOrganization(transaction: EntityManager): Promise<string | null> {
    const rows = await transaction.query<{ organization_id: string }[]>(
      'SELECT organization_id FROM organizations WHERE is_operator',
    );
    return rows[0]?.organization_id ?? null;
  }

  /** Stores a new key. Its time in the JWKS begins now, so this is the last write of a transaction. */
  async insert(transaction: EntityManager, key: NewSigningKey, phase: 'next' | 'active'): Promise<void> {
    await transaction.query(
      `INSERT INTO signing_keys (kid, purpose, algorithm, phase, public_jwk, sealed_private_key, created_at,
          published_at, activated_at, token_ttl_seconds, jwks_max_age_seconds)
        VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp(),
          CASE WHEN $4 = 'active' THEN clock_timestamp() END, $7, $8)`,
      [
        key.kid,
        key.purpose,
        key.algorithm,
        phase,
        key.publicJwk,
        key.sealedPrivateKey,
        key.tokenTtlSeconds,
        key.jwksMaxAgeSeconds,
      ],
    );
  }

  /** The key signs from now on. */
  async activate(transaction: EntityManager, kid: string): Promise<void> {
    await transaction.query(
      "UPDATE signing_keys SET phase = 'active', activated_at = clock_timestamp() WHERE kid = $1",
      [kid],
    );
  }

  /** The key signs no more; what it has signed verifies. */
  async retire(transaction: EntityManager, kid: string): Promise<void> {
    await transaction.query(
      "UPDATE signing_keys SET phase = 'retired', retired_at = clock_timestamp() WHERE kid = $1",
      [kid],
    );
  }

  /** Nothing that the key has signed verifies any more; its private half is gone. */
  async revoke(transaction: EntityManager, kid: string): Promise<void> {
    await transaction.query(
      `UPDATE signing_keys SET phase = 'revoked', revoked_at = clock_timestamp(), sealed_private_key = ''
        WHERE kid = $1`,
      [kid],
    );
  }

  /** Removes a key that nothing needs any more; the database refuses any other. */
  async remove(transaction: EntityManager, kid: string): Promise<void> {
    await transaction.query('SELECT remove_signing_key($1)', [kid]);
  }

  /** Deletes the private halves of keys that were retired before `days` days. Locks them in one order. */
  async forgetRetired(days: number): Promise<void> {
    await this.unitOfWork.reader.query(
      `WITH old AS MATERIALIZED (
          SELECT kid FROM signing_keys
            WHERE phase = 'retired' AND sealed_private_key <> '' AND retired_at < now() - make_interval(days => $1)
            ORDER BY kid FOR UPDATE)
        UPDATE signing_keys SET sealed_private_key = '' WHERE kid = ANY (ARRAY(SELECT kid FROM old))`,
      [days],
    );
  }

  /** Decides the algorithm that access tokens are to be signed with. */
  async setAlgorithm(transaction: EntityManager, algorithm: SigningAlgorithm): Promise<void> {
    await transaction.query(
      'UPDATE signing_key_set SET algorithm = $1, version = version + 1 WHERE algorithm IS DISTINCT FROM $1',
      [algorithm],
    );
  }

  /**
   * Notes that a replica gives tokens, and lets others keep the JWKS, for so long. Every replica does so when it starts:
   * the keys are locked in one order first, or two could wait for each other.
   */
  async promise(tokenTtlSeconds: number, jwksMaxAgeSeconds: number): Promise<void> {
    await this.unitOfWork.reader.query(
      `WITH short AS MATERIALIZED (
          SELECT kid FROM signing_keys
            WHERE phase IN ('next', 'active') AND (token_ttl_seconds < $1 OR jwks_max_age_seconds < $2)
            ORDER BY kid FOR UPDATE)
        UPDATE signing_keys SET token_ttl_seconds = greatest(token_ttl_seconds, $1),
            jwks_max_age_seconds = greatest(jwks_max_age_seconds, $2)
          WHERE kid = ANY (ARRAY(SELECT kid FROM short))`,
      [tokenTtlSeconds, jwksMaxAgeSeconds],
    );
  }
}

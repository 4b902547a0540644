import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { LookupCoalescer } from '../platform/database/lookup-coalescer.js';
import { pageOf, type Page } from '../platform/http/page.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { KeyRing } from './key-ring.js';
import { KeysRepository } from './keys.repository.js';
import type { KeyPurpose, SigningKeyEntity } from './signing-key.entity.js';
import type { PublicJwk, SigningKey, VerificationKey } from './signing-key.js';

export type { PublicJwk, SigningKey, VerificationKey } from './signing-key.js';

/** A JWK of our own set; keys for checkpoints say so, those for access tokens carry no `purpose`. */
export type PublishedJwk = PublicJwk & { readonly purpose?: 'audit' };

/** Questions that may wait: for the version of the keys, where a `kid` is not known, and for the published set. */
const QUESTION_LIMITS = { maxQueue: 10_000, maxBatch: 10_000 };
/** A thumbprint of SHA-256, RFC 7638, in base64url. */
const KID = /^[\w-]{43}$/;

/** Our own signing keys as the other rooms use them: which one signs, which ones verify, which ones are published. */
@Injectable()
export class KeysService implements OnApplicationShutdown {
  private readonly versions: LookupCoalescer<null, number>;
  private readonly sets: LookupCoalescer<null, PublishedJwk[]>;

  constructor(
    private readonly repository: KeysRepository,
    private readonly ring: KeyRing,
  ) {
    this.versions = new LookupCoalescer('signing_keys', QUESTION_LIMITS, async (asked) => {
      const version = await repository.version();
      return asked.map(() => version);
    });
    this.sets = new LookupCoalescer('jwks', QUESTION_LIMITS, async (asked) => {
      const published = (await repository.published()).map(shown);
      return asked.map(() => published);
    });
  }

  /** The key that signs access tokens. */
  signer(): SigningKey {
    return this.ring.active('access_token');
  }

  /** The key that signs checkpoints; no other purpose takes it. */
  async auditSigner(): Promise<SigningKey> {
    await this.catchUp();
    return this.ring.active('audit');
  }

  /**
   * The key of access tokens with a `kid`. Where it is not known, the version of the keys is asked for: another replica
   * may have made it just now. Questions that come together share one statement.
   *
   * @returns null where no published key has it
   */
  find(kid: string): Promise<VerificationKey | null> {
    return this.lookUp('access_token', kid);
  }

  /** The key of checkpoints with a `kid`, retired ones included; null where there is none. */
  findAuditKey(kid: string): Promise<VerificationKey | null> {
    return this.lookUp('audit', kid);
  }

  /** Whether tokens of the key with this `kid` still verify, as far as this replica knows. */
  isPublished(kid: string): boolean {
    return this.ring.known('access_token', kid) !== undefined;
  }

  /** Whether the keys that are loaded are at least as new as a version that was read with other state. */
  isCurrent(version: number): boolean {
    return this.ring.isCurrent(version);
  }

  /** Loads the keys anew where they are older than a version that was read with other state. */
  follow(version: number): Promise<void> {
    return this.ring.follow(version);
  }

  /**
   * Reads the keys without making any: for commands, which may run with another configuration than the service.
   *
   * @throws SealBroken where another master key sealed them
   */
  load(): Promise<void> {
    return this.ring.load();
  }

  /**
   * The JWK Set of RFC 7517 §5: public halves only. Anybody may ask, as often as they like, so those who ask together
   * share one statement: they take one connection from the token path, however many they are.
   */
  async jwks(): Promise<{ keys: PublishedJwk[] }> {
    return { keys: [...(await this.sets.read(null))] };
  }

  /**
   * One page of all keys with their phases, newest first.
   *
   * @throws Problem `validation_failed` for a cursor of another list
   */
  async list(limit: number, cursor?: string): Promise<Page<SigningKeyEntity>> {
    const [createdAt, kid] = cursor === undefined ? [] : decodeCursor('keys', cursor, [INSTANT, KID]);
    const after = createdAt === undefined || kid === undefined ? undefined : { createdAt, kid };
    const found = await this.repository.list(after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor('keys', [last.createdAt.toISOString(), last.kid]));
  }

  /** Ends the questions for the version and the set once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.versions.drain(), this.sets.drain()]);
  }

  private async lookUp(purpose: KeyPurpose, kid: string): Promise<VerificationKey | null> {
    const known = this.ring.known(purpose, kid);
    if (known !== undefined) return known;
    // What cannot be a thumbprint is nobody's key, and costs nothing.
    if (!KID.test(kid)) return null;
    await this.catchUp();
    return this.ring.known(purpose, kid) ?? null;
  }

  private async catchUp(): Promise<void> {
    await this.ring.follow(await this.versions.read(null));
  }
}

function shown({ purpose, publicJwk }: SigningKeyEntity): PublishedJwk {
  const jwk = publicJwk as unknown as PublicJwk;
  return purpose === 'audit' ? { ...jwk, purpose } : jwk;
}

import { Injectable } from '@nestjs/common';
import { Config } from '../platform/config/config.js';
import { Sealer } from '../platform/kernel/sealer.js';
import { KeysRepository } from './keys.repository.js';
import type { KeyPurpose, SigningKeyEntity } from './signing-key.entity.js';
import {
  parseSigningKey,
  parseVerificationKey,
  purposeOfKey,
  type PublicJwk,
  type SigningKey,
  type VerificationKey,
} from './signing-key.js';

/** The keys of one purpose that this replica knows. */
interface Ring {
  readonly keys: ReadonlyMap<string, VerificationKey>;
  readonly active: SigningKey | null;
}

const NO_KEYS: Ring = { keys: new Map(), active: null };

/**
 * The keys as this replica has loaded them, and the version of the set that it loaded. Whoever reads shared state on a
 * request reads the version with it and has the ring follow, so that no answer rests on keys from before the request.
 */
@Injectable()
export class KeyRing {
  private rings: Readonly<Record<KeyPurpose, Ring>> = { access_token: NO_KEYS, audit: NO_KEYS };
  private version = 0;
  private loading: Promise<void> | null = null;
  /** Private halves that were opened once: what this replica has it needs no master key for. */
  private opened = new Map<string, SigningKey>();
  private isServing = false;

  constructor(
    private readonly repository: KeysRepository,
    private readonly sealer: Sealer,
    private readonly config: Config,
  ) {}

  /** Whether this replica serves, rather than run a command. */
  get serving(): boolean {
    return this.isServing;
  }

  /** The key that signs for a purpose. */
  active(purpose: KeyPurpose): SigningKey {
    const { active } = this.rings[purpose];
    if (active === null) throw new Error('the signing keys are not prepared');
    return active;
  }

  /** The published key with a `kid` as far as this replica knows. */
  known(purpose: KeyPurpose, kid: string): VerificationKey | undefined {
    return this.rings[purpose].keys.get(kid);
  }

  /** Whether what is loaded is at least as new as `version`. */
  isCurrent(version: number): boolean {
    return version <= this.version;
  }

  /** Resolves when what is loaded is at least as new as `version`, or all that the database has. */
  async follow(version: number): Promise<void> {
    // A load that was under way may have begun before the change. The one after it has the change, unless the database
    // was failed over to a standby that had not got it.
    for (let loads = 0; loads < 2 && !this.isCurrent(version); loads += 1) await this.load();
  }

  /**
   * Loads the keys where `version` is another one than was loaded. It may be an older one: of a standby that became the
   * primary and had not got the last changes. What it counts from there on would pass for known otherwise.
   */
  async turnTo(version: number): Promise<void> {
    if (version < this.version) await this.load();
    else await this.follow(version);
  }

  /** Loads the keys; whoever asks meanwhile waits for the same load. */
  load(): Promise<void> {
    this.loading ??= this.read().finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  /** From now on this replica serves: what it gives tokens and caches is noted with the keys that it loads. */
  serve(): Promise<void> {
    this.isServing = true;
    return this.load();
  }

  private async read(): Promise<void> {
    // The version first: keys that are newer than it are loaded once more, older ones never pass for newer.
    const version = await this.repository.version();
    const stored = await this.repository.published();
    if (this.isServing) await this.promise(stored);
    const opened = new Map<string, SigningKey>();
    this.rings = {
      access_token: this.ringOf(stored, 'access_token', opened),
      audit: this.ringOf(stored, 'audit', opened),
    };
    this.opened = opened;
    this.version = version;
  }

  /** Before this replica signs with a key, or shows it, the key knows for how long it may be needed. */
  private async promise(stored: readonly SigningKeyEntity[]): Promise<void> {
    const { ttlSeconds, jwksMaxAgeSeconds } = this.config.tokens;
    const isMore = stored.some(
      (key) =>
        (key.phase === 'next' || key.phase === 'active') &&
        (key.tokenTtlSeconds < ttlSeconds || key.jwksMaxAgeSeconds < jwksMaxAgeSeconds),
    );
    if (isMore) await this.repository.promise(ttlSeconds, jwksMaxAgeSeconds);
  }

  private ringOf(stored: readonly SigningKeyEntity[], purpose: KeyPurpose, opened: Map<string, SigningKey>): Ring {
    let active: SigningKey | null = null;
    const keys = new Map<string, VerificationKey>();
    for (const entity of stored) {
      if (entity.purpose !== purpose) continue;
      if (entity.phase === 'retired') {
        keys.set(entity.kid, parseVerificationKey(entity.publicJwk as unknown as PublicJwk));
        continue;
      }
      // The next one is opened too: it may have to sign at once.
      const key = this.opened.get(entity.kid) ?? this.open(entity);
      opened.set(key.kid, key);
      keys.set(key.kid, key);
      if (entity.phase === 'active') active = key;
    }
    return { keys, active };
  }

  private open(entity: SigningKeyEntity): SigningKey {
    const pkcs8 = this.sealer.open(entity.sealedPrivateKey, purposeOfKey(entity.kid));
    return parseSigningKey(entity.publicJwk as unknown as PublicJwk, pkcs8);
  }
}

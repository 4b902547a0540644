import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Config, type SigningAlgorithm } from '../platform/config/config.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Clock } from '../platform/kernel/clock.js';
import { NO_ORIGIN } from '../platform/kernel/principal.js';
import { Sealer } from '../platform/kernel/sealer.js';
import { KeysRepository } from './keys.repository.js';
import type { KeyPurpose, SigningKeyEntity, SigningKeyPhase } from './signing-key.entity.js';
import {
  exportPrivateKey,
  generateSigningKey,
  parseSigningKey,
  type PublicJwk,
  type SigningKey,
} from './signing-key.js';

export type { PublicJwk, SigningKey } from './signing-key.js';

/** A signing key as the operator sees it in a list. */
export interface SigningKeySummary {
  readonly kid: string;
  readonly purpose: KeyPurpose;
  readonly algorithm: string;
  readonly phase: SigningKeyPhase;
  readonly createdAt: Date;
}

/** A JWK of our own set; keys for checkpoints say so, those for access tokens carry no `purpose`. */
export type PublishedJwk = PublicJwk & { readonly purpose?: 'audit' };

/** How long an unknown `kid` is not looked up again, in milliseconds. */
const RELOAD_COOL_DOWN_MS = 1000;
/** How long this replica may go on with an audit key that another one has rotated, in milliseconds. */
const AUDIT_KEY_MAX_AGE_MS = 60_000;
/** Small signatures that every JOSE library verifies. */
const AUDIT_ALGORITHM: SigningAlgorithm = 'ES256';

/** The keys of one purpose that this replica knows. */
interface KeyRing {
  readonly keys: ReadonlyMap<string, SigningKey>;
  readonly active: SigningKey | null;
}

const NO_KEYS: KeyRing = { keys: new Map(), active: null };

/** Our own signing keys: made at the first start, sealed at rest, published as JWKS. */
@Injectable()
export class KeysService {
  private rings: Readonly<Record<KeyPurpose, KeyRing>> = { access_token: NO_KEYS, audit: NO_KEYS };
  private reloadedAtMs = Number.NEGATIVE_INFINITY;
  private loading: Promise<void> | null = null;

  constructor(
    private readonly repository: KeysRepository,
    private readonly unitOfWork: UnitOfWork,
    private readonly audit: AuditService,
    private readonly sealer: Sealer,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /**
   * Loads the keys and makes the first of each purpose, or one for a newly configured algorithm, where there is none.
   * Called once before the service listens; any number of replicas may do so together.
   *
   * @throws SealBroken where another master key sealed them
   */
  async prepare(): Promise<void> {
    await this.ensure('access_token', this.config.tokens.signingAlgorithm);
    await this.ensure('audit', AUDIT_ALGORITHM);
    await this.load();
  }

  /** The key that signs access tokens. */
  signer(): SigningKey {
    return requireKey(this.rings.access_token.active);
  }

  /** The key that signs checkpoints; no other purpose takes it. */
  async auditSigner(): Promise<SigningKey> {
    if (this.clock.nowMs() - this.reloadedAtMs > AUDIT_KEY_MAX_AGE_MS) await this.load();
    return requireKey(this.rings.audit.active);
  }

  /**
   * The key of access tokens with a `kid`, looked up anew where it is not known: another replica may have made it.
   *
   * @returns null where no published key has it
   */
  find(kid: string): Promise<SigningKey | null> {
    return this.lookUp('access_token', kid);
  }

  /** The key of checkpoints with a `kid`, rotated ones included; null where there is none. */
  findAuditKey(kid: string): Promise<SigningKey | null> {
    return this.lookUp('audit', kid);
  }

  /**
   * Makes a new audit key, told in the operator organization's log. The old one signs no more and stays published, so
   * that its checkpoints verify. Every replica signs with the new one within a minute.
   *
   * @returns the new key's `kid`
   */
  rotateAuditKey(): Promise<string> {
    return this.unitOfWork.run(async (transaction) => {
      await this.repository.lock(transaction);
      const active = await this.activeKey(transaction, 'audit');
      return this.replace(transaction, active, 'audit', AUDIT_ALGORITHM);
    });
  }

  /** The JWK Set of RFC 7517 §5: public halves only. */
  async jwks(): Promise<{ keys: PublishedJwk[] }> {
    const published = await this.repository.published();
    return {
      keys: published.map(({ purpose, publicJwk }) => {
        const jwk = publicJwk as unknown as PublicJwk;
        return purpose === 'audit' ? { ...jwk, purpose } : jwk;
      }),
    };
  }

  /** Every key with its phase, newest first. */
  async list(): Promise<SigningKeySummary[]> {
    const keys = await this.repository.all();
    return keys.map(({ kid, purpose, algorithm, phase, createdAt }) => ({ kid, purpose, algorithm, phase, createdAt }));
  }

  private async ensure(purpose: KeyPurpose, algorithm: SigningAlgorithm): Promise<void> {
    await this.unitOfWork.run(async (transaction) => {
      await this.repository.lock(transaction);
      const active = await this.activeKey(transaction, purpose);
      if (active?.algorithm !== algorithm) await this.replace(transaction, active, purpose, algorithm);
    });
  }

  private async activeKey(transaction: EntityManager, purpose: KeyPurpose): Promise<SigningKeyEntity | undefined> {
    const stored = await this.repository.published(transaction);
    return stored.find((key) => key.purpose === purpose && key.phase === 'active');
  }

  /** Retires the active key of a purpose, where there is one, for a new one, whose `kid` it answers. */
  private async replace(
    transaction: EntityManager,
    active: SigningKeyEntity | undefined,
    purpose: KeyPurpose,
    algorithm: SigningAlgorithm,
  ): Promise<string> {
    const now = this.clock.now();
    const key = await this.newKey(purpose, algorithm, now);
    if (active !== undefined) await this.repository.retire(transaction, active.kid, now);
    await this.repository.insert(transaction, key);
    await this.log(transaction, key, active?.kid ?? null);
    return key.kid;
  }

  private async lookUp(purpose: KeyPurpose, kid: string): Promise<SigningKey | null> {
    const known = this.rings[purpose].keys.get(kid);
    if (known !== undefined) return known;
    // Who comes while the keys are loaded waits for them; who comes right after finds what there is.
    if (this.loading === null && this.clock.nowMs() - this.reloadedAtMs < RELOAD_COOL_DOWN_MS) return null;
    await this.load();
    return this.rings[purpose].keys.get(kid) ?? null;
  }

  /** What concerns the platform stands in the operator organization's chain. The very first key is older than that. */
  private async log(transaction: EntityManager, key: SigningKeyEntity, retiredKid: string | null): Promise<void> {
    const organizationId = await this.repository.operatorOrganization(transaction);
    if (organizationId === null) return;
    await this.audit.append(transaction, {
      organizationId,
      action: 'key.rotated',
      outcome: 'success',
      actor: null,
      target: { type: 'key', id: key.kid },
      origin: NO_ORIGIN,
      details: { algorithm: key.algorithm, purpose: key.purpose, retiredKid },
    });
  }

  /** Reads the keys without making any: for commands, which may run with another configuration than the service. */
  load(): Promise<void> {
    this.loading ??= this.read().finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  private async read(): Promise<void> {
    const stored = await this.repository.published();
    this.rings = {
      access_token: this.ringOf(stored, 'access_token'),
      audit: this.ringOf(stored, 'audit'),
    };
    this.reloadedAtMs = this.clock.nowMs();
  }

  private ringOf(stored: readonly SigningKeyEntity[], purpose: KeyPurpose): KeyRing {
    const parsed = stored
      .filter((entity) => entity.purpose === purpose)
      .map((entity) => ({ phase: entity.phase, key: this.open(entity) }));
    return {
      keys: new Map(parsed.map(({ key }) => [key.kid, key])),
      active: parsed.find(({ phase }) => phase === 'active')?.key ?? null,
    };
  }

  private open(entity: SigningKeyEntity): SigningKey {
    const pkcs8 = this.sealer.open(entity.sealedPrivateKey, `signing-key:${entity.kid}`);
    return parseSigningKey(entity.publicJwk as unknown as PublicJwk, pkcs8);
  }

  private async newKey(purpose: KeyPurpose, algorithm: SigningAlgorithm, now: Date): Promise<SigningKeyEntity> {
    const key = await generateSigningKey(algorithm);
    return {
      kid: key.kid,
      purpose,
      algorithm,
      phase: 'active',
      publicJwk: key.publicJwk as unknown as Record<string, unknown>,
      sealedPrivateKey: this.sealer.seal(exportPrivateKey(key), `signing-key:${key.kid}`),
      createdAt: now,
      retiredAt: null,
    };
  }
}

function requireKey(key: SigningKey | null): SigningKey {
  if (key === null) throw new Error('the signing keys are not prepared');
  return key;
}

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Config, type SigningAlgorithm } from '../platform/config/config.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Clock } from '../platform/kernel/clock.js';
import { NO_ORIGIN } from '../platform/kernel/principal.js';
import { Sealer } from '../platform/kernel/sealer.js';
import { KeysRepository } from './keys.repository.js';
import type { SigningKeyEntity, SigningKeyPhase } from './signing-key.entity.js';
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
  readonly algorithm: string;
  readonly phase: SigningKeyPhase;
  readonly createdAt: Date;
}

/** How long an unknown `kid` is not looked up again, in milliseconds. */
const RELOAD_COOL_DOWN_MS = 1000;

/** Our own signing keys: made at the first start, sealed at rest, published as JWKS. */
@Injectable()
export class KeysService {
  private keys: ReadonlyMap<string, SigningKey> = new Map();
  private active: SigningKey | null = null;
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
   * Loads the keys and makes the first one, or one for a newly configured algorithm, where there is none. Called once
   * before the service listens; any number of replicas may do so together.
   *
   * @throws SealBroken where another master key sealed them
   */
  async prepare(): Promise<void> {
    const { signingAlgorithm } = this.config.tokens;
    await this.unitOfWork.run(async (transaction) => {
      await this.repository.lock(transaction);
      const stored = await this.repository.published(transaction);
      const active = stored.find(({ phase }) => phase === 'active');
      if (active?.algorithm === signingAlgorithm) return;
      const now = this.clock.now();
      const key = await this.newKey(signingAlgorithm, now);
      if (active !== undefined) await this.repository.retire(transaction, active.kid, now);
      await this.repository.insert(transaction, key);
      await this.log(transaction, key, active?.kid ?? null);
    });
    await this.load();
  }

  /** The key that signs. */
  signer(): SigningKey {
    if (this.active === null) throw new Error('the signing keys are not prepared');
    return this.active;
  }

  /**
   * The key with a `kid`, looked up anew where it is not known: another replica may have made it.
   *
   * @returns null where no published key has it
   */
  async find(kid: string): Promise<SigningKey | null> {
    const known = this.keys.get(kid);
    if (known !== undefined) return known;
    // Who comes while the keys are loaded waits for them; who comes right after finds what there is.
    if (this.loading === null && this.clock.nowMs() - this.reloadedAtMs < RELOAD_COOL_DOWN_MS) return null;
    await this.load();
    return this.keys.get(kid) ?? null;
  }

  /** The JWK Set of RFC 7517 §5: public halves only. */
  async jwks(): Promise<{ keys: PublicJwk[] }> {
    const published = await this.repository.published();
    return { keys: published.map(({ publicJwk }) => publicJwk as unknown as PublicJwk) };
  }

  /** Every key with its phase, newest first. */
  async list(): Promise<SigningKeySummary[]> {
    const keys = await this.repository.all();
    return keys.map(({ kid, algorithm, phase, createdAt }) => ({ kid, algorithm, phase, createdAt }));
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
      details: { algorithm: key.algorithm, retiredKid },
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
    const parsed = stored.map((entity) => ({ phase: entity.phase, key: this.open(entity) }));
    this.keys = new Map(parsed.map(({ key }) => [key.kid, key]));
    this.active = parsed.find(({ phase }) => phase === 'active')?.key ?? null;
    this.reloadedAtMs = this.clock.nowMs();
  }

  private open(entity: SigningKeyEntity): SigningKey {
    const pkcs8 = this.sealer.open(entity.sealedPrivateKey, `signing-key:${entity.kid}`);
    return parseSigningKey(entity.publicJwk as unknown as PublicJwk, pkcs8);
  }

  private async newKey(algorithm: SigningAlgorithm, now: Date): Promise<SigningKeyEntity> {
    const key = await generateSigningKey(algorithm);
    return {
      kid: key.kid,
      algorithm,
      phase: 'active',
      publicJwk: key.publicJwk as unknown as Record<string, unknown>,
      sealedPrivateKey: this.sealer.seal(exportPrivateKey(key), `signing-key:${key.kid}`),
      createdAt: now,
      retiredAt: null,
    };
  }
}

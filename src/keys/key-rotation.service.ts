import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Config, type SigningAlgorithm } from '../platform/config/config.js';
import { lockOrganizationFor } from '../platform/database/organization-lock.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems, type Problem } from '../platform/kernel/problem.js';
import { dueStep, isFull, keyIn, MOST_RETIRED, removableFrom, usableFrom, type KeyStep } from './key-life.js';
import { KeyMaker } from './key-maker.js';
import { KeyRing } from './key-ring.js';
import { KeysRepository, type NewSigningKey } from './keys.repository.js';
import { KEY_PURPOSES, type KeyPurpose, type SigningKeyEntity } from './signing-key.entity.js';

/** Small signatures that every JOSE library verifies. */
const AUDIT_ALGORITHM: SigningAlgorithm = 'ES256';
/** What can become due at one look, one behind the other. */
const MOST_STEPS = 3;
/** A replica of the version before opens the private halves of retired keys too; after so many days there is none. */
const FORGET_AFTER_DAYS = 1;

/** Who changes keys: a caller over HTTP, or null for commands and the schedule. */
export interface KeyActor {
  readonly caller: Principal | null;
  readonly origin: RequestOrigin;
}

/** The schedule, and the commands of whoever runs the machine. */
export const NOBODY: KeyActor = { caller: null, origin: NO_ORIGIN };

/** The keys of one purpose as they stand under the lock. */
interface Standing {
  readonly purpose: KeyPurpose;
  readonly keys: readonly SigningKeyEntity[];
  readonly algorithm: SigningAlgorithm;
  readonly now: Date;
}

/**
 * Leads keys through their lives. Each step is one transaction under one lock, with its audit event: whatever dies in
 * the middle leaves the keys as they were, and whichever replica looks next goes on.
 */
@Injectable()
export class KeyRotationService {
  constructor(
    private readonly repository: KeysRepository,
    private readonly ring: KeyRing,
    private readonly unitOfWork: UnitOfWork,
    private readonly audit: AuditService,
    private readonly maker: KeyMaker,
    private readonly config: Config,
  ) {}

  /**
   * Makes the first keys where there are none, and decides the algorithm: of replicas that are configured differently
   * the one that was started last. Called once before the service listens; any number of replicas may do so together.
   *
   * @throws SealBroken where another master key sealed the keys
   */
  async prepare(): Promise<void> {
    await this.ring.load();
    await this.unitOfWork.run((transaction) =>
      this.repository.setAlgorithm(transaction, this.config.tokens.signingAlgorithm),
    );
    await this.advance();
    await this.ring.serve();
  }

  /** Takes every step that is due, and removes what nothing needs any more. Any number of replicas may do so at once. */
  async advance(): Promise<void> {
    for (const purpose of KEY_PURPOSES) {
      for (let step = 1; step <= MOST_STEPS; step += 1) if (!(await this.takeStep(purpose))) break;
    }
    await this.removeOld();
    await this.ring.follow(await this.repository.version());
  }

  /**
   * Has the next key of a purpose sign. The one before is retired: it stays in the JWKS for as long as what it has
   * signed may be shown. Another key is published ahead.
   *
   * @returns the key that signs now
   * @throws Problem `conflict` while not everybody has the next key, or where the JWKS is full
   */
  async rotate(actor: KeyActor, purpose: KeyPurpose): Promise<SigningKeyEntity> {
    // Refused before a key is made, and asked again under the lock.
    requireUsable(await this.standing(purpose));
    const spare = await this.maker.make(purpose, await this.algorithmOf(purpose));
    const kid = await this.unitOfWork.run(async (transaction) => {
      const { next } = requireUsable(await this.lock(transaction, actor, purpose));
      await this.activateNext(transaction, actor, next, spare);
      return next.kid;
    });
    return this.stored(kid);
  }

  /**
   * Revokes a key of access tokens: on the next request to any replica none of its tokens is active. Where it signs,
   * the next one signs at once.
   *
   * @throws Problem `not_found`, `conflict` where it is revoked already or signs checkpoints
   */
  async revoke(actor: KeyActor, kid: string): Promise<SigningKeyEntity> {
    const asked = await this.repository.find(this.unitOfWork.reader, kid);
    if (asked === null) throw problems.notFound;
    requireRevocable(asked);
    const spares = await this.sparesFor(asked);
    await this.unitOfWork.run(async (transaction) => {
      const { keys } = await this.lock(transaction, actor, 'access_token');
      const key = await this.repository.find(transaction, kid);
      if (key === null) throw problems.notFound;
      requireRevocable(key);
      await this.replaceRevoked(transaction, actor, key, keyIn(keys, 'next'), spares);
    });
    return this.stored(kid);
  }

  /** Keys to stand in for one that is revoked: made before the lock is taken. */
  private async sparesFor({ phase, purpose }: SigningKeyEntity): Promise<NewSigningKey[]> {
    if (phase === 'retired') return [];
    const { keys, algorithm } = await this.standing(purpose);
    const hasSuccessor = phase === 'next' || keyIn(keys, 'next') !== undefined;
    return Promise.all((hasSuccessor ? [1] : [1, 2]).map(() => this.maker.make(purpose, algorithm)));
  }

  private async replaceRevoked(
    transaction: EntityManager,
    actor: KeyActor,
    key: SigningKeyEntity,
    next: SigningKeyEntity | undefined,
    spares: NewSigningKey[],
  ): Promise<void> {
    await this.repository.revoke(transaction, key.kid);
    const made = key.phase === 'active' && next === undefined ? spares.shift() : undefined;
    const successor = key.phase === 'active' ? (next ?? made) : undefined;
    // What was there when the keys were made is gone: nothing is revoked without a key that signs instead.
    if (key.phase === 'active' && successor === undefined) throw problems.unavailable;
    await this.log(transaction, actor, 'key.revoked', key, { phase: key.phase, successorKid: successor?.kid ?? null });
    if (made !== undefined) await this.create(transaction, actor, made, 'active');
    else if (successor !== undefined) await this.repository.activate(transaction, successor.kid);
    const [spare] = spares;
    // Where none is left, the schedule publishes one.
    if (spare !== undefined && key.phase !== 'retired') await this.create(transaction, actor, spare, 'next');
  }

  /** Adds a key, and tells of it: of the key too whose place it takes, which has signed nothing. */
  private async create(
    transaction: EntityManager,
    actor: KeyActor,
    key: NewSigningKey,
    phase: 'active' | 'next',
    replaced?: SigningKeyEntity,
  ): Promise<void> {
    const details = replaced === undefined ? { phase } : { phase, replacedKid: replaced.kid };
    await this.log(transaction, actor, 'key.created', key, details);
    await this.repository.insert(transaction, key, phase);
  }

  private async takeStep(purpose: KeyPurpose): Promise<boolean> {
    const due = this.dueOf(await this.standing(purpose));
    if (due === null) return false;
    const algorithm = await this.algorithmOf(purpose);
    const spares = [
      await this.maker.make(purpose, algorithm),
      ...(due === 'begin' ? [await this.maker.make(purpose, algorithm)] : []),
    ];
    return this.unitOfWork.run(async (transaction) => {
      const standing = await this.lock(transaction, NOBODY, purpose);
      // Another replica was faster, or decided for another algorithm.
      if (this.dueOf(standing) !== due || standing.algorithm !== algorithm) return true;
      await this.apply(transaction, due, standing, spares);
      return true;
    });
  }

  private async apply(
    transaction: EntityManager,
    step: KeyStep,
    { keys }: Standing,
    [spare, other]: readonly (NewSigningKey | undefined)[],
  ): Promise<void> {
    if (spare === undefined) throw new Error('a step of the signing keys has no key');
    const next = keyIn(keys, 'next');
    if (step === 'activate' && next !== undefined) return this.activateNext(transaction, NOBODY, next, spare);
    const replaced = step === 'republish' ? next : undefined;
    // Nothing was signed with it: nobody misses it.
    if (replaced !== undefined) await this.repository.remove(transaction, replaced.kid);
    await this.create(transaction, NOBODY, spare, step === 'begin' ? 'active' : 'next', replaced);
    if (other !== undefined && next === undefined) await this.create(transaction, NOBODY, other, 'next');
  }

  private async activateNext(
    transaction: EntityManager,
    actor: KeyActor,
    next: SigningKeyEntity,
    spare: NewSigningKey,
  ): Promise<void> {
    const retiring = keyIn(await this.keysOf(transaction, next.purpose), 'active');
    if (retiring !== undefined) await this.repository.retire(transaction, retiring.kid);
    await this.repository.activate(transaction, next.kid);
    await this.log(transaction, actor, 'key.rotated', next, { retiredKid: retiring?.kid ?? null, nextKid: spare.kid });
    await this.repository.insert(transaction, spare, 'next');
  }

  private async removeOld(): Promise<void> {
    await this.repository.forgetRetired(FORGET_AFTER_DAYS);
    const { now } = await this.repository.set();
    for (const key of await this.repository.ended()) {
      const from = removableFrom(key);
      if (from === null || from > now) continue;
      await this.unitOfWork.run(async (transaction) => {
        await this.repository.lock(transaction);
        await this.repository.remove(transaction, key.kid);
      });
    }
  }

  private dueOf({ keys, purpose, algorithm, now }: Standing): KeyStep | null {
    return dueStep(keys, purpose, algorithm, now, this.config.tokens.rotationDays);
  }

  /** Takes the lock of the keys and then the operator organization's, as the act of whoever acts. */
  private async lock(transaction: EntityManager, { caller }: KeyActor, purpose: KeyPurpose): Promise<Standing> {
    await this.repository.lock(transaction);
    const organizationId = await this.repository.operatorOrganization(transaction);
    if (caller !== null && organizationId !== null) await lockOrganizationFor(transaction, caller, organizationId);
    return this.standing(purpose, transaction);
  }

  private async standing(purpose: KeyPurpose, reader = this.unitOfWork.reader): Promise<Standing> {
    const { algorithm, now } = await this.repository.set(reader);
    const keys = await this.keysOf(reader, purpose);
    const wanted = purpose === 'audit' ? AUDIT_ALGORITHM : (algorithm ?? this.config.tokens.signingAlgorithm);
    return { purpose, keys, algorithm: wanted, now };
  }

  private async algorithmOf(purpose: KeyPurpose): Promise<SigningAlgorithm> {
    return (await this.standing(purpose)).algorithm;
  }

  private async keysOf(reader: EntityManager, purpose: KeyPurpose): Promise<SigningKeyEntity[]> {
    return (await this.repository.published(reader)).filter((key) => key.purpose === purpose);
  }

  /** A key as it is stored after an act, which this replica knows of from now on. */
  private async stored(kid: string): Promise<SigningKeyEntity> {
    await this.ring.load();
    const key = await this.repository.find(this.unitOfWork.reader, kid);
    if (key === null) throw problems.notFound;
    return key;
  }

  /** What concerns the platform stands in the operator organization's chain. The very first keys are older than that. */
  private async log(
    transaction: EntityManager,
    { caller, origin }: KeyActor,
    action: AuditAction,
    key: Pick<SigningKeyEntity, 'kid' | 'algorithm' | 'purpose'>,
    details: Readonly<Record<string, AuditDetail>>,
  ): Promise<void> {
    const organizationId = await this.repository.operatorOrganization(transaction);
    if (organizationId === null) return;
    await this.audit.append(transaction, {
      organizationId,
      action,
      outcome: 'success',
      actor: caller?.agentId ?? null,
      target: { type: 'key', id: key.kid },
      origin,
      details: { algorithm: key.algorithm, purpose: key.purpose, ...details },
    });
  }
}

const notYetUsable = problems.conflict.withDetail(
  'Not everybody who keeps the JWKS has the next key yet. Retry-After says in how many seconds it can sign.',
);

/** The next key where everybody has it, and there is room for the one that it retires. */
function requireUsable({ keys, purpose, now }: Standing): { next: SigningKeyEntity } {
  const next = keyIn(keys, 'next');
  if (next === undefined) throw conflict('There is no next key yet. Try again shortly.');
  const waitMs = usableFrom(next).getTime() - now.getTime();
  if (waitMs > 0) throw notYetUsable.withHeaders({ 'Retry-After': String(Math.ceil(waitMs / 1000)) });
  if (isFull(keys, purpose)) {
    throw conflict(`${MOST_RETIRED[purpose]} retired keys are in the JWKS, which takes no more.`);
  }
  return { next };
}

function requireRevocable({ purpose, phase }: SigningKeyEntity): void {
  if (phase === 'revoked') throw conflict('The key is revoked already.');
  if (purpose === 'audit') {
    throw conflict('This key signs checkpoints, which would verify no more. Rotate it: it signs no more then.');
  }
}

function conflict(detail: string): Problem {
  return problems.conflict.withDetail(detail);
}

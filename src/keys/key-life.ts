import type { SigningAlgorithm } from '../platform/config/config.js';
import type { KeyPurpose, SigningKeyEntity } from './signing-key.entity.js';

/** What decides when a key comes to its next phase. */
export type KeyLife = Pick<
  SigningKeyEntity,
  | 'kid'
  | 'purpose'
  | 'algorithm'
  | 'phase'
  | 'publishedAt'
  | 'activatedAt'
  | 'retiredAt'
  | 'revokedAt'
  | 'tokenTtlSeconds'
  | 'jwksMaxAgeSeconds'
>;

/** What a look at the keys of one purpose finds to be due. */
export type KeyStep = 'begin' | 'publish' | 'republish' | 'activate';

const DAY_MS = 86_400_000;
/** A cache keeps what it got for some time longer than it may: a tenth of it, within these bounds, in seconds. */
const LEAST_LAG_SECONDS = 2;
const LONGEST_LAG_SECONDS = 60;
/** Kept so much longer than its last token: the clock of a replica may be behind the database's, in seconds. */
const CLOCK_MARGIN_SECONDS = 120;
/** A revoked key is shown for so long; its `kid` is refused for ever, because no published key has it. */
const REVOKED_SHOWN_MS = 31 * DAY_MS;

/**
 * How many retired keys a JWKS holds at most. A retired key of access tokens leaves with its last token, one of
 * checkpoints never: these last for 25 years of the default schedule.
 */
export const MOST_RETIRED: Readonly<Record<KeyPurpose, number>> = { access_token: 20, audit: 100 };

/** From when on everybody who may keep a JWKS has the key: it signs no sooner, unless the one before was revoked. */
export function usableFrom({ publishedAt, jwksMaxAgeSeconds }: KeyLife): Date {
  const lag = Math.min(LONGEST_LAG_SECONDS, Math.max(LEAST_LAG_SECONDS, Math.ceil(jwksMaxAgeSeconds / 10)));
  return new Date(publishedAt.getTime() + (jwksMaxAgeSeconds + lag) * 1000);
}

/** When a key is removed; null where that is not decided yet, or never. */
export function removableFrom({ phase, purpose, retiredAt, revokedAt, tokenTtlSeconds }: KeyLife): Date | null {
  if (phase === 'revoked' && revokedAt !== null) return new Date(revokedAt.getTime() + REVOKED_SHOWN_MS);
  if (phase !== 'retired' || purpose !== 'access_token' || retiredAt === null) return null;
  return new Date(retiredAt.getTime() + (tokenTtlSeconds + CLOCK_MARGIN_SECONDS) * 1000);
}

/** The one key of a phase that has at most one, of the keys of one purpose. */
export function keyIn<Key extends KeyLife>(keys: readonly Key[], phase: 'next' | 'active'): Key | undefined {
  return keys.find((key) => key.phase === phase);
}

/** Whether the JWKS takes no more retired keys of this purpose. */
export function isFull(keys: readonly KeyLife[], purpose: KeyPurpose): boolean {
  return keys.filter(({ phase }) => phase === 'retired').length >= MOST_RETIRED[purpose];
}

/**
 * What is due for the keys of one purpose, or null.
 *
 * @param keys of this purpose, the revoked left out
 * @param algorithm the one that is to sign
 * @param now by the clock of the database
 * @param rotationDays after how many days a key is replaced; 0: never
 */
export function dueStep(
  keys: readonly KeyLife[],
  purpose: KeyPurpose,
  algorithm: SigningAlgorithm,
  now: Date,
  rotationDays: number,
): KeyStep | null {
  const [active, next] = [keyIn(keys, 'active'), keyIn(keys, 'next')];
  if (active === undefined) return 'begin';
  if (next === undefined) return 'publish';
  if (next.algorithm !== algorithm) return 'republish';
  if (usableFrom(next) > now || isFull(keys, purpose)) return null;
  const age = now.getTime() - (active.activatedAt ?? active.publishedAt).getTime();
  const isOld = rotationDays > 0 && age >= rotationDays * DAY_MS;
  return isOld || active.algorithm !== algorithm ? 'activate' : null;
}

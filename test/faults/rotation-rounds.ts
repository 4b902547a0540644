import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from 'jose';
import { setTimeout as delay } from 'node:timers/promises';
import { MOST_RETIRED } from '../../src/keys/key-life.js';
import { kidOf, kidsOf, publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { underLoad } from '../support/under-load.js';

/** What a run has seen. */
export interface Rounds {
  /** Whatever did not go as it should; empty is what is wanted. */
  readonly failures: string[];
  readonly rotations: number;
  /** Tokens that were verified by themselves, introspected and used. */
  readonly requests: number;
  /** Keys that have signed. */
  readonly kids: number;
}

/** An API that verifies tokens itself: it keeps the JWKS for its max-age to the millisecond and never asks in between. */
class StrictVerifier {
  private keys: ReturnType<typeof createLocalJWKSet> | null = null;
  private freshUntil = 0;

  constructor(
    private readonly jwksUri: string,
    private readonly issuer: string,
  ) {}

  async verify(token: string): Promise<void> {
    const keys = this.keys !== null && performance.now() < this.freshUntil ? this.keys : await this.fetch();
    await jwtVerify(token, keys, { issuer: this.issuer, audience: this.issuer });
  }

  private async fetch(): Promise<ReturnType<typeof createLocalJWKSet>> {
    const response = await fetch(this.jwksUri);
    const keys = createLocalJWKSet((await response.json()) as JSONWebKeySet);
    const [, maxAge = '0'] = /max-age=(\d+)/.exec(response.headers.get('cache-control') ?? '') ?? [];
    this.freshUntil = performance.now() + Number(maxAge) * 1000;
    this.keys = keys;
    return keys;
  }
}

const WORKERS = 4;
/** Tokens from before that are tried again and again; all of them are younger than the shortest lifetime. */
const REMEMBERED = 100;

/**
 * Rotates keys as fast as they can be, on two replicas under load, while verifiers keep the JWKS for its max-age of two
 * seconds.
 *
 * @param seconds how long
 */
export async function rotateUnderLoad(seconds: number): Promise<Rounds> {
  const env = { JWKS_MAX_AGE_SECONDS: '2', RATE_LIMIT_ENTERPRISE: '0' };
  const one = await startTestApp({ env });
  const other = await startTestApp({ database: one.database, clock: one.clock, env: { ...env, ISSUER: one.issuer } });
  const replicas: readonly [TestApp, TestApp] = [one, other];
  await publishedLongAgo(one.database);
  const failures: string[] = [];
  const kids = new Set<string>();
  const remembered: string[] = [await one.api.token(one.operator)];
  const verifiers = [0, 1, 2, 3].map(
    (at) => new StrictVerifier(`${replicas[at % 2 === 0 ? 0 : 1].url}/.well-known/jwks.json`, one.issuer),
  );
  let [rotations, requests] = [0, 0];
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failures.push(`${what}: ${String(error)}`);
    }
  };

  const worker = async (number: number, isOver: () => boolean): Promise<void> => {
    for (let round = number; !isOver(); round += 1) {
      const [here, there] = round % 2 === 0 ? replicas : [other, one];
      await attempt('a request', async () => {
        const fresh = await here.api.token(one.operator);
        kids.add(kidOf(fresh));
        remembered.push(fresh);
        if (remembered.length > REMEMBERED) remembered.splice(1 + (round % (REMEMBERED - 1)), 1);
        const earlier = remembered[round % remembered.length] ?? fresh;
        for (const token of [fresh, earlier]) {
          await verifiers[round % verifiers.length]?.verify(token);
          const { active } = await there.api.introspect(fresh, token);
          if (active !== true) throw new Error(`not active: signed with ${kidOf(token)}`);
          const { status } = await there.api.call('GET', '/quota', token);
          if (status !== 200) throw new Error(`answered ${status}: signed with ${kidOf(token)}`);
          requests += 1;
        }
      });
    }
  };
  const rotator = async (isOver: () => boolean): Promise<void> => {
    while (!isOver()) {
      await attempt('a rotation', async () => {
        const { api } = replicas[rotations % 2 === 0 ? 0 : 1];
        const { status, text } = await api.call('POST', '/keys/rotate', await api.token(one.operator));
        if (status === 200) rotations += 1;
        else if (status !== 409) throw new Error(`answered ${status} ${text}`);
      });
      await delay(100);
    }
  };

  await underLoad(
    (isOver) =>
      Promise.all([...Array.from({ length: WORKERS }, (_, number) => worker(number, isOver)), rotator(isOver)]),
    () => delay(seconds * 1000),
  );
  if ((await kidsOf(one.database, 'retired')).length > MOST_RETIRED.access_token) failures.push('too many keys');
  await other.close();
  await one.close();
  return { failures, rotations, requests, kids: kids.size };
}

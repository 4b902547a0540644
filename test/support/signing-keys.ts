import { KeyRotationService } from '../../src/keys/key-rotation.service.js';
import type { Answer } from './api.js';
import { headerOf } from './forge.js';
import { startTestApp, type TestApp } from './test-app.js';
import type { TestDatabase } from './test-database.js';

/** A signing key as the service shows it. */
export type ShownKey = Record<string, string | null>;

/** Has all signing keys published so long ago that everybody who keeps a JWKS has them. */
export async function publishedLongAgo(database: Pick<TestDatabase, 'query'>): Promise<void> {
  await database.query("UPDATE signing_keys SET published_at = published_at - interval '2 days'");
}

/** The `kid` of each signing key by purpose and phase, as the database has them. */
export async function kidsOf(
  database: Pick<TestDatabase, 'query'>,
  phase: string,
  purpose = 'access_token',
): Promise<string[]> {
  const rows = await database.query<{ kid: string }>(
    'SELECT kid FROM signing_keys WHERE phase = $1 AND purpose = $2 ORDER BY created_at, kid',
    [phase, purpose],
  );
  return rows.map(({ kid }) => kid);
}

/** The key that a token names. */
export function kidOf(token: string): string {
  return String(headerOf(token)['kid']);
}

/** The keys that a replica publishes. */
export async function jwksKids({ api }: TestApp): Promise<(string | undefined)[]> {
  const { body } = await api.send<{ keys: { kid?: string }[] }>('GET', '/.well-known/jwks.json');
  return body.keys.map(({ kid }) => kid);
}

/** Has a replica take the steps that are due. */
export function advance({ app }: TestApp): Promise<void> {
  return app.get(KeyRotationService).advance();
}

/** Two replicas on one database, and an operator who acts on their keys. */
export class TwoReplicas {
  private constructor(
    readonly one: TestApp,
    readonly other: TestApp,
    /** A token of the operator; `renew` gets another one. */
    public operator: string,
  ) {}

  /** @param env variables as the environment of both has them */
  static async start(env: Readonly<Record<string, string>> = {}): Promise<TwoReplicas> {
    const one = await startTestApp({ env });
    const other = await startTestApp({ database: one.database, clock: one.clock, env: { ...env, ISSUER: one.issuer } });
    return new TwoReplicas(one, other, await one.api.token(one.operator));
  }

  async stop(): Promise<void> {
    await this.other.close();
    await this.one.close();
  }

  /** Gets another token for the operator. */
  async renew(at = this.one): Promise<string> {
    this.operator = await at.api.token(this.one.operator);
    return this.operator;
  }

  rotate(by = this.operator, at = this.one): Promise<Answer<ShownKey>> {
    return at.api.call<ShownKey>('POST', '/keys/rotate', by);
  }

  revoke(kid: string, by = this.operator, at = this.one): Promise<Answer<ShownKey>> {
    return at.api.call<ShownKey>('POST', `/keys/${kid}/revoke`, by);
  }

  /** The events of an action in the operator organization's log, newest first. */
  async events(action: string): Promise<Record<string, unknown>[]> {
    const path = `/audit?action=${action}`;
    return (await this.one.api.call<{ data: Record<string, unknown>[] }>('GET', path, this.operator)).body.data;
  }
}

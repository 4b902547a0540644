import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { KeysService } from '../keys/keys.service.js';
import { LookupCoalescer } from '../platform/database/lookup-coalescer.js';
import { Metrics } from '../platform/http/metrics.js';
import type { Tier } from '../platform/kernel/tier.js';
import type { AccessTokenClaims } from './access-token-claims.js';
import { TokensRepository } from './tokens.repository.js';
import { TokenVerifier, type VerifiedToken } from './token-verifier.js';

/** Tokens that may wait for the next lookup. */
const LOOKUP_LIMITS = { maxQueue: 10_000, maxBatch: 256 };

/** A token that is alive, and what its organization pays for. */
export interface ActiveToken {
  readonly claims: AccessTokenClaims;
  /** The key that signed it. */
  readonly kid: string;
  readonly tier: Tier;
}

/** Tells whether tokens are active. Every question reads the shared state; those asked together share one query. */
@Injectable()
export class TokenState implements OnApplicationShutdown {
  private readonly lookup: LookupCoalescer<VerifiedToken, Tier | null>;

  constructor(
    private readonly repository: TokensRepository,
    private readonly verifier: TokenVerifier,
    private readonly keys: KeysService,
    metrics: Metrics,
  ) {
    this.lookup = new LookupCoalescer(
      'token_states',
      LOOKUP_LIMITS,
      (tokens) => this.tiers(tokens),
      (size, seconds) => metrics.flushed('token_states', size, seconds),
    );
    metrics.observeQueue('token_states', () => this.lookup.depth);
  }

  /**
   * A token that is ours, has not expired and is alive.
   *
   * @returns null for any other, whatever the reason
   */
  active(token: string): Promise<ActiveToken | null> {
    const verified = this.verifier.verify(token);
    return verified instanceof Promise ? verified.then((one) => this.alive(one)) : this.alive(verified);
  }

  /** The same for two tokens: both are verified before either is looked up, so that one query answers for both. */
  bothActive(one: string, other: string): [Promise<ActiveToken | null>, Promise<ActiveToken | null>] {
    const [first, second] = [this.verifier.verify(one), this.verifier.verify(other)];
    if (!(first instanceof Promise) && !(second instanceof Promise)) return [this.alive(first), this.alive(second)];
    const verified = Promise.all([first, second]);
    return [verified.then(([token]) => this.alive(token)), verified.then(([, token]) => this.alive(token))];
  }

  /** Ends the lookups once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.lookup.drain();
  }

  private async alive(token: VerifiedToken | null): Promise<ActiveToken | null> {
    if (token === null) return null;
    const tier = await this.lookup.read(token);
    return tier === null ? null : { claims: token.claims, kid: token.kid, tier };
  }

  /**
   * The signatures were verified with the keys that this replica knew. Where these have changed, the tokens of those
   * that are published no more are dead.
   */
  private async tiers(tokens: readonly VerifiedToken[]): Promise<readonly (Tier | null)[]> {
    const { result, keyVersion } = await this.repository.tiers(tokens.map(({ claims }) => claims));
    if (!this.keys.isCurrent(keyVersion)) await this.keys.follow(keyVersion);
    return result.map((tier, at) => (this.keys.isPublished(tokens[at]?.kid ?? '') ? tier : null));
  }
}

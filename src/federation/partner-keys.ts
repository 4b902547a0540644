import { Injectable, Logger } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { Metrics } from '../platform/http/metrics.js';
import type { CompactJws } from '../platform/jws/compact-jws.js';
import { keyOf, type PublicJwk, type PublicKey } from '../platform/jws/public-key.js';
import { RememberedKeys } from '../platform/jws/remembered-keys.js';
import { Clock } from '../platform/kernel/clock.js';
import { KeyDocuments, type KeySource, type PublishedKeys } from './key-documents.js';
import type { PartnerTrust } from './partner.entity.js';
import { Places } from './places.js';
import { RemoteKeySet } from './remote-key-set.js';

/** Partners whose published keys are kept. */
const MAX_KEY_SETS = 1000;
/** Fetches of all partners together. */
const MAX_FETCHES = 50;
/** Requests that may wait for them: half of what the token endpoint lets in at first. */
const MAX_WAITING = 128;

/** Why there is no key for an assertion. */
export type KeyFault = 'unknown_key' | 'ambiguous_key' | 'keys_unavailable';

/** The keys of partners: those of their rows as they are, those that they publish from a cache within bounds. */
@Injectable()
export class PartnerKeys {
  private readonly logger = new Logger(PartnerKeys.name);
  private readonly remote = new LRUCache<string, RemoteKeySet>({ max: MAX_KEY_SETS });
  private readonly remembered = new RememberedKeys();
  private readonly shared = { fetches: new Places(MAX_FETCHES), waiters: new Places(MAX_WAITING) };

  constructor(
    private readonly documents: KeyDocuments,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
  ) {}

  /**
   * The key of a partner that an assertion says it was signed with.
   *
   * @param partner as its row stands
   * @param mayFetch whether an outgoing call may be made
   * @throws QueueFull where too many wait for the partner's keys
   */
  async find(partner: PartnerTrust, jws: CompactJws, mayFetch: boolean): Promise<PublicKey | KeyFault> {
    if (partner.jwks !== null) return keyOf(jws, this.inline(partner.jwks));
    const published = this.published(partner);
    const keys = await published.keys(mayFetch);
    if (keys === null) return 'keys_unavailable';
    const found = keyOf(jws, keys);
    if (found !== 'unknown_key' || !mayFetch) return found;
    const newer = await published.newerKeys();
    return newer === null ? found : keyOf(jws, newer);
  }

  private inline(jwks: readonly PublicJwk[]): PublicKey[] {
    return jwks.map((jwk) => this.remembered.of(jwk)).filter((key) => key !== null);
  }

  /** Where the keys are belongs to the name of the cache's entry: a change of it holds at once. */
  private published({ partnerId, issuer, jwksUri }: PartnerTrust): RemoteKeySet {
    const name = JSON.stringify([partnerId, issuer, jwksUri]);
    const known = this.remote.get(name);
    if (known !== undefined) return known;
    const made = new RemoteKeySet(
      () => this.fetch({ issuer, jwksUri }, partnerId),
      () => this.clock.nowMs(),
      this.shared,
    );
    this.remote.set(name, made);
    return made;
  }

  private async fetch(source: KeySource, partnerId: string): Promise<PublishedKeys> {
    try {
      const published = await this.documents.fetch(source);
      this.metrics.partnerKeysFetched('fetched');
      return published;
    } catch (error) {
      this.metrics.partnerKeysFetched('failed');
      this.logger.warn(`could not fetch the keys of the partner ${partnerId}: ${String(error)}`);
      throw error;
    }
  }
}

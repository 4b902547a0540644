import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Config } from '../platform/config/config.js';
import { parsePublicJwk, type PublicKey } from '../platform/jws/public-key.js';
import { GuardedClient } from '../platform/outbound/guarded-client.js';
import { OutboundError } from '../platform/outbound/outbound-error.js';

/** For the discovery document and the keys together, in milliseconds. */
const TIMEOUT_MS = 5000;
/** Of each document. */
const MAX_BYTES = 262_144;
/** Keys of one partner that are looked at. */
const MAX_KEYS = 100;
const DISCOVERY_PATH = '/.well-known/openid-configuration';

/** Where a partner's keys are published. */
export interface KeySource {
  readonly issuer: string;
  /** Null: where the issuer's discovery document says. */
  readonly jwksUri: string | null;
}

/** The keys of a partner, as they were published. */
export interface PublishedKeys {
  readonly keys: readonly PublicKey[];
  /** How long the partner's server lets them be kept, in seconds; null where it does not say. */
  readonly maxAgeSeconds: number | null;
}

/** Fetches the keys of partners, through the client that reaches nothing that only we can. */
@Injectable()
export class KeyDocuments implements OnApplicationShutdown {
  private readonly client: GuardedClient;

  constructor(config: Config) {
    // Plain http never, but inside the networks that the operator named.
    this.client = new GuardedClient({
      allowedNetworks: config.outbound.federationAllowedNetworks,
      plainHttp: false,
    });
  }

  /** What is wrong with a URL as a place to fetch from, as far as it can be told without asking; null where nothing is. */
  fault(url: string): string | null {
    return this.client.fault(url);
  }

  /**
   * Fetches the keys of a partner.
   *
   * @throws OutboundError also where a document is not what it has to be
   */
  async fetch(source: KeySource): Promise<PublishedKeys> {
    const endsAt = performance.now() + TIMEOUT_MS;
    const uri = source.jwksUri ?? (await this.discover(source.issuer, endsAt));
    const { json, maxAgeSeconds } = await this.read(uri, endsAt);
    return { keys: keysOf(json), maxAgeSeconds };
  }

  /** Closes the connections that are kept. */
  onApplicationShutdown(): void {
    this.client.close();
  }

  /** OpenID Connect Discovery 1.0 §4.3: the document must name the very issuer that was asked. */
  private async discover(issuer: string, endsAt: number): Promise<string> {
    const { json } = await this.read(issuer.replace(/\/$/, '') + DISCOVERY_PATH, endsAt);
    const document = typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
    if (document['issuer'] !== issuer)
      throw new OutboundError('unexpected_answer', 'the document is of another issuer');
    const uri = document['jwks_uri'];
    if (typeof uri !== 'string') throw new OutboundError('unexpected_answer', 'the document names no jwks_uri');
    return uri;
  }

  private read(url: string, endsAt: number) {
    const timeoutMs = Math.ceil(endsAt - performance.now());
    if (timeoutMs <= 0) throw new OutboundError('timeout');
    return this.client.getJson(url, { timeoutMs, maxBytes: MAX_BYTES });
  }
}

/** The keys of a JWK Set that are fit for signatures (RFC 7517 §5: others are left out, not refused). */
function keysOf(json: unknown): PublicKey[] {
  const keys = typeof json === 'object' && json !== null && 'keys' in json ? json.keys : undefined;
  if (!Array.isArray(keys)) throw new OutboundError('unexpected_answer', 'the document is no JWK Set');
  return keys
    .slice(0, MAX_KEYS)
    .map(parsePublicJwk)
    .filter((key) => typeof key !== 'string');
}

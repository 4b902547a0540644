import type { Tier } from '../kernel/tier.js';

/** A signature algorithm of RFC 7518 §3.1 / RFC 8037 that access tokens may be signed with. */
export type SigningAlgorithm = 'RS256' | 'PS256' | 'ES256' | 'EdDSA';

/** All that the environment decides, parsed once at the start and frozen. Inject `Config`; take the group you need. */
export class Config {
  constructor(
    readonly environment: 'development' | 'test' | 'production',
    readonly http: HttpConfig,
    readonly database: DatabaseConfig,
    readonly tokens: TokenConfig,
    readonly keys: KeyConfig,
    readonly bootstrap: BootstrapConfig | null,
    readonly logLevel: LogLevel,
    readonly outbound: OutboundConfig,
    readonly abuse: AbuseConfig,
  ) {}
}

/** The levels of pino, quietest last. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** Where the service listens. */
export interface HttpConfig {
  readonly host: string;
  /** 0 to 65535; 0 takes any free port. */
  readonly port: number;
  /** Addresses or CIDRs of proxies whose `X-Forwarded-For` is believed; none by default. */
  readonly trustedProxies: readonly string[];
  /** Processes that serve on the port, 1 to 64. */
  readonly workers: number;
  /** How long the port stays open at shutdown for load balancers to notice, in seconds. */
  readonly shutdownDelaySeconds: number;
}

/** Which PostgreSQL the service uses. */
export interface DatabaseConfig {
  /** The serving role's URL; `null`: the embedded PostgreSQL under `dataDirectory`. */
  readonly url: string | null;
  /** The owning role's URL; `null`: the serving role owns the tables. */
  readonly migrationUrl: string | null;
  readonly dataDirectory: string;
  /** Connections that a process that serves opens at most. */
  readonly poolSize: number;
}

/** What access tokens look like. */
export interface TokenConfig {
  /** The `iss` of every token and the audience of our own API, without a trailing slash. */
  readonly issuer: string;
  /** The longest lifetime of an access token, in seconds. */
  readonly ttlSeconds: number;
  /** The `typ` header: `JWT`, or `at+jwt` (RFC 9068 §2.1). */
  readonly typ: 'JWT' | 'at+jwt';
  readonly signingAlgorithm: SigningAlgorithm;
  /** How long relying parties may keep the JWKS, in seconds. */
  readonly jwksMaxAgeSeconds: number;
  /** After how many days the signing keys are replaced by themselves; 0: never. */
  readonly rotationDays: number;
}

/** The keys that seal secrets at rest; `null` where the embedded mode keeps one under the data directory. */
export interface KeyConfig {
  readonly masterKey: Buffer | null;
  /** Opens what it sealed, while the master key is changed. */
  readonly previousMasterKey: Buffer | null;
}

/** The first operator's credentials, where the environment fixes them. */
export interface BootstrapConfig {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** How much of what somebody may do; every number is a minute's. */
export interface AbuseConfig {
  readonly failures: FailureLimits;
  /** Requests of a principal to the management endpoints, by tier; 0: as many as it likes. */
  readonly requests: Readonly<Record<Tier, number>>;
  /** How many times a principal's number its organization has. */
  readonly organizationFactor: number;
}

/** How many failed authentications a minute make somebody wait. */
export interface FailureLimits {
  /** Of one client from one network. */
  readonly perClient: number;
  /** Of all clients from one network. */
  readonly perNetwork: number;
}

/** Where calls that others name may go: networks in CIDR notation that are not public but allowed; none by default. */
export interface OutboundConfig {
  readonly webhookAllowedNetworks: readonly string[];
  readonly federationAllowedNetworks: readonly string[];
}

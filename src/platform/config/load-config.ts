import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { Config, type BootstrapConfig, type LogLevel, type SigningAlgorithm } from './config.js';

/** The exit code of a bad configuration: EX_CONFIG of sysexits.h. */
export const EXIT_BAD_CONFIGURATION = 78;

/** The environment is not fit to start with. `faults` names every variable at fault and never a value. */
export class ConfigurationError extends Error {
  constructor(readonly faults: readonly string[]) {
    super(`The configuration has ${faults.length} fault(s):\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
    this.name = 'ConfigurationError';
  }
}

/** The most processes that serve on one port. */
const MOST_WORKERS = 64;
/** Connections of all workers together, and of one. */
const CONNECTIONS = 80;
const LARGEST_POOL = 20;
const LEAST_POOL = 6;
const SIGNING_ALGORITHMS: readonly SigningAlgorithm[] = ['RS256', 'PS256', 'ES256', 'EdDSA'];
const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const ENVIRONMENTS = ['development', 'test', 'production'] as const;
const ACCESS_TOKEN_TYPS = ['JWT', 'at+jwt'] as const;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;
const BOOTSTRAP_SECRET = /^[A-Za-z0-9_-]{32,128}$/;

/**
 * Turns the environment into the one typed, frozen `Config`.
 *
 * @param env the process environment; a variable set to the empty string counts as unset
 * @throws ConfigurationError with every fault at once
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const read = new EnvironmentReader(env);
  const environment = read.oneOf('NODE_ENV', ENVIRONMENTS, 'development');
  const port = read.integer('PORT', 3000, 0, 65535);
  const workers = read.workers('WEB_CONCURRENCY');
  const config = new Config(
    environment,
    Object.freeze({
      host: read.text('HOST') ?? '127.0.0.1',
      port,
      trustedProxies: read.addresses('TRUSTED_PROXIES'),
      workers,
      shutdownDelaySeconds: read.integer('SHUTDOWN_DELAY_SECONDS', 0, 0, 300),
    }),
    Object.freeze({
      url: read.postgresUrl('DATABASE_URL'),
      migrationUrl: read.postgresUrl('MIGRATION_DATABASE_URL'),
      dataDirectory: resolve(read.text('DATA_DIR') ?? './data'),
      poolSize: poolSizeOf(workers),
    }),
    Object.freeze({
      issuer: read.issuer('ISSUER') ?? `http://localhost:${port}`,
      ttlSeconds: read.integer('TOKEN_TTL_SECONDS', 3600, 60, 86_400),
      typ: read.oneOf('ACCESS_TOKEN_TYP', ACCESS_TOKEN_TYPS, 'JWT'),
      signingAlgorithm: read.oneOf('SIGNING_ALG', SIGNING_ALGORITHMS, 'RS256'),
      jwksMaxAgeSeconds: read.integer('JWKS_MAX_AGE_SECONDS', 300, 1, 86_400),
      rotationDays: read.integer('SIGNING_KEY_ROTATION_DAYS', 90, 0, 3650),
    }),
    Object.freeze({ masterKey: read.key('MASTER_KEY'), previousMasterKey: read.key('MASTER_KEY_PREVIOUS') }),
    readBootstrap(read),
    read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    Object.freeze({
      webhookAllowedNetworks: read.addresses('WEBHOOK_ALLOWED_NETWORKS'),
      federationAllowedNetworks: read.addresses('FEDERATION_ALLOWED_NETWORKS'),
    }),
    Object.freeze({
      failures: Object.freeze({
        perClient: read.integer('AUTHENTICATION_FAILURES_PER_CLIENT', 10, 1, 1000),
        perNetwork: read.integer('AUTHENTICATION_FAILURES_PER_ADDRESS', 100, 1, 1_000_000),
      }),
      requests: Object.freeze({
        free: read.integer('RATE_LIMIT_FREE', 60, 0, 1_000_000),
        pro: read.integer('RATE_LIMIT_PRO', 600, 0, 1_000_000),
        enterprise: read.integer('RATE_LIMIT_ENTERPRISE', 6000, 0, 1_000_000),
      }),
      organizationFactor: read.integer('RATE_LIMIT_ORGANIZATION_FACTOR', 10, 1, 1000),
    }),
  );
  if (config.database.url === null && config.database.migrationUrl !== null) {
    read.fault('MIGRATION_DATABASE_URL is set but DATABASE_URL is not');
  }
  if (environment === 'production') requireProductionSettings(read, config);
  if (read.faults.length > 0) throw new ConfigurationError(read.faults);
  return Object.freeze(config);
}

/** All workers together stay below the 100 connections that a PostgreSQL takes unless it is told otherwise. */
function poolSizeOf(workers: number): number {
  return Math.max(LEAST_POOL, Math.min(LARGEST_POOL, Math.floor(CONNECTIONS / workers)));
}

function readBootstrap(read: EnvironmentReader): BootstrapConfig | null {
  const clientId = read.text('BOOTSTRAP_CLIENT_ID');
  const clientSecret = read.text('BOOTSTRAP_CLIENT_SECRET');
  if (clientId === undefined && clientSecret === undefined) return null;
  if (clientId === undefined || !UUID.test(clientId)) read.fault('BOOTSTRAP_CLIENT_ID must be a UUID');
  if (clientSecret === undefined || !BOOTSTRAP_SECRET.test(clientSecret)) {
    read.fault('BOOTSTRAP_CLIENT_SECRET must be 32 to 128 characters of A-Z a-z 0-9 _ -');
  }
  return Object.freeze({ clientId: clientId?.toLowerCase() ?? '', clientSecret: clientSecret ?? '' });
}

function requireProductionSettings(read: EnvironmentReader, config: Config): void {
  if (config.database.url === null) read.fault('DATABASE_URL is required when NODE_ENV is production');
  if (config.keys.masterKey === null) {
    read.fault('MASTER_KEY is required when NODE_ENV is production');
  }
  if (!config.tokens.issuer.startsWith('https://')) {
    read.fault('ISSUER must be an https URL when NODE_ENV is production');
  }
}

/** Reads single variables and gathers their faults instead of stopping at the first. */
class EnvironmentReader {
  readonly faults: string[] = [];

  constructor(private readonly env: NodeJS.ProcessEnv) {}

  fault(message: string): void {
    this.faults.push(message);
  }

  text(name: string): string | undefined {
    const value = this.env[name];
    return value === undefined || value === '' ? undefined : value;
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    this.fault(`${name} must be a whole number from ${least} to ${most}`);
    return fallback;
  }

  /** `auto` is one for each core. */
  workers(name: string): number {
    const value = this.text(name) ?? '1';
    if (value === 'auto') return Math.min(availableParallelism(), MOST_WORKERS);
    const number = /^\d{1,3}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= 1 && number <= MOST_WORKERS) return number;
    this.fault(`${name} must be auto or a whole number from 1 to ${MOST_WORKERS}`);
    return 1;
  }

  oneOf<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined) this.fault(`${name} must be one of ${choices.join(', ')}`);
    return choice ?? fallback;
  }

  postgresUrl(name: string): string | null {
    const value = this.text(name);
    if (value === undefined) return null;
    const url = URL.canParse(value) ? new URL(value) : null;
    if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol)) {
      this.fault(`${name} must be a postgres:// URL`);
    }
    return value;
  }

  /** RFC 8414 §2: an issuer has no query and no fragment; a trailing slash is dropped so that there is one spelling. */
  issuer(name: string): string | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const url = URL.canParse(value) ? new URL(value) : null;
    const plain =
      url !== null &&
      ['http:', 'https:'].includes(url.protocol) &&
      url.search === '' &&
      url.hash === '' &&
      url.username === '' &&
      url.password === '' &&
      !/[?#\s]/.test(value);
    if (!plain) this.fault(`${name} must be an http or https URL without user, query and fragment`);
    return value.replace(/(?<!\/)\/+$/, '');
  }

  key(name: string): Buffer | null {
    const value = this.text(name);
    if (value === undefined) return null;
    const key = Buffer.from(value, 'base64');
    if (key.length === 32 && /^[A-Za-z0-9+/]{43}=?$/.test(value)) return key;
    this.fault(`${name} must be 32 bytes in base64`);
    return null;
  }

  addresses(name: string): readonly string[] {
    const items = (this.text(name) ?? '')
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
    if (!items.every(isAddressOrNetwork)) this.fault(`${name} must be a comma-separated list of addresses or CIDRs`);
    return Object.freeze(items);
  }
}

function isAddressOrNetwork(item: string): boolean {
  const [address = '', bits, ...rest] = item.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  return /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
}

import { describe, expect, it } from '@jest/globals';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { ConfigurationError, EXIT_BAD_CONFIGURATION, loadConfig } from './load-config.js';

const KEY = Buffer.alloc(32, 7).toString('base64');

function faultsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigurationError) return error.faults;
    throw error;
  }
}

describe('the configuration', () => {
  it('has the defaults of the contract', () => {
    const config = loadConfig({});
    expect(config).toMatchObject({
      environment: 'development',
      http: { host: '127.0.0.1', port: 3000, trustedProxies: [], workers: 1, shutdownDelaySeconds: 0 },
      database: { url: null, migrationUrl: null, dataDirectory: resolve('./data') },
      tokens: {
        issuer: 'http://localhost:3000',
        ttlSeconds: 3600,
        typ: 'JWT',
        signingAlgorithm: 'RS256',
        jwksMaxAgeSeconds: 300,
        rotationDays: 90,
      },
      keys: { masterKey: null, previousMasterKey: null },
      bootstrap: null,
      logLevel: 'info',
      abuse: {
        failures: { perClient: 10, perNetwork: 100 },
        requests: { free: 60, pro: 600, enterprise: 6000 },
        organizationFactor: 10,
      },
    });
  });

  it('takes an empty variable for one that is not set', () => {
    const names = [
      'PORT',
      'HOST',
      'ISSUER',
      'DATABASE_URL',
      'MASTER_KEY',
      'MASTER_KEY_PREVIOUS',
      'SIGNING_ALG',
      'TRUSTED_PROXIES',
      'LOG_LEVEL',
    ];
    expect(loadConfig(Object.fromEntries(names.map((name) => [name, ''])))).toEqual(loadConfig({}));
  });

  it('takes every variable', () => {
    const config = loadConfig({
      NODE_ENV: 'production',
      HOST: '0.0.0.0',
      PORT: '8443',
      ISSUER: 'https://id.example.com/tenant/',
      DATABASE_URL: 'postgres://serve:pw@db/idp',
      MIGRATION_DATABASE_URL: 'postgresql://own:pw@db/idp',
      DATA_DIR: '/var/lib/idp',
      MASTER_KEY: KEY,
      MASTER_KEY_PREVIOUS: Buffer.alloc(32, 8).toString('base64'),
      TOKEN_TTL_SECONDS: '900',
      ACCESS_TOKEN_TYP: 'at+jwt',
      SIGNING_ALG: 'EdDSA',
      JWKS_MAX_AGE_SECONDS: '60',
      SIGNING_KEY_ROTATION_DAYS: '30',
      BOOTSTRAP_CLIENT_ID: 'A1B2C3D4-E5F6-4890-ABCD-EF1234567890',
      BOOTSTRAP_CLIENT_SECRET: 'x'.repeat(32),
      TRUSTED_PROXIES: '10.0.0.0/8, ::1 ,192.0.2.7',
      LOG_LEVEL: 'warn',
    });
    expect(config).toMatchObject({
      environment: 'production',
      http: { host: '0.0.0.0', port: 8443, trustedProxies: ['10.0.0.0/8', '::1', '192.0.2.7'] },
      database: { url: 'postgres://serve:pw@db/idp', migrationUrl: 'postgresql://own:pw@db/idp' },
      tokens: {
        issuer: 'https://id.example.com/tenant',
        ttlSeconds: 900,
        typ: 'at+jwt',
        signingAlgorithm: 'EdDSA',
        jwksMaxAgeSeconds: 60,
        rotationDays: 30,
      },
      bootstrap: { clientId: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890', clientSecret: 'x'.repeat(32) },
      logLevel: 'warn',
    });
    expect(config.keys).toEqual({ masterKey: Buffer.alloc(32, 7), previousMasterKey: Buffer.alloc(32, 8) });
  });

  it('names the issuer by the port unless told', () => {
    expect(loadConfig({ PORT: '4000' }).tokens.issuer).toBe('http://localhost:4000');
  });

  it('runs one process, as many as are asked for, or one a core', () => {
    expect(loadConfig({ WEB_CONCURRENCY: '3' }).http.workers).toBe(3);
    expect(loadConfig({ WEB_CONCURRENCY: 'auto' }).http.workers).toBe(Math.min(64, availableParallelism()));
    for (const value of ['0', '65', '-1', '1.5', 'AUTO', ' 2']) {
      expect(faultsOf({ WEB_CONCURRENCY: value })).toEqual([
        'WEB_CONCURRENCY must be auto or a whole number from 1 to 64',
      ]);
    }
  });

  it.each([1, 4, 5, 8, 13])('leaves a default PostgreSQL connections to spare with %i workers', (workers) => {
    const { poolSize } = loadConfig({ WEB_CONCURRENCY: String(workers) }).database;
    expect(poolSize * workers).toBeLessThanOrEqual(80);
    expect(poolSize).toBeGreaterThanOrEqual(6);
    expect(poolSize).toBeLessThanOrEqual(20);
  });

  it('is frozen, groups and lists too', () => {
    const config = loadConfig({
      BOOTSTRAP_CLIENT_ID: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890',
      BOOTSTRAP_CLIENT_SECRET: 'x'.repeat(32),
    });
    for (const part of [
      config,
      config.http,
      config.http.trustedProxies,
      config.database,
      config.tokens,
      config.keys,
      config.bootstrap,
      config.abuse,
      config.abuse.failures,
      config.abuse.requests,
    ]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });

  it.each<[string, string]>([
    ['NODE_ENV', 'staging'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '3000x'],
    ['PORT', '1e3'],
    ['PORT', '0x10'],
    ['PORT', ' 3000'],
    ['TOKEN_TTL_SECONDS', '59'],
    ['TOKEN_TTL_SECONDS', '86401'],
    ['TOKEN_TTL_SECONDS', '60.5'],
    ['JWKS_MAX_AGE_SECONDS', '0'],
    ['ACCESS_TOKEN_TYP', 'jwt'],
    ['SIGNING_ALG', 'HS256'],
    ['SIGNING_ALG', 'none'],
    ['LOG_LEVEL', 'verbose'],
    ['DATABASE_URL', 'mysql://db/idp'],
    ['DATABASE_URL', 'db'],
    ['ISSUER', 'id.example.com'],
    ['ISSUER', 'ftp://id.example.com'],
    ['ISSUER', 'https://id.example.com?x=1'],
    ['ISSUER', 'https://id.example.com#x'],
    ['ISSUER', 'https://id.example.com?'],
    ['ISSUER', 'https://user:pw@id.example.com'],
    ['ISSUER', 'https://id.example.com '],
    ['MASTER_KEY', Buffer.alloc(31).toString('base64')],
    ['MASTER_KEY', Buffer.alloc(33).toString('base64')],
    ['MASTER_KEY', `${KEY.slice(0, -2)}!!`],
    ['MASTER_KEY', 'a'.repeat(64)],
    ['MASTER_KEY_PREVIOUS', Buffer.alloc(31).toString('base64')],
    ['AUTHENTICATION_FAILURES_PER_CLIENT', '0'],
    ['AUTHENTICATION_FAILURES_PER_ADDRESS', '-10000'],
    ['RATE_LIMIT_PRO', 'a lot'],
    ['RATE_LIMIT_ORGANIZATION_FACTOR', '0'],
    ['TRUSTED_PROXIES', 'proxy.example.com'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['TRUSTED_PROXIES', '10.0.0.1,*'],
    ['TRUSTED_PROXIES', '10.0.0.0/8/8'],
    ['TRUSTED_PROXIES', '::1/129'],
    ['TRUSTED_PROXIES', '10.0.0.0/'],
  ])('refuses %s=%s by its name, never by its value', (name, value) => {
    const faults = faultsOf({ [name]: value });
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(name);
    if (value.length > 4) expect(faults[0]).not.toContain(value);
  });

  it.each<[string, NodeJS.ProcessEnv, string[]]>([
    [
      'an id without a secret',
      { BOOTSTRAP_CLIENT_ID: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890' },
      ['BOOTSTRAP_CLIENT_SECRET'],
    ],
    ['a secret without an id', { BOOTSTRAP_CLIENT_SECRET: 'x'.repeat(32) }, ['BOOTSTRAP_CLIENT_ID']],
    [
      'an id that is no UUID and a secret that is too short',
      { BOOTSTRAP_CLIENT_ID: 'operator', BOOTSTRAP_CLIENT_SECRET: 'x'.repeat(31) },
      ['BOOTSTRAP_CLIENT_ID', 'BOOTSTRAP_CLIENT_SECRET'],
    ],
    [
      'a secret that is too long',
      { BOOTSTRAP_CLIENT_ID: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890', BOOTSTRAP_CLIENT_SECRET: 'x'.repeat(129) },
      ['BOOTSTRAP_CLIENT_SECRET'],
    ],
    [
      'a secret with other characters',
      { BOOTSTRAP_CLIENT_ID: 'a1b2c3d4-e5f6-4890-abcd-ef1234567890', BOOTSTRAP_CLIENT_SECRET: `${'x'.repeat(32)} ` },
      ['BOOTSTRAP_CLIENT_SECRET'],
    ],
    ['a migration URL without a database', { MIGRATION_DATABASE_URL: 'postgres://db/idp' }, ['MIGRATION_DATABASE_URL']],
    ['production without what it needs', { NODE_ENV: 'production' }, ['DATABASE_URL', 'MASTER_KEY', 'ISSUER']],
    [
      'production with an issuer without TLS',
      { NODE_ENV: 'production', DATABASE_URL: 'postgres://db/idp', MASTER_KEY: KEY, ISSUER: 'http://id.example.com' },
      ['ISSUER'],
    ],
  ])('refuses %s', (_what, env, names) => {
    const faults = faultsOf(env);
    expect(faults).toHaveLength(names.length);
    names.forEach((name, index) => expect(faults[index]).toContain(name));
  });

  it('names every fault at once and never a value', () => {
    const env = {
      NODE_ENV: 'value-of-node-env',
      PORT: 'value-of-port',
      ISSUER: 'value-of-issuer',
      DATABASE_URL: 'value-of-database-url',
      MIGRATION_DATABASE_URL: 'value-of-migration-url',
      MASTER_KEY: 'value-of-master-key',
      TOKEN_TTL_SECONDS: 'value-of-ttl',
      JWKS_MAX_AGE_SECONDS: 'value-of-age',
      ACCESS_TOKEN_TYP: 'value-of-typ',
      SIGNING_ALG: 'value-of-alg',
      LOG_LEVEL: 'value-of-level',
      TRUSTED_PROXIES: 'value-of-proxies',
      BOOTSTRAP_CLIENT_ID: 'value-of-id',
      BOOTSTRAP_CLIENT_SECRET: 'value-of-secret',
    };
    const faults = faultsOf(env);
    for (const name of Object.keys(env)) expect(faults.filter((fault) => fault.startsWith(name))).toHaveLength(1);
    expect(faults).toHaveLength(Object.keys(env).length);
    const { message } = new ConfigurationError(faults);
    expect(message).not.toContain('value-of');
    expect(message.split('\n')).toHaveLength(faults.length + 1);
  });

  it('ends the process with the code of sysexits.h where it is bad', () => {
    expect(EXIT_BAD_CONFIGURATION).toBe(78);
  });
});

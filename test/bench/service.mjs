import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { httpRequest } from './load.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const FORM = 'application/x-www-form-urlencoded';
export const CLIENT_ID = '11111111-1111-4111-8111-111111111111';
export const CLIENT_SECRET = 'bench-secret-0123456789-abcdefghijklmnop';

/** What the rivals are asked for tokens with. */
const FORM_OF_RIVALS = `grant_type=client_credentials&client_id=${CLIENT_ID}&client_secret=${CLIENT_SECRET}&scope=agents%3Aread`;

/** What runs at the moment, the last begun first. */
const running = [];

/** Stops whatever was started and removes its files. */
export async function stopAll() {
  while (running.length > 0) await running.pop()();
}

/**
 * Starts a PostgreSQL of its own, as the embedded one is started, and the service on it as it is shipped.
 *
 * @param {{ alg?: string, env?: Record<string, string> }} options
 */
export async function startService({ alg = 'RS256', env = {} } = {}) {
  const postgres = await startPostgres();
  return startOn(postgres, { alg, env });
}

/** Starts an empty PostgreSQL in a temporary folder. */
export async function startPostgres() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'agentidp-bench-'));
  fs.chmodSync(folder, 0o711);
  const { startEmbeddedPostgres } = await import(
    new URL('../../dist/src/platform/database/embedded/embedded-postgres.js', import.meta.url).href
  );
  const postgres = await startEmbeddedPostgres({ dataDirectory: path.join(folder, 'data'), announce: console.error });
  const database = new URL(postgres.owningUrl).pathname;
  const superuser = new URL(postgres.superuserUrl);
  superuser.pathname = database;
  let admin = null;
  running.push(async () => {
    await admin?.end().catch(() => undefined);
    await postgres.stop();
    fs.rmSync(postgres.dataDirectory, { recursive: true, force: true });
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return {
    servingUrl: postgres.servingUrl,
    owningUrl: postgres.owningUrl,
    dataDirectory: postgres.dataDirectory,
    masterKey: randomBytes(32).toString('base64'),
    /** A connection of the superuser, made when it is first asked for. */
    async admin() {
      if (admin !== null) return admin;
      // Sockets have their folder in the query of the URL, which `URL` keeps.
      admin = new pg.Client({ connectionString: superuser.href });
      await admin.connect();
      return admin;
    },
  };
}

/** Starts the service on a PostgreSQL; `launched` is when its process was begun. */
export async function startOn(postgres, { alg = 'RS256', env = {}, nodeArguments = [] } = {}) {
  const port = await freePort();
  const launched = performance.now();
  const poolSize = os.availableParallelism();
  const variables = {
    PORT: String(port),
    DATABASE_URL: postgres.servingUrl,
    MIGRATION_DATABASE_URL: postgres.owningUrl,
    MASTER_KEY: postgres.masterKey,
    // Only tells the accounting of processor time which PostgreSQL is meant.
    DATA_DIR: postgres.dataDirectory,
    SIGNING_ALG: alg,
    BOOTSTRAP_CLIENT_ID: CLIENT_ID,
    BOOTSTRAP_CLIENT_SECRET: CLIENT_SECRET,
    UV_THREADPOOL_SIZE: String(poolSize),
    // On, but so high that nobody is refused.
    RATE_LIMIT_ENTERPRISE: '1000000',
    ...env,
  };
  const child = run(path.join(ROOT, 'dist/src/main.js'), variables, nodeArguments);
  await line(child, 'listens on');
  return new Ours(postgres, port, child, poolSize, performance.now() - launched);
}

class Ours {
  constructor(postgres, port, child, poolSize, readyMs) {
    Object.assign(this, { postgres, port, child, poolSize, readyMs, pid: child.pid, base: '/api/v1' });
  }

  tokenForm(scope, { clientId = CLIENT_ID, clientSecret = CLIENT_SECRET } = {}) {
    return `grant_type=client_credentials&client_id=${clientId}&client_secret=${clientSecret}&scope=${encodeURIComponent(scope)}`;
  }

  tokenRequest(scope = 'agents:read', agent = {}) {
    return httpRequest({ port: this.port, path: '/api/v1/token', body: this.tokenForm(scope, agent) });
  }

  introspectionRequest(bearer, token) {
    const headers = { authorization: `Bearer ${bearer}` };
    return httpRequest({ port: this.port, path: '/api/v1/token/introspect', headers, body: `token=${token}` });
  }

  readRequest(path_, bearer) {
    const headers = { authorization: `Bearer ${bearer}` };
    return httpRequest({ method: 'GET', port: this.port, path: `/api/v1${path_}`, headers });
  }

  async token(scope, agent) {
    return (await post(`http://127.0.0.1:${this.port}/api/v1/token`, this.tokenForm(scope, agent))).access_token;
  }

  async call(method, target, bearer, body) {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/v1${target}`, {
      method,
      headers: {
        authorization: `Bearer ${bearer}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${target}: ${response.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }

  /** Organizations of their own with an agent each that has a secret. */
  async agents(count, tier = 'enterprise') {
    const operator = await this.token('admin:orgs agents:write agents:read tokens:read');
    const made = [];
    for (let index = 0; index < count; index += 1) {
      const name = `bench-${randomBytes(6).toString('hex')}`;
      const { organizationId } = await this.call('POST', '/organizations', operator, { name, slug: name, tier });
      const scopes = ['agents:read', 'tokens:read'];
      const { agentId } = await this.call('POST', '/agents', operator, { name, scopes, organizationId });
      const { clientSecret } = await this.call('POST', `/agents/${agentId}/credentials`, operator);
      made.push({ organizationId, agentId, clientId: agentId, clientSecret });
    }
    return made;
  }

  stop() {
    return stop(this.child);
  }
}

/** node-oidc-provider in memory. */
export async function startRival(alg) {
  const rival = await startBeside('oidc-provider', { ALG: alg });
  const { port } = rival;
  const opaque = (await post(`http://127.0.0.1:${port}/token`, FORM_OF_RIVALS)).access_token;
  const credentials = `client_id=${CLIENT_ID}&client_secret=${CLIENT_SECRET}`;
  return {
    ...rival,
    tokenRequest: () => httpRequest({ port, path: '/token', body: `${FORM_OF_RIVALS}&resource=urn%3Abench%3Aapi` }),
    introspectionRequest: () =>
      httpRequest({ port, path: '/token/introspection', body: `token=${opaque}&${credentials}` }),
  };
}

/** NestJS on Fastify with one route that answers a constant: what the framework costs by itself. */
export async function startHello() {
  const hello = await startBeside('hello');
  return { ...hello, request: httpRequest({ method: 'GET', port: hello.port, path: '/hello' }) };
}

/** The plain NestJS way, in a database of its own on a PostgreSQL. */
export async function startPlainNest(postgres) {
  const rival = await startBeside('plain-nest', await databaseBeside(postgres, 'plain_nest'));
  return { ...rival, tokenRequest: () => httpRequest({ port: rival.port, path: '/token', body: FORM_OF_RIVALS }) };
}

/** `@node-oauth/oauth2-server`, in a database of its own on a PostgreSQL. */
export async function startNodeOauth(postgres) {
  const rival = await startBeside('node-oauth', await databaseBeside(postgres, 'node_oauth'));
  const { port } = rival;
  const { access_token: token } = await post(`http://127.0.0.1:${port}/token`, FORM_OF_RIVALS);
  const headers = { authorization: `Bearer ${token}` };
  return {
    ...rival,
    tokenRequest: () => httpRequest({ port, path: '/token', body: FORM_OF_RIVALS }),
    authenticateRequest: () => httpRequest({ method: 'GET', port, path: '/authenticate', headers }),
  };
}

/** A new database on a PostgreSQL, as variables of a rival. */
async function databaseBeside(postgres, name) {
  const url = new URL(postgres.owningUrl);
  await (await postgres.admin()).query(`CREATE DATABASE ${name} OWNER ${url.username}`);
  url.pathname = name;
  return { DATABASE_URL: url.href, DATA_DIR: postgres.dataDirectory };
}

/** Starts a program of `rivals/`. */
async function startBeside(name, env = {}) {
  const port = await freePort();
  const variables = { PORT: String(port), CLIENT_ID, CLIENT_SECRET, NODE_ENV: 'production', ...env };
  const child = run(path.join(import.meta.dirname, `rivals/${name}.mjs`), variables);
  await line(child, 'listening');
  // Node's own number of threads in the pool.
  return { port, pid: child.pid, child, poolSize: 4, stop: () => stop(child) };
}

function run(file, env, nodeArguments = []) {
  const child = spawn(process.execPath, [...nodeArguments, file], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(() => stop(child));
  return child;
}

/** Resolves when the child has written a line with `text`; what it writes afterwards is read and dropped. */
function line(child, text) {
  return new Promise((resolve, reject) => {
    let seen = '';
    child.once('exit', (code) => reject(new Error(`a server ended with ${code} before it listened`)));
    child.stdout.on('data', (chunk) => {
      if (seen === null) return;
      seen += chunk;
      if (!seen.includes(text)) return;
      seen = null;
      resolve();
    });
  });
}

function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return undefined;
  return new Promise((resolve) => {
    child.once('exit', resolve);
    child.kill('SIGTERM');
  });
}

async function post(url, body) {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': FORM }, body });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

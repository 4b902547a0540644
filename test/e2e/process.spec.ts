import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { holdLedgers, lockWaiters, until } from '../faults/conditions.js';
import { Api, type ClientCredentials } from '../support/api.js';
import {
  cleanUpProcesses,
  dataFolder,
  embeddedSuperuser,
  environmentOf,
  postmasterPid,
  runService,
  startService,
  takenPort,
  type ServiceEnvironment,
} from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

/** What the first start in embedded mode said, and the data directory that it left. */
let first: { output: string; url: string; operator: ClientCredentials; curlAnswer: unknown; dataDirectory: string };

beforeAll(async () => {
  const dataDirectory = await dataFolder();
  const service = await startService({ DATA_DIR: dataDirectory });
  // The greeting follows the line that the start waits for.
  await until('the curl line', () => service.output().includes('curl'));
  const curl = /curl -s -X POST (\S+)((?: -d \S+)+)/.exec(service.output());
  const parameters = (curl?.[2] ?? '').split(' -d ').slice(1).join('&');
  const { body } = await new Api('').form(curl?.[1] ?? '', parameters);
  const { output } = await service.stop();
  first = { output, url: service.url, operator: service.printedOperator(), curlAnswer: body, dataDirectory };
});

const databases: TestDatabase[] = [];

afterAll(async () => {
  await cleanUpProcesses();
  for (const database of databases) await database.drop();
});

/** A test database without an operator, and the environment for a service on it. */
async function ownDatabase(): Promise<{ database: TestDatabase; env: ServiceEnvironment }> {
  const database = await createTestDatabase();
  databases.push(database);
  return { database, env: environmentOf(database) };
}

describe('the service with its own PostgreSQL', () => {
  it('prints the id, the secret and a curl line that works, at the first start', () => {
    expect(first.output).toContain(`AgentIdP listens on ${first.url}`);
    expect(first.operator).toEqual({
      clientId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      clientSecret: expect.stringMatching(/^sas_[0-9A-Za-z]{49}$/),
    });
    expect(first.curlAnswer).toMatchObject({ access_token: expect.any(String), token_type: 'Bearer' });
  });

  it('starts again without printing a secret, and knows the first one', async () => {
    const service = await startService({ DATA_DIR: await dataFolder(first.dataDirectory) });
    expect((await service.api.requestToken(first.operator)).status).toBe(200);
    expect((await service.stop()).output).not.toMatch(/SECRET|sas_/);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'answers what is in flight, stops PostgreSQL and exits with 0 on %s',
    async (signal) => {
      const DATA_DIR = await dataFolder(first.dataDirectory);
      const service = await startService({ DATA_DIR });
      const superuser = await embeddedSuperuser(DATA_DIR);
      const hold = await holdLedgers(superuser);
      const request = service.api.requestToken(first.operator);
      await lockWaiters(superuser, 'issue_tokens');
      service.kill(signal);
      await until('the shutdown', () => service.output().includes('shutting down'));
      // Asking twice changes nothing.
      service.kill(signal);
      await hold.release();
      expect((await request).status).toBe(200);
      expect(await service.ended).toMatchObject({ code: 0, signal: null });
      expect(await postmasterPid(DATA_DIR)).toBeNull();
    },
  );

  it('says that the port is taken, stops PostgreSQL and exits with 1', async () => {
    const DATA_DIR = await dataFolder(first.dataDirectory);
    const { port, free } = await takenPort();
    const { code, output } = await runService({ DATA_DIR, PORT: port });
    await free();
    expect(code).toBe(1);
    expect(output).toMatch(new RegExp(`could not start: .*address already in use.*${port}`));
    expect(output).not.toMatch(/^\s+at /m);
    expect(await postmasterPid(DATA_DIR)).toBeNull();
  });
});

describe('the service on a PostgreSQL that is given', () => {
  const bootstrap = { BOOTSTRAP_CLIENT_ID: randomUUID(), BOOTSTRAP_CLIENT_SECRET: 'this-is-the-secret-that-tests-fix' };
  const client = { clientId: bootstrap.BOOTSTRAP_CLIENT_ID, clientSecret: bootstrap.BOOTSTRAP_CLIENT_SECRET };

  it('makes the operator that the environment fixes, does not print its secret, and ignores another later', async () => {
    const { env } = await ownDatabase();
    const service = await startService({ ...env, ...bootstrap });
    expect((await service.api.requestToken(client)).status).toBe(200);
    const stopped = await service.stop();
    expect(stopped.code).toBe(0);
    expect(stopped.output).not.toContain(bootstrap.BOOTSTRAP_CLIENT_SECRET);
    expect(stopped.output).toContain(bootstrap.BOOTSTRAP_CLIENT_ID);

    const other = { BOOTSTRAP_CLIENT_ID: randomUUID(), BOOTSTRAP_CLIENT_SECRET: 'this-is-the-secret-of-another-one' };
    const again = await startService({ ...env, ...other });
    await until('the warning', () => /BOOTSTRAP_CLIENT_ID .*ignored/.test(again.output()));
    expect((await again.api.requestToken(client)).status).toBe(200);
    const ignored = { clientId: other.BOOTSTRAP_CLIENT_ID, clientSecret: other.BOOTSTRAP_CLIENT_SECRET };
    expect((await again.api.requestToken(ignored)).status).toBe(401);
    expect((await again.stop()).output).not.toContain(other.BOOTSTRAP_CLIENT_SECRET);
  });

  it('prints the secret of the first operator at the start that succeeds, where an earlier one found its port taken', async () => {
    const { env } = await ownDatabase();
    const { port, free } = await takenPort();
    expect(await runService({ ...env, PORT: port })).toMatchObject({ code: 1 });
    await free();
    const service = await startService(env);
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
    expect((await service.api.requestToken(service.printedOperator())).status).toBe(200);
    await service.stop();
  });

  it('says that MASTER_KEY is another, and exits with 78', async () => {
    const { env } = await ownDatabase();
    const { code, output } = await runService({ ...env, MASTER_KEY: randomBytes(32).toString('base64') });
    expect(code).toBe(78);
    expect(output).toMatch(/could not start: .*cannot be opened with this MASTER_KEY/);
  });
});

describe('a bad configuration', () => {
  it('is refused with every fault named at once, never a value, and exit code 78', async () => {
    const env = {
      PORT: 'port-value',
      ISSUER: 'issuer-value',
      MASTER_KEY: 'master-key-value',
      LOG_LEVEL: 'log-level-value',
      DATABASE_URL: 'database-url-value',
      MIGRATION_DATABASE_URL: 'migration-url-value',
      SIGNING_ALG: 'signing-value',
      TOKEN_TTL_SECONDS: 'ttl-value',
      ACCESS_TOKEN_TYP: 'typ-value',
      BOOTSTRAP_CLIENT_ID: 'client-id-value',
      BOOTSTRAP_CLIENT_SECRET: 'client-secret-value',
      TRUSTED_PROXIES: 'proxies-value',
      WEBHOOK_ALLOWED_NETWORKS: 'webhook-networks-value',
      FEDERATION_ALLOWED_NETWORKS: 'federation-networks-value',
      NODE_ENV: 'environment-value',
    };
    const { code, output } = await runService(env);
    expect(code).toBe(78);
    for (const [name, value] of Object.entries(env)) {
      expect(output).toContain(name);
      expect(output).not.toContain(value);
    }
    expect(output).not.toMatch(/^\s+at /m);
  });

  it('in production is one without DATABASE_URL, MASTER_KEY and an https ISSUER', async () => {
    const { code, output } = await runService({ NODE_ENV: 'production' });
    expect(code).toBe(78);
    expect(output).toContain('The configuration has 3 fault(s)');
    for (const name of ['DATABASE_URL', 'MASTER_KEY', 'ISSUER']) expect(output).toContain(name);
    const { output: http } = await runService({ NODE_ENV: 'production', ISSUER: 'http://issuer.example' });
    expect(http).toContain('ISSUER must be an https URL');
  });
});

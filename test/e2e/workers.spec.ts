import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { holdLedgers, lockWaiters, until } from '../faults/conditions.js';
import type { ClientCredentials } from '../support/api.js';
import {
  cleanUpProcesses,
  environmentOf,
  runService,
  startService,
  takenPort,
  type ServiceEnvironment,
  type ServiceProcess,
} from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

describe('a service of two workers', () => {
  let database: TestDatabase;
  let env: ServiceEnvironment;
  let operator: ClientCredentials;
  /** The last that was started; a test that leaves it running leaves it to the next. */
  let service: ServiceProcess;
  let serving = false;

  beforeAll(async () => {
    database = await createTestDatabase();
    env = { ...environmentOf(database), WEB_CONCURRENCY: '2' };
    await begin();
    operator = service.printedOperator();
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  /** Starts the service, unless the test before has left it running: three processes are long in starting. */
  async function begin(): Promise<void> {
    if (serving) return;
    service = await startService(env);
    await until('the workers', () => service.output().includes('with 2 workers'));
    serving = true;
    void service.ended.then(() => (serving = false));
  }

  function workers(): number[] {
    const [, pids = ''] = /with 2 workers: ([\d, ]+)\./.exec(service.output()) ?? [];
    return pids.split(', ').map(Number);
  }

  /** A request on a connection of its own: connections are handed to the workers in turn. */
  async function get(path: string): Promise<string> {
    return (await service.api.send('GET', path, { headers: { connection: 'close' } })).text;
  }

  async function drains(signal: 'SIGTERM' | 'SIGINT'): Promise<void> {
    const hold = await holdLedgers(database);
    const requests = Array.from({ length: 8 }, () => service.api.requestToken(operator));
    await lockWaiters(database, 'issue_tokens', 2);
    service.kill(signal);
    await until('the shutdown', () => service.output().includes('shutting down'));
    await hold.release();
    for (const { status } of await Promise.all(requests)) expect(status).toBe(200);
    expect(await service.ended).toMatchObject({ code: 0, signal: null });
  }

  it('makes one operator, greets once, and answers for all workers at /metrics', async () => {
    expect(service.output().match(/CLIENT_SECRET=/g)).toHaveLength(1);
    expect(service.output().match(/listens on/g)).toHaveLength(1);
    expect(new Set(workers()).size).toBe(2);
    const { clientId: client_id, clientSecret: client_secret } = operator;
    const form = new URLSearchParams({ grant_type: 'client_credentials', client_id, client_secret });
    for (let n = 0; n < 10; n += 1) {
      const headers = { connection: 'close' };
      expect((await service.api.send('POST', '/api/v1/token', { body: form, headers })).status).toBe(200);
    }
    for (let n = 0; n < 3; n += 1) expect(await get('/metrics')).toContain('agentidp_tokens_issued_total 10\n');
    const served = /agentidp_flush_size_count\{queue="tokens"\} (\d+)/.exec(await get('/metrics'));
    expect(Number(served?.[1])).toBe(10);
  });

  it('answers what is in flight in both, and ends with 0 on SIGTERM', async () => {
    await begin();
    await drains('SIGTERM');
    for (const pid of workers()) expect(() => process.kill(pid, 0)).toThrow();
  });

  it('takes its workers with it when the first process is killed', async () => {
    await begin();
    service.kill('SIGKILL');
    await service.ended;
    await until('the end of the workers', () =>
      workers().every((pid) => {
        try {
          process.kill(pid, 0);
          return false;
        } catch {
          return true;
        }
      }),
    );
  });

  it('replaces a worker that is killed, and goes on serving meanwhile', async () => {
    await begin();
    const [victim = 0, other = 0] = workers();
    process.kill(victim, 'SIGKILL');
    await until('the end of the worker', () => service.output().includes(`Worker ${victim} ended by SIGKILL`));
    expect((await service.api.requestToken(operator)).status).toBe(200);
    await until('the new worker', () => service.output().includes('serves in its place'));
    process.kill(other, 'SIGKILL');
    await until('the end of the other', () => service.output().includes(`Worker ${other} ended by SIGKILL`));
    expect((await service.api.requestToken(operator)).status).toBe(200);
    await until('the second new worker', () => service.output().match(/serves in its place/g)?.length === 2);
  });

  it('answers what is in flight in both, and ends with 0 on SIGINT', async () => {
    await begin();
    await drains('SIGINT');
  });

  it('says once why its first worker cannot start, and ends with its code', async () => {
    const { port, free } = await takenPort();
    const { code, output } = await runService({ ...env, PORT: port });
    await free();
    expect(code).toBe(1);
    expect(output.match(/could not start/g)).toHaveLength(1);
    expect(output).toMatch(new RegExp(`could not start: .*EADDRINUSE.*${port}`));
    expect(await runService({ ...env, MASTER_KEY: Buffer.alloc(32).toString('base64') })).toMatchObject({ code: 78 });
  });
});

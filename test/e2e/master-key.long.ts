import { afterAll, afterEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { countUnder, openAll, plantWebhooks } from '../support/sealed-secrets.js';
import {
  cleanUpProcesses,
  dataFolder,
  environmentOf,
  runCommand,
  runService,
  startService,
  type ServiceEnvironment,
} from '../support/service-process.js';
import { createTestDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const NEW_KEY = randomBytes(32);
const DONE = /secrets were sealed anew\. None is left/;

const databases: TestDatabase[] = [];
async function ownDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase();
  databases.push(database);
  return database;
}
afterEach(cleanUpProcesses);
afterAll(async () => {
  for (const database of databases) await database.drop();
});

const environment = (database: TestDatabase, key: Buffer, previous?: Buffer): ServiceEnvironment => ({
  ...environmentOf(database),
  MASTER_KEY: key.toString('base64'),
  ...(previous === undefined ? {} : { MASTER_KEY_PREVIOUS: previous.toString('base64') }),
});

describe('a change of the master key, in processes of its own', () => {
  it('that is killed in the middle goes on at the next start', async () => {
    const database = await ownDatabase();
    const first = await startService(environment(database, TEST_MASTER_KEY));
    await until('the operator', () => first.output().includes('CLIENT_SECRET='));
    const operator = first.printedOperator();
    await first.stop();
    await plantWebhooks(database, 600);
    const known = await openAll(database, new Sealer(TEST_MASTER_KEY));
    // The first batches pass; the secret of one webhook is held by somebody else.
    const [held] = await database.query<{ webhook_id: string }>('SELECT webhook_id FROM webhooks OFFSET 500 LIMIT 1');
    await database.query(
      `CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$`,
    );
    await database.query(
      `CREATE TRIGGER held BEFORE UPDATE ON webhooks FOR EACH ROW WHEN (OLD.webhook_id = '${held?.webhook_id}')
        EXECUTE FUNCTION wait_for_the_test()`,
    );
    const hold = await database.query('SELECT pg_advisory_lock(4711), pg_backend_pid() AS pid');
    const killed = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('it is in the middle', async () => {
      const waiting = await database.query(
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 4711",
      );
      return waiting.length > 0;
    });
    const left = await countUnder(database, TEST_MASTER_KEY);
    killed.kill('SIGKILL');
    await killed.ended;
    expect(left).toBeGreaterThan(0);
    expect(await countUnder(database, NEW_KEY)).toBeGreaterThan(0);
    // Half done, with one key only: nothing starts, whichever it is.
    for (const key of [TEST_MASTER_KEY, NEW_KEY]) {
      expect((await runService(environment(database, key))).code).toBe(78);
    }
    await database.query('SELECT pg_terminate_backend($1)', [hold[0]?.['pid']]).catch(() => undefined);
    await database.query('DROP TRIGGER held ON webhooks');
    const resumed = await startService(environment(database, NEW_KEY, TEST_MASTER_KEY));
    await until('all is sealed anew', () => DONE.test(resumed.output()));
    expect(new Set((await openAll(database, new Sealer(NEW_KEY))).values())).toEqual(new Set(known.values()));
    expect((await resumed.api.requestToken(operator)).status).toBe(200);
  });

  it('is finished by a command, which says what is left', async () => {
    const database = await ownDatabase();
    const both = environment(database, NEW_KEY, TEST_MASTER_KEY);
    const first = await runCommand(['master-key:reseal'], both);
    expect(first).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^[1-9]\d* secrets were sealed anew\. None is left/m),
    });
    for (const env of [both, environment(database, NEW_KEY)]) {
      expect(await runCommand(['master-key:reseal'], env)).toMatchObject({
        code: 0,
        output: expect.stringMatching(/^0 secrets were sealed anew\. None is left/m),
      });
    }
    for (const env of [
      environment(database, TEST_MASTER_KEY),
      environment(database, randomBytes(32), TEST_MASTER_KEY),
    ]) {
      const { code, output } = await runService(env);
      expect([code, output]).toEqual([78, expect.stringContaining('cannot be opened with this MASTER_KEY')]);
    }
  });

  it('of an installation that keeps its own is a file that is renamed', async () => {
    const DATA_DIR = await dataFolder();
    const before = await startService({ DATA_DIR });
    await until('the operator', () => before.output().includes('CLIENT_SECRET='));
    const operator = before.printedOperator();
    await before.stop();
    const [file, previous] = [join(DATA_DIR, 'master.key'), join(DATA_DIR, 'master.key.previous')];
    const old = await readFile(file, 'utf8');
    await rename(file, previous);
    const after = await startService({ DATA_DIR });
    await until('all is sealed anew', () => DONE.test(after.output()));
    expect((await after.api.requestToken(operator)).status).toBe(200);
    await after.stop();
    expect(await readFile(file, 'utf8')).not.toBe(old);
    await rm(previous);
    const only = await startService({ DATA_DIR });
    expect((await only.api.requestToken(operator)).status).toBe(200);
    await only.stop();
    await rename(file, previous);
    await rm(previous);
    // A key that is lost is not replaced by another one, neither in silence nor beside what it does not open.
    const files = (await readdir(DATA_DIR)).sort();
    const lost = { code: 78, output: expect.stringContaining(`The master key ${file} is missing`) };
    expect(await runService({ DATA_DIR })).toMatchObject(lost);
    expect(await runCommand(['keys:list'], { DATA_DIR })).toMatchObject(lost);
    await writeFile(previous, `${NEW_KEY.toString('base64')}\n`);
    expect(await runService({ DATA_DIR })).toMatchObject(lost);
    await rm(previous);
    expect((await readdir(DATA_DIR)).sort()).toEqual(files);
  }, 120_000);

  it('that is not given, on a PostgreSQL that is, is not made where another one has sealed', async () => {
    const database = await ownDatabase();
    const first = await startService(environment(database, TEST_MASTER_KEY));
    await first.stop();
    const DATA_DIR = await dataFolder();
    const { MASTER_KEY: _given, ...env }: ServiceEnvironment = { ...environment(database, TEST_MASTER_KEY), DATA_DIR };
    const { code, output } = await runService(env);
    expect([code, output]).toEqual([78, expect.stringContaining('is missing')]);
    expect(await readdir(DATA_DIR)).toEqual([]);
  }, 60_000);
});

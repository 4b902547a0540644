import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import pg from 'pg';
import { until } from '../faults/conditions.js';
import { Backups, expectVerifies, organizationsOf } from '../support/backups.js';
import { Receiver } from '../support/receiver.js';
import {
  cleanUpProcesses,
  dataFolder,
  environmentOf,
  runCommand,
  runService,
  startCommand,
  startService,
} from '../support/service-process.js';
import { startTestApp } from '../support/test-app.js';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { Inventory } from '../upgrade/inventory.js';
import { Load } from '../upgrade/load.js';
import { missingRows, readRows, type Rows } from '../upgrade/rows.js';

type Json = Record<string, unknown>;

const backups = new Backups();
afterEach(async () => {
  await cleanUpProcesses();
  await backups.end();
});
afterAll(() => backups.remove());

describe('a backup that is taken while the service works', () => {
  let receiver: Receiver;
  let rows: Rows;
  let file: string;
  let inventory: Inventory;
  let operator: { clientId: string; clientSecret: string };

  beforeAll(async () => {
    receiver = await Receiver.start();
    const database = await createTestDatabase();
    const env = { ISSUER: backups.issuer, WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1', RATE_LIMIT_ENTERPRISE: '0' };
    const service = await startTestApp({ database, env });
    operator = service.operator;
    inventory = await Inventory.fill(service.api, operator, backups.issuer, receiver);
    rows = await readRows(database);
    const worker = await service.api.agent(await service.api.token(operator), {
      scopes: ['agents:read', 'agents:write', 'tokens:read'],
    });
    const load = new Load(worker, [service.api]);
    await load.more(100);
    file = await backups.take(database);
    await load.more(100);
    await load.stop();
    expect(load.failures).toEqual([]);
    await service.close();
    await database.drop();
  }, 60_000);
  afterAll(() => receiver.close());

  it('restores every row as of one instant, and all that was active, revoked and suspended', async () => {
    const database = await backups.restored(file, '--keep-tokens');
    expect(missingRows(rows, await readRows(database, rows))).toEqual([]);
    // Quota, log and chain head are of one snapshot.
    const ledgers = await database.query(
      `SELECT l.organization_id FROM organization_ledgers l WHERE l.tokens_used <> (SELECT count(*) FROM audit_events e
          WHERE e.organization_id = l.organization_id AND e.action = 'token.issued')
        OR l.head_hash <> coalesce((SELECT e.hash FROM audit_events e
          WHERE e.organization_id = l.organization_id AND e.sequence = l.sequence), l.head_hash)`,
    );
    expect(ledgers).toEqual([]);
    const service = await backups.serve(database);
    await inventory.check(service.api);
    const token = await service.api.token(operator);
    for (const id of await organizationsOf(database)) await expectVerifies(service, token, id);
    expect(await database.query("SELECT to_regclass('public.unfinished_restore') AS name")).toEqual([{ name: null }]);
  }, 60_000);

  it('restores with every token dead, and each log tells of it', async () => {
    const database = await backups.restored(file);
    const service = await backups.serve(database);
    await expect(inventory.check(service.api)).rejects.toThrow('no longer holds');
    const token = await service.api.token(operator);
    const [header] = gunzipSync(await readFile(file))
      .toString('utf8')
      .split('\n', 1);
    const { takenAt } = JSON.parse(String(header)) as Json;
    for (const id of await organizationsOf(database)) {
      await expectVerifies(service, token, id);
      const { body } = await service.api.call('GET', `/audit?action=organization.restored&organizationId=${id}`, token);
      const [event] = body['data'] as { sequence: number; details: Json; actor: null }[];
      expect(event).toMatchObject({
        actor: null,
        details: { backupTakenAt: takenAt, lastSequence: (event?.sequence ?? 0) - 1 },
      });
    }
  }, 60_000);

  it('is refused with another master key, which it does not show; with the right one it goes on from there', async () => {
    const target = await backups.own(createEmptyDatabase());
    const MASTER_KEY = randomBytes(32).toString('base64');
    const { code, output } = await runCommand(['restore', file], { ...environmentOf(target), MASTER_KEY });
    expect([code, output]).toEqual([78, expect.stringContaining('cannot be opened with this MASTER_KEY')]);
    expect(output).not.toContain(MASTER_KEY);
    expect(await target.query('SELECT 1 FROM organizations')).toEqual([]);
    const served = await runService(environmentOf(target));
    expect(served).toMatchObject({ code: 1, output: expect.stringContaining('Run the restore again') });
    expect((await backups.restore(file, target)).code).toBe(0);
  }, 60_000);

  it('is refused where its tables are not those of its migrations; nothing of it is restored or run', async () => {
    const lines = gunzipSync(await readFile(file))
      .toString('utf8')
      .split('\n');
    const begin = lines.findIndex((line) => line.startsWith('{"table":"token_revocations"'));
    const section = lines.slice(begin, lines.indexOf('\\.', begin) + 1);
    const { columns } = JSON.parse(section[0] ?? '') as { columns: string[] };
    const end = lines.findLastIndex((line) => line.startsWith('{"end"'));
    const { rows } = JSON.parse(lines[end] ?? '') as { rows: Record<string, number> };
    const { token_revocations: _left, ...others } = rows;
    const ended = (counts: object): string => JSON.stringify({ end: true, rows: counts });
    const header = (change: (migrations: string[]) => string[]): string => {
      const value = JSON.parse(lines[0] ?? '') as { migrations: string[] };
      return JSON.stringify({ ...value, migrations: change(value.migrations) });
    };
    const crafted: Record<string, string[]> = {
      'a table is left out': lines.toSpliced(end, 1, ended(others)).toSpliced(begin, section.length),
      'a column has another name': lines.toSpliced(
        begin,
        section.length,
        JSON.stringify({ table: 'token_revocations', columns: ['ctid', ...columns.slice(1)] }),
        ...section.slice(1),
      ),
      'a table is of somebody else': lines
        .toSpliced(end, 1, ended({ ...rows, pgbench_history: 0 }))
        .toSpliced(begin, 0, JSON.stringify({ table: 'pgbench_history', columns: ['x'] }), '\\.'),
      'it names fewer migrations than it has': lines.toSpliced(
        0,
        1,
        header((all) => all.slice(0, 3)),
      ),
    };
    for (const [what, text] of Object.entries(crafted)) {
      const changed = backups.newFile();
      await writeFile(changed, gzipSync(text.join('\n')));
      const target = await backups.own(createEmptyDatabase());
      const { code, output } = await backups.restore(changed, target);
      expect([what, code, output]).toEqual([what, 1, expect.stringContaining('is not as the migrations make it')]);
      expect(await target.query('SELECT FROM organizations')).toEqual([]);
      const { output: refused } = await runService(environmentOf(target));
      expect(refused).toContain('Run the restore again');
    }
  }, 120_000);

  it('is refused by a database that is not empty, and by one that is served', async () => {
    const target = await backups.own(createTestDatabase());
    const before = await readRows(target);
    expect(await backups.restore(file, target)).toMatchObject({
      code: 1,
      output: expect.stringContaining('is not empty'),
    });
    await backups.serve(target);
    expect(await backups.restore(file, target)).toMatchObject({
      code: 1,
      output: expect.stringContaining('Stop every replica'),
    });
    expect(await backups.restore(file, target, '--replace')).toMatchObject({
      code: 1,
      output: expect.stringContaining('--replace is for'),
    });
    expect(missingRows(before, await readRows(target))).toEqual([]);
  }, 60_000);

  it('begins anew where a restore was killed; nobody serves what is half there', async () => {
    const target = await backups.own(createEmptyDatabase());
    const first = startCommand(['restore', file], environmentOf(target));
    await until('the schema is being made', async () => {
      const [row] = await target.query<{ name: string | null }>(
        "SELECT to_regclass('public.audit_events')::text AS name",
      );
      return row?.name;
    });
    first.kill('SIGKILL');
    await first.ended;
    const served = await runService(environmentOf(target));
    expect(served).toMatchObject({ code: 1, output: expect.stringContaining('Run the restore again') });
    expect(await backups.restore(file, target)).toMatchObject({ code: 0 });
    expect((await (await backups.serve(target)).api.requestToken(operator)).status).toBe(200);
  }, 60_000);
});

describe('taking a backup', () => {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await backups.own(createTestDatabase());
  });

  it('names the file itself where it is given a folder', async () => {
    const place = await mkdtemp(join(backups.folder, 'into-'));
    const { code, output } = await runCommand(['backup', place], environmentOf(database));
    const [name = '', ...more] = await readdir(place);
    expect([code, more]).toEqual([0, []]);
    expect(name).toMatch(/^agentidp-\d{8}T\d{6}Z\.backup$/);
    expect(output).toContain(join(place, name));
  });

  it('replaces no file, and says so', async () => {
    const file = backups.newFile();
    await writeFile(file, 'precious');
    const { code, output } = await runCommand(['backup', file], environmentOf(database));
    expect([code, output]).toEqual([1, expect.stringContaining('A backup replaces no file.')]);
    expect(await readFile(file, 'utf8')).toBe('precious');
  });

  it('leaves nothing under the name of the file where it is killed', async () => {
    const holder = new pg.Client({ connectionString: database.superuserUrl });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE credentials IN ACCESS EXCLUSIVE MODE');
    const file = backups.newFile();
    const running = startCommand(['backup', file], environmentOf(database));
    await until(
      'the backup waits',
      async () =>
        (
          await database.query(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'agentidp backup' AND wait_event_type = 'Lock' AND datname = current_database()",
          )
        ).length > 0,
    );
    running.kill('SIGKILL');
    await running.ended;
    await holder.end();
    await expect(stat(file)).rejects.toThrow('ENOENT');
    const [left = ''] = (await readdir(backups.folder)).filter((name) => name.includes('.backup.unfinished-'));
    const target = await backups.own(createEmptyDatabase());
    expect(await backups.restore(join(backups.folder, left), target)).toMatchObject({
      code: 1,
      output: expect.stringContaining('cut off'),
    });
    await rm(join(backups.folder, left));
  });

  it('removes what it has written where it cannot go on', async () => {
    const holder = new pg.Client({ connectionString: database.superuserUrl });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE credentials IN ACCESS EXCLUSIVE MODE');
    const place = await mkdtemp(join(backups.folder, 'cut-'));
    const running = startCommand(['backup', place], environmentOf(database));
    await until(
      'the backup waits',
      async () =>
        (
          await database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agentidp backup' AND wait_event_type = 'Lock' AND datname = current_database()",
          )
        ).length > 0,
    );
    expect(await running.ended).toMatchObject({ code: 1 });
    await holder.end();
    expect(await readdir(place)).toEqual([]);
  });

  it('fails where there is nothing to back up, or nowhere to write', async () => {
    const empty = await backups.own(createEmptyDatabase());
    expect(await runCommand(['backup', backups.newFile()], environmentOf(empty))).toMatchObject({
      code: 1,
      output: expect.stringContaining('nothing to back up'),
    });
    const closed = await mkdtemp(join(backups.folder, 'closed-'));
    await chmod(closed, 0o500);
    expect(await runCommand(['backup', join(closed, 'missing', 'x')], environmentOf(database))).toMatchObject({
      code: 1,
    });
  });
});

describe('the embedded database', () => {
  it('is backed up while the service runs, restored into an empty folder, and moved as files', async () => {
    const [DATA_DIR, other] = [await dataFolder(), await dataFolder()];
    const ISSUER = backups.issuer;
    const service = await startService({ DATA_DIR, ISSUER });
    // It listens before it prints.
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
    const operator = service.printedOperator();
    const token = await service.api.token(operator);
    const file = backups.newFile();
    expect(await runCommand(['backup', file], { DATA_DIR })).toMatchObject({
      code: 0,
      output: expect.stringContaining(`keep ${join(DATA_DIR, 'master.key')} too`),
    });
    expect((await service.api.call('GET', '/agents', token)).status).toBe(200);

    // Not into a folder that somebody serves, not without the key, and not over what is there.
    const key = join(DATA_DIR, 'master.key');
    const inUse = await runCommand(['restore', file, '--replace'], { DATA_DIR });
    expect(inUse).toMatchObject({ code: 1, output: expect.stringContaining('in use by another running instance') });
    const keyless = await runCommand(['restore', file], { DATA_DIR: other });
    expect(keyless).toMatchObject({
      code: 1,
      output: expect.stringContaining('The master key of the backup is missing'),
    });
    const whole = await runCommand(['restore', file, '--master-key', key], { DATA_DIR: other, ISSUER });
    expect(whole).toMatchObject({ code: 0 });
    expect((await stat(join(other, 'master.key'))).mode & 0o777).toBe(0o600);
    const over = await runCommand(['restore', file], { DATA_DIR: other });
    expect(over).toMatchObject({ code: 1, output: expect.stringContaining('is not empty') });

    const restored = await startService({ DATA_DIR: other, ISSUER });
    expect(restored.output()).not.toContain('CLIENT_SECRET=');
    const fresh = await restored.api.token(operator);
    expect(await restored.api.introspect(fresh, token)).toEqual({ active: false });
    expect((await restored.api.call('GET', '/audit/verify', fresh)).body).toMatchObject({ valid: true });
    expect(await restored.stop()).toMatchObject({ code: 0 });

    const replaced = await runCommand(['restore', file, '--replace'], { DATA_DIR: other, ISSUER });
    expect(replaced).toMatchObject({ code: 0, output: expect.stringContaining('The database from before is in') });
    const [aside = ''] = (await readdir(other)).filter((name) => name.startsWith('postgres.replaced-'));
    await rm(join(other, 'postgres'), { recursive: true });
    await rename(join(other, aside), join(other, 'postgres'));
    const before = await startService({ DATA_DIR: other, ISSUER });
    expect(await before.api.introspect(await before.api.token(operator), fresh)).toMatchObject({ active: true });
    await before.stop();

    // A copy of the files of a stopped service is a backup as well, and its tokens live on.
    expect(await service.stop()).toMatchObject({ code: 0 });
    const copied = await startService({ DATA_DIR: await dataFolder(DATA_DIR), ISSUER });
    expect(await copied.api.introspect(await copied.api.token(operator), token)).toMatchObject({ active: true });
    await copied.stop();
  }, 120_000);
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { checkBackup } from '../../src/platform/backup/restore-backup.js';
import { writeBackup } from '../../src/platform/backup/write-backup.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { Backups } from '../support/backups.js';
import { runCommand } from '../support/service-process.js';
import { startTestApp } from '../support/test-app.js';
import { createTestDatabase, TEST_MASTER_KEY } from '../support/test-database.js';

type Json = Record<string, unknown>;

const backups = new Backups();
afterAll(() => backups.remove());

describe('the file of a backup', () => {
  let file: string;
  let whole: Buffer;
  let lines: string[];
  let clientSecret: string;

  beforeAll(async () => {
    const database = await createTestDatabase();
    const service = await startTestApp({ database });
    clientSecret = service.operator.clientSecret;
    for (let count = 0; count < 50; count += 1) await service.api.token(service.operator);
    await service.close();
    file = (await writeBackup(database.owningUrl, backups.newFile(), '0.1.0')).file;
    await database.drop();
    whole = await readFile(file);
    lines = gunzipSync(whole).toString('utf8').split('\n');
  });

  /** What restoring a file like it says. */
  async function refusal(bytes: Buffer): Promise<string> {
    const changed = backups.newFile();
    await writeFile(changed, bytes);
    return checkBackup(changed).then(
      () => 'none',
      ({ name, message }: Error) => `${name}: ${message}`,
    );
  }
  const refusalOf = (text: readonly string[]): Promise<string> => refusal(gzipSync(text.join('\n')));

  it('is whole, and says what it is of', async () => {
    const header = await checkBackup(file);
    expect(header).toMatchObject({ release: '0.1.0', migrations: MIGRATIONS.map(({ name }) => name) });
    expect(Math.abs(Date.parse(header.takenAt) - Date.now())).toBeLessThan(60_000);
  });

  it('is written whole by one of two that write to one name at once, and the other says that it is taken', async () => {
    const database = await createTestDatabase();
    await (await startTestApp({ database })).close();
    const target = backups.newFile();
    const both = await Promise.allSettled([1, 2].map(() => writeBackup(database.owningUrl, target, '0.1.0')));
    await database.drop();
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { message: `${target} exists. A backup replaces no file.` },
    });
    await checkBackup(target);
    expect((await readdir(backups.folder)).filter((name) => name.includes('unfinished'))).toEqual([]);
  });

  it('may be read by its owner only, and no unfinished one is left beside it', async () => {
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readdir(backups.folder)).filter((name) => name.includes('unfinished'))).toEqual([]);
  });

  it('holds no secret in the clear: neither the master key, nor a signing key, nor a secret', () => {
    const text = lines.join('\n');
    for (const encoding of ['base64', 'base64url', 'hex'] as const) {
      expect(text).not.toContain(TEST_MASTER_KEY.toString(encoding));
    }
    expect(text).not.toContain('PRIVATE KEY');
    expect(text).not.toContain(clientSecret);
  });

  it('is refused where it was cut off, wherever that was', async () => {
    for (let length = 0; length < whole.length; length += 97) {
      expect([length, await refusal(whole.subarray(0, length))]).toEqual([
        length,
        expect.stringMatching(/was cut off/),
      ]);
    }
    expect(await refusal(whole.subarray(0, -1))).toMatch(/was cut off/);
  });

  it('is refused where a bit of it is wrong, wherever that is', async () => {
    // The first ten bytes are the header of gzip, where the time and the system may be anything.
    for (let place = 10; place < whole.length; place += 61) {
      const bytes = Buffer.from(whole);
      bytes[place] = (bytes[place] ?? 0) ^ 4;
      expect([place, await refusal(bytes)]).toEqual([place, expect.stringMatching(/^BackupRefused: /)]);
    }
  });

  it('is refused where its rows or tables are not all there, although the file is whole', async () => {
    const begin = lines.findIndex((line) => line.startsWith('{"table":"audit_events"'));
    expect(await refusalOf(lines.toSpliced(begin + 1, 1))).toContain('the rows of audit_events are not all there');
    const end = lines.indexOf('\\.', begin);
    expect(await refusalOf(lines.toSpliced(begin, end - begin + 1))).toContain('the rows of audit_events');
    expect(await refusalOf(lines.toSpliced(end + 1, 0, ...lines.slice(begin, end + 1)))).toContain(
      'stands in it twice',
    );
    expect(await refusalOf(lines.slice(0, -2))).toMatch(/was cut off/);
    expect(await refusalOf([...lines, 'more'])).toContain('something follows its end');
  });

  it('is refused where a table has the name of something else', async () => {
    const begin = lines.findIndex((line) => line.startsWith('{"table":"agents"'));
    for (const table of ['agents"; DROP TABLE agents; --', 'Agents', '', 7]) {
      const section = { ...(JSON.parse(lines[begin] ?? '') as Json), table };
      expect(await refusalOf(lines.toSpliced(begin, 1, JSON.stringify(section)))).toContain('a table has no name');
    }
  });

  it('is refused where a table is one of the catalogs, which an owner that is a superuser could write to', async () => {
    const begin = lines.findIndex((line) => line.startsWith('{"table":"agents"'));
    const section = { table: 'pg_authid', columns: ['rolname', 'rolsuper', 'rolcanlogin'] };
    expect(await refusalOf(lines.toSpliced(begin, 1, JSON.stringify(section)))).toContain('a table has no name');
  });

  it('is refused where it holds what tells which migrations were run, or that a restore is not done', async () => {
    const begin = lines.findIndex((line) => line.startsWith('{"table":"agents"'));
    for (const table of ['schema_migrations', 'unfinished_restore']) {
      const section = [JSON.stringify({ table, columns: ['name'] }), 'Bulk\\n', '\\.'];
      expect(await refusalOf(lines.toSpliced(begin, 0, ...section))).toContain(`no backup holds ${table}`);
    }
  });

  it('is refused where its migrations are those of no release', async () => {
    const [header = '', ...rest] = lines;
    const of = JSON.parse(header) as { migrations: string[] };
    for (const migrations of [
      of.migrations.slice(1),
      of.migrations.toReversed(),
      [...of.migrations, of.migrations[0]],
    ]) {
      const text = [JSON.stringify({ ...of, migrations }), ...rest];
      expect(await refusalOf(text)).toContain('its migrations are those of no release');
    }
  });

  it('says nothing in its own words that a terminal would take for a command', async () => {
    const [header = '', ...rest] = lines;
    const of = JSON.parse(header) as { migrations: string[] };
    const end = rest.findLastIndex((line) => line.startsWith('{"end"'));
    const escape = '\u001b[2J';
    for (const text of [
      [JSON.stringify({ ...of, release: escape }), ...rest],
      [JSON.stringify({ ...of, version: escape }), ...rest],
      [JSON.stringify({ ...of, version: 2, release: escape }), ...rest],
      [JSON.stringify({ ...of, takenAt: `2026-11-28 ${escape}` }), ...rest],
      [JSON.stringify({ ...of, migrations: [...of.migrations, escape] }), ...rest],
      [header, ...rest.toSpliced(end, 1, JSON.stringify({ end: true, rows: { [escape]: 1 } }))],
    ]) {
      const said = await refusalOf(text);
      expect(said).toMatch(/^BackupRefused: /);
      expect(said).not.toContain(escape);
    }
  });

  it('is refused by a release that does not know its migrations or its format', async () => {
    const [header = '', ...rest] = lines;
    const of = JSON.parse(header) as { migrations: string[] };
    const changed = (change: Json) => refusalOf([JSON.stringify({ ...of, ...change }), ...rest]);
    const migrations = [...of.migrations, 'Later1999000000000'];
    expect(await changed({ migrations, release: '9.0.0' })).toMatch(/later release \(9\.0\.0\).*Later1999000000000/);
    expect(await changed({ version: 2, release: '9.0.0' })).toMatch(/has the format 2.*9\.0\.0/);
    expect(await changed({ format: 'another' })).toMatch(/not a backup/);
    expect(await changed({ takenAt: 'yesterday' })).toMatch(/first line is not whole/);
  });
});

describe('the commands', () => {
  it('explain themselves and exit with 64 where they are called wrongly', async () => {
    const wrong = [
      ['backup'],
      ['backup', 'a', 'b'],
      ['backup', '--force'],
      ['restore'],
      ['restore', 'a', 'b'],
      ['restore', 'a', '--force'],
      ['restore:check'],
    ];
    const endings = await Promise.all(wrong.map((args) => runCommand(args, {})));
    endings.forEach(({ code, output }, index) => {
      expect([code, output]).toEqual([64, expect.stringContaining(`Usage: npm run cli -- ${wrong[index]?.[0]} `)]);
    });
  });

  it('say that there is no file, and change nothing', async () => {
    const DATA_DIR = join(backups.folder, 'no-data');
    const { code, output } = await runCommand(['restore', join(backups.folder, 'missing')], { DATA_DIR });
    expect([code, output]).toEqual([1, expect.stringContaining('ENOENT')]);
    const saved = await runCommand(['backup', backups.newFile()], { DATA_DIR });
    expect([saved.code, saved.output]).toEqual([1, expect.stringContaining('There is no database in')]);
    expect(await readdir(backups.folder)).not.toContain('no-data');
  });
});

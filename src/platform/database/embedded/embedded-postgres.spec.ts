import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { transformFile } from '@swc/core';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { DataDirectoryInUse, startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const isRoot = process.getuid?.() === 0;
const temporary: string[] = [];
const started: EmbeddedPostgres[] = [];
const children: ChildProcess[] = [];

let template: string;

beforeAll(async () => {
  template = await folder();
  await (await start(template)).stop();
});

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  for (const server of started) await server.stop();
  for (const directory of temporary) await rm(directory, { recursive: true, force: true });
});

/** A temporary folder; as root one that the account which runs PostgreSQL may enter, unless it is to be private. */
async function folder(parent = tmpdir(), mode = isRoot ? 0o711 : 0o700): Promise<string> {
  const made = await mkdtemp(path.join(parent, 'agentidp-spec-'));
  await chmod(made, mode);
  temporary.push(made);
  return made;
}

/** A temporary folder that holds the files of a server which was stopped: cheaper than a first start. */
async function usedFolder(): Promise<string> {
  const made = await folder();
  await promisify(execFile)('cp', ['-a', path.join(template, 'postgres'), made]);
  return made;
}

async function start(dataDirectory: string, announced: string[] = []): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ dataDirectory, announce: (line) => announced.push(line) });
  started.push(server);
  return server;
}

async function query<Row extends object>(url: string, sql: string): Promise<Row[]> {
  const client = new Client(url);
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Asks until there is an answer, as a client of a server that is coming back does. */
async function queryUntilAnswered<Row extends object>(url: string, sql: string): Promise<Row[]> {
  for (;;) {
    try {
      return await query<Row>(url, sql);
    } catch {
      await new Promise(setImmediate);
    }
  }
}

async function postmasterPid(dataDirectory: string): Promise<number> {
  return Number((await readFile(path.join(dataDirectory, 'postgres/cluster/postmaster.pid'), 'utf8')).split('\n')[0]);
}

/** Another process that holds `dataDirectory`. */
async function holder(dataDirectory: string): Promise<{ child: ChildProcess; superuserUrl: string }> {
  const compiled = await folder(path.resolve(HERE, '../../../../node_modules'));
  for (const name of await readdir(HERE)) {
    if (name.endsWith('.spec.ts')) continue;
    const { code } = await transformFile(path.join(HERE, name), {
      jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
    });
    await writeFile(path.join(compiled, name.replace(/\.ts$/, '.js')), code);
  }
  await writeFile(path.join(compiled, 'package.json'), '{ "type": "module" }');
  await writeFile(
    path.join(compiled, 'holder.js'),
    `import { startEmbeddedPostgres } from './embedded-postgres.js';
     const server = await startEmbeddedPostgres({ dataDirectory: process.argv[2], announce() {} });
     console.log(server.superuserUrl);
     setInterval(() => undefined, 60_000);`,
  );
  const child = spawn(process.execPath, [path.join(compiled, 'holder.js'), dataDirectory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, superuserUrl: line.toString().trim() };
}

async function killHard(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe('the embedded PostgreSQL', () => {
  it('makes a durable server with an owning and a serving role, and keeps the data over a stop', async () => {
    const dataDirectory = await folder();
    const first = await start(dataDirectory);
    expect(first.dataDirectory).toBe(dataDirectory);
    const [settings] = await query(
      first.superuserUrl,
      `SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit,
              current_setting('full_page_writes') AS pages, current_setting('server_encoding') AS encoding,
              current_setting('password_encryption') AS passwords, current_setting('listen_addresses') AS address`,
    );
    expect(settings).toEqual({
      fsync: 'on',
      commit: 'on',
      pages: 'on',
      encoding: 'UTF8',
      passwords: 'scram-sha-256',
      address: '127.0.0.1',
    });
    await query(first.owningUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await expect(query(first.servingUrl, 'CREATE TABLE mine ()')).rejects.toThrow(/permission denied/);
    await expect(query(first.servingUrl, 'SELECT * FROM kept')).rejects.toThrow(/permission denied/);
    await expect(query(first.owningUrl, 'CREATE ROLE another')).rejects.toThrow(/permission denied/);
    await Promise.all([first.stop(), first.stop()]);
    await first.stop();
    await expect(query(first.servingUrl, 'SELECT 1')).rejects.toThrow();

    const second = await start(dataDirectory);
    expect(await query(second.owningUrl, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    const passwords = await stat(path.join(dataDirectory, 'postgres/passwords.json'));
    expect(passwords.mode & 0o777).toBe(0o600);
    await second.stop();
  });

  it('hands out URLs that pg, TypeORM and URL take, by the socket and without it', async () => {
    const server = await start(await usedFolder());
    const socketOnly = 'SELECT inet_server_addr() IS NULL AS socket, current_user AS role';
    expect(await query(server.servingUrl, socketOnly)).toEqual([{ socket: true, role: 'agentidp_service' }]);
    const source = await new DataSource({ type: 'postgres', url: server.owningUrl }).initialize();
    expect(await source.query(socketOnly)).toEqual([{ socket: true, role: 'agentidp_owner' }]);
    await source.destroy();
    const byAddress = new URL(server.servingUrl);
    byAddress.search = '';
    expect(await query(byAddress.href, socketOnly)).toEqual([{ socket: false, role: 'agentidp_service' }]);
    await server.stop();
  });

  it('puts the socket into a temporary folder where its path would be too long, and removes it', async () => {
    const dataDirectory = path.join(await folder(), 'a-rather-long-name-'.repeat(6));
    await mkdir(dataDirectory);
    if (isRoot) await chmod(dataDirectory, 0o711);
    const server = await start(dataDirectory);
    const socket = new URL(server.servingUrl).searchParams.get('host') ?? '';
    expect(path.dirname(socket)).toBe(tmpdir());
    expect(await query(server.servingUrl, 'SELECT inet_server_addr() IS NULL AS socket')).toEqual([{ socket: true }]);
    await server.stop();
    await expect(stat(socket)).rejects.toThrow(/ENOENT/);
  });

  it('adopts the server that a killed process left, and starts over when that was killed too', async () => {
    const dataDirectory = await usedFolder();
    const first = await holder(dataDirectory);
    await query(first.superuserUrl, 'CREATE TABLE kept AS SELECT 1 AS one');
    const pid = await postmasterPid(dataDirectory);
    await killHard(first.child);

    const second = await holder(dataDirectory);
    expect(await postmasterPid(dataDirectory)).toBe(pid);
    expect(second.superuserUrl).toBe(first.superuserUrl);
    await killHard(second.child);
    process.kill(pid, 'SIGKILL');

    const third = await start(dataDirectory);
    expect(await postmasterPid(dataDirectory)).not.toBe(pid);
    expect(await query(third.superuserUrl, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
    await third.stop();
  });

  it('refuses a data directory that another living process holds, and leaves its server alone', async () => {
    const dataDirectory = await folder();
    const [one, other] = await Promise.allSettled([start(dataDirectory), start(dataDirectory)]);
    const refused = one.status === 'rejected' ? one : other;
    const held = one.status === 'fulfilled' ? one : other;
    if (refused.status !== 'rejected' || held.status !== 'fulfilled') throw new Error('not exactly one got it');
    expect(refused.reason).toBeInstanceOf(DataDirectoryInUse);
    expect(String(refused.reason)).toContain(dataDirectory);
    expect(await query(held.value.servingUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await readdir(dataDirectory)).toEqual(['postgres']);
    await held.value.stop();
  });

  it('starts the server again at the same place when it is killed', async () => {
    const dataDirectory = await usedFolder();
    const announced: string[] = [];
    const server = await start(dataDirectory, announced);
    await query(server.owningUrl, 'CREATE TABLE kept AS SELECT 1 AS one');
    const pid = await postmasterPid(dataDirectory);
    process.kill(pid, 'SIGKILL');
    expect(await queryUntilAnswered(server.owningUrl, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
    expect(await postmasterPid(dataDirectory)).not.toBe(pid);
    await server.stop();
    expect(announced.length).toBeGreaterThan(0);
  });

  it('starts the server once more when it is killed again while it recovers', async () => {
    const dataDirectory = await usedFolder();
    const announced: string[] = [];
    const server = await start(dataDirectory, announced);
    let lost: Error | null = null;
    server.onExit((reason) => (lost = reason));
    await query(server.owningUrl, 'CREATE TABLE kept AS SELECT 1 AS one');
    let killed = 0;
    for (let time = 0; time < 3; time += 1) {
      let pid = killed;
      while (pid === killed || Number.isNaN(pid)) pid = await postmasterPid(dataDirectory).catch(() => Number.NaN);
      process.kill(pid, 'SIGKILL');
      killed = pid;
    }
    expect(await queryUntilAnswered(server.owningUrl, 'SELECT one FROM kept')).toEqual([{ one: 1 }]);
    expect(lost).toBeNull();
    await server.stop();
  });

  it('tries again after a pause where the server does not start, and stops trying when it is stopped', async () => {
    const dataDirectory = await usedFolder();
    const settings = path.join(dataDirectory, 'postgres/cluster/postgresql.conf');
    const right = await readFile(settings, 'utf8');
    let failed: () => void = () => undefined;
    const announce = (line: string) => (line.includes('no_such_setting') ? failed() : undefined);
    const server = await startEmbeddedPostgres({ dataDirectory, announce });
    started.push(server);
    const failsOnce = () => new Promise<void>((resolve) => (failed = resolve));

    let failure = failsOnce();
    await writeFile(settings, 'no_such_setting = 1\n');
    process.kill(await postmasterPid(dataDirectory), 'SIGKILL');
    await failure;
    await writeFile(settings, right);
    expect(await queryUntilAnswered(server.owningUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);

    failure = failsOnce();
    await writeFile(settings, 'no_such_setting = 1\n');
    process.kill(await postmasterPid(dataDirectory), 'SIGKILL');
    await failure;
    let lost: Error | null = null;
    server.onExit((reason) => (lost = reason));
    await server.stop();
    expect(lost).toBeNull();
  });

  it('says that it is lost when the server cannot be started again', async () => {
    const dataDirectory = await usedFolder();
    const server = await start(dataDirectory);
    const lost = new Promise<Error>((resolve) => server.onExit(resolve));
    await writeFile(path.join(dataDirectory, 'postgres/cluster/postgresql.conf'), 'no_such_setting = 1\n');
    process.kill(await postmasterPid(dataDirectory), 'SIGKILL');
    expect((await lost).message).toContain('no_such_setting');
    await server.stop();
  });

  it('tells what PostgreSQL logged when it does not start', async () => {
    const dataDirectory = await usedFolder();
    await writeFile(path.join(dataDirectory, 'postgres/cluster/postgresql.conf'), 'no_such_setting = 1\n');
    await expect(start(dataDirectory)).rejects.toThrow(/no_such_setting/);
  });

  it('is not led astray by a pid file that names the server of another data directory', async () => {
    const running = await start(await usedFolder());
    const copied = await usedFolder();
    const pidFile = 'postgres/cluster/postmaster.pid';
    await copyFile(path.join(running.dataDirectory, pidFile), path.join(copied, pidFile));

    const copy = await start(copied);
    expect(await postmasterPid(copied)).not.toBe(await postmasterPid(running.dataDirectory));
    await query(copy.owningUrl, 'CREATE TABLE only_here ()');
    await expect(query(running.owningUrl, 'SELECT * FROM only_here')).rejects.toThrow(/does not exist/);
    await Promise.all([running.stop(), copy.stop()]);
  });

  // Only as root is there anything to show: any other account starts PostgreSQL under itself.
  if (isRoot) {
    it('as root puts the data where PostgreSQL can enter, and finds them again', async () => {
      const wanted = path.join(await folder(tmpdir(), 0o700), 'data');
      const announced: string[] = [];
      const first = await start(wanted, announced);
      temporary.push(first.dataDirectory);
      expect(first.dataDirectory).toMatch(/^\/var\/lib\/sentryagent-agentidp\//);
      expect(announced.join('\n')).toContain(first.dataDirectory);
      await first.stop();
      const second = await start(wanted);
      expect(second.dataDirectory).toBe(first.dataDirectory);
      await second.stop();
    });
  }
});

import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { syncDirectory, writeDurably } from './create-once.js';
import type { Installation } from './data-directory.js';
import { exists } from './postgres-binaries.js';
import { processExists } from './process-liveness.js';
import { giveTo, runUnder } from './server-account.js';

/** The superuser that initdb makes. Only provisioning and the tests use it. */
export const SUPERUSER = 'postgres';

/** The random passwords of the three roles. */
export interface Passwords {
  readonly superuser: string;
  readonly owning: string;
  readonly serving: string;
}

/**
 * Makes PostgreSQL's files and the passwords, unless there are some. All of it is made in a sibling folder and renamed
 * into place: a crash in the middle leaves nothing half made, and of two first starts at once one wins and the other
 * takes what it made.
 *
 * @returns the passwords
 * @throws Error with what initdb said; or where the files are those of another major version
 */
export async function ensureCluster(installation: Installation): Promise<Passwords> {
  const { serverDirectory } = installation;
  if (!(await exists(serverDirectory))) {
    const unfinished = `${serverDirectory}${unfinishedSuffix(process.pid)}${randomBytes(4).toString('hex')}`;
    try {
      await fillServerDirectory(installation, unfinished);
      await rename(unfinished, serverDirectory).catch(async (error: unknown) => {
        if (!(await exists(serverDirectory))) throw error;
      });
      await syncDirectory(path.dirname(serverDirectory));
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
  }
  await checkVersion(installation);
  return JSON.parse(await readFile(installation.passwordFile, 'utf8')) as Passwords;
}

/**
 * Removes what earlier processes left that were killed: the unfinished folders of first starts on this machine, and the
 * sockets of servers that listened on another port. Only the holder of the data directory may call this.
 */
export async function removeLeftovers(installation: Installation, port: number): Promise<void> {
  for (const name of await readdir(installation.socketDirectory)) {
    if (!/^\.s\.PGSQL\.\d+(\.lock)?$/.test(name) || name.split('.')[3] === String(port)) continue;
    await rm(path.join(installation.socketDirectory, name), { force: true });
  }
  const parent = path.dirname(installation.serverDirectory);
  const prefix = `${path.basename(installation.serverDirectory)}${unfinishedSuffix('')}`;
  for (const name of await readdir(parent)) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
    if (Number.isNaN(pid) || processExists(pid)) continue;
    await rm(path.join(parent, name), { recursive: true, force: true });
  }
}

/** Names a folder that the process `pid` of this machine has not finished. */
function unfinishedSuffix(pid: number | ''): string {
  return `.new-${hostname().replaceAll(/[^A-Za-z0-9]/g, '')}-${pid === '' ? '' : `${pid}-`}`;
}

/**
 * Fills `directory` with all that an installation holds. The account that runs PostgreSQL owns only PostgreSQL's own
 * files and the socket's folder; the folder above stays ours, so that it cannot lead our writes elsewhere.
 */
async function fillServerDirectory(installation: Installation, directory: string): Promise<void> {
  const { account, binaries } = installation;
  const inside = (file: string) => path.join(directory, path.basename(file));
  await mkdir(directory, { mode: 0o700 });
  if (account !== null) await chmod(directory, 0o711);
  const newPassword = () => randomBytes(32).toString('base64url');
  const passwords: Passwords = { superuser: newPassword(), owning: newPassword(), serving: newPassword() };
  await writeDurably(inside(installation.passwordFile), JSON.stringify(passwords));
  const initdbPassword = inside('initdb-password');
  await writeDurably(initdbPassword, passwords.superuser, account);
  for (const owned of [inside(installation.socketDirectory), inside(installation.cluster)]) {
    await mkdir(owned, { mode: 0o700 });
    await giveTo(account, owned);
  }
  await runUnder(account, binaries.initdb, [
    ...['-D', inside(installation.cluster), '-U', SUPERUSER, `--pwfile=${initdbPassword}`, '-A', 'scram-sha-256'],
    ...['-E', 'UTF8', '--locale=C', '--no-instructions'],
  ]);
  await rm(initdbPassword);
  await syncDirectory(directory);
}

/** Refuses files that these programs cannot serve, before PostgreSQL does so less clearly. */
async function checkVersion({ cluster, binaries }: Installation): Promise<void> {
  const found = (
    await readFile(path.join(cluster, 'PG_VERSION'), 'utf8').catch((cause: unknown) => {
      throw new Error(`${cluster} holds no PostgreSQL files that we can read.`, { cause });
    })
  ).trim();
  if (found === binaries.majorVersion) return;
  throw new Error(
    `${cluster} was made by PostgreSQL ${found}, but this release brings ${binaries.majorVersion}. Dump it with the old release and load it with the new one.`,
  );
}

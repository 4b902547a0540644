import { execFile } from 'node:child_process';
import { chown, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { hasCode, messageOf } from './error-code.js';

const run = promisify(execFile);

/** The account that PostgreSQL runs under where it must be another than ours. */
export interface ServerAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Decides under which account PostgreSQL runs. It refuses to run as root; then it runs as the owner of its files, and
 * before there are any as `postgres`, or `nobody` where there is no such account.
 *
 * @param cluster the folder of PostgreSQL's files, whether it exists or not
 * @returns `null`: our own account
 * @throws Error where we are root and the machine has neither account
 */
export async function chooseServerAccount(cluster: string): Promise<ServerAccount | null> {
  if (process.getuid?.() !== 0) return null;
  const owner = await stat(cluster).catch(() => null);
  if (owner !== null && owner.uid !== 0) return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  for (const name of ['postgres', 'nobody']) {
    const account = await lookUp(name);
    if (account !== null) return account;
  }
  throw new Error(
    'PostgreSQL refuses to run as root, and there is neither an account "postgres" nor "nobody" to run it. Start the service as another user, or set DATABASE_URL.',
  );
}

/** Asks the machine for an account; `null`: there is none of this name. Not from /etc/passwd, which is not all of them. */
async function lookUp(name: string): Promise<ServerAccount | null> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
    return { name, uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return null;
  }
}

/** Whether `account` may enter `directory`. Tried, not computed from mode bits, so access lists count too. */
export async function mayEnter(account: ServerAccount, directory: string): Promise<boolean> {
  return runsUnder(account, '/bin/sh', ['-c', 'cd "$1"', 'sh', directory]);
}

/** Whether `account` may run the program `file`; it is run with `--version`. */
export async function mayRun(account: ServerAccount, file: string): Promise<boolean> {
  return runsUnder(account, file, ['--version']);
}

async function runsUnder(account: ServerAccount, file: string, args: readonly string[]): Promise<boolean> {
  return runUnder(account, file, args).then(
    () => true,
    () => false,
  );
}

/**
 * Runs a program of PostgreSQL to its end, under `account`.
 *
 * @param account `null`: our own
 * @returns what it wrote to standard output
 * @throws Error with the last lines it wrote
 */
export async function runUnder(account: ServerAccount | null, file: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run(file, [...args], { ...spawnedUnder(account), maxBuffer: 4 * 1024 * 1024 });
    return stdout;
  } catch (cause) {
    throw new Error(`${file} failed: ${whyItFailed(cause, account)}`, { cause });
  }
}

/** How the children that we spawn under `account` are set up: its ids, a folder it can enter, a clean environment. */
export function spawnedUnder(account: ServerAccount | null) {
  return {
    cwd: process.platform === 'win32' ? process.cwd() : '/',
    env: cleanEnvironment(),
    ...(account === null ? {} : { uid: account.uid, gid: account.gid }),
  };
}

/**
 * The environment of PostgreSQL's programs: without `PG…` variables, which change what they do, and elsewhere than on
 * Windows nothing but the search path, so messages stay English and no library path shadows the libraries they bring.
 */
function cleanEnvironment(): NodeJS.ProcessEnv {
  if (process.platform !== 'win32') return { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' };
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.toUpperCase().startsWith('PG')));
}

/** The reason why a child failed, for people. */
function whyItFailed(error: unknown, account: ServerAccount | null): string {
  if (hasCode(error, 'EPERM', 'EINVAL') && account !== null) {
    return `the system does not let us run it as "${account.name}" (uid ${account.uid})`;
  }
  if (hasCode(error, 'ENOENT')) {
    return 'the system cannot run it (is this a Linux without glibc, such as Alpine? Set DATABASE_URL to use a PostgreSQL of your own)';
  }
  const written = error as { stderr?: string; stdout?: string };
  const said = [written.stderr, written.stdout].find((text) => text !== undefined && text.trim() !== '');
  return said === undefined ? messageOf(error) : lastLines(said);
}

/** The last 15 lines of `text`. */
export function lastLines(text: string): string {
  return text.trim().split('\n').slice(-15).join('\n');
}

/** Makes `account` the owner of one folder; nothing to do where PostgreSQL runs under our own. */
export async function giveTo(account: ServerAccount | null, folder: string): Promise<void> {
  if (account === null) return;
  await chown(folder, account.uid, account.gid);
}

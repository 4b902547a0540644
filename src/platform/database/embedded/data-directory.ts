import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createOnce } from './create-once.js';
import { copyPostgresBinaries, exists, locatePostgresBinaries, type PostgresBinaries } from './postgres-binaries.js';
import { chooseServerAccount, mayEnter, mayRun, type ServerAccount } from './server-account.js';

/** Where the data go when the account that runs PostgreSQL cannot enter the folder that was asked for. */
const SHARED_ROOT = '/var/lib/sentryagent-agentidp';

/** One installation of the embedded PostgreSQL: its programs, its files and the account it runs under. */
export interface Installation {
  readonly binaries: PostgresBinaries;
  /** `null`: our own account. */
  readonly account: ServerAccount | null;
  /** The data directory in use, absolute. */
  readonly dataDirectory: string;
  /** `<dataDirectory>/postgres`: appears whole, by one rename, and holds all that follows. */
  readonly serverDirectory: string;
  /** PostgreSQL's own files. */
  readonly cluster: string;
  readonly passwordFile: string;
  readonly logFile: string;
  readonly socketDirectory: string;
}

/**
 * Makes the data directory and settles who runs PostgreSQL, from where and where its files are.
 *
 * As root on a directory that no other account can enter (a clone under a private home) the data go to a folder under
 * /var/lib, named by the hash of the wanted path and a random part; a file `postgres.location` in the wanted directory
 * remembers the name, so that a fresh clone at the same path does not meet the database of a deleted one.
 *
 * @param wanted the data directory that was asked for; made if missing
 * @param announce told where the data or the programs went when they had to go elsewhere
 * @throws Error where there is a database in `wanted` that the account cannot enter
 */
export async function prepareInstallation(wanted: string, announce: (line: string) => void): Promise<Installation> {
  const directory = path.resolve(wanted);
  const located = await locatePostgresBinaries();
  const account = await chooseServerAccount(path.join(directory, 'postgres', 'cluster'));
  await makeDirectory(directory, account === null ? 0o700 : 0o711);
  if (account === null) return installation(located, account, directory);
  const dataDirectory = await enterableDirectory(account, directory, announce);
  let binaries = located;
  if (!(await mayRun(account, located.initdb))) {
    binaries = await copyPostgresBinaries(located, SHARED_ROOT);
    announce(`The PostgreSQL programs run from a copy in ${binaries.packageDirectory}.`);
  }
  return installation(
    binaries,
    await chooseServerAccount(path.join(dataDirectory, 'postgres', 'cluster')),
    dataDirectory,
  );
}

/** Names the parts of an installation in `dataDirectory`. */
function installation(binaries: PostgresBinaries, account: ServerAccount | null, dataDirectory: string): Installation {
  const serverDirectory = path.join(dataDirectory, 'postgres');
  return {
    binaries,
    account,
    dataDirectory,
    serverDirectory,
    cluster: path.join(serverDirectory, 'cluster'),
    passwordFile: path.join(serverDirectory, 'passwords.json'),
    logFile: path.join(serverDirectory, 'server.log'),
    socketDirectory: path.join(serverDirectory, 'socket'),
  };
}

/** `wanted` where `account` can enter it, else the folder under /var/lib that stands in for it. */
async function enterableDirectory(
  account: ServerAccount,
  wanted: string,
  announce: (line: string) => void,
): Promise<string> {
  const marker = path.join(wanted, 'postgres.location');
  const hasDatabase = await exists(path.join(wanted, 'postgres'));
  if (!(await exists(marker)) && (await mayEnter(account, wanted))) return wanted;
  if (hasDatabase) {
    throw new Error(
      `The database in ${wanted} cannot be entered by the account that runs PostgreSQL (${account.name}), because we are root and a folder above is closed to it. Open that folder (chmod o+x), or start as the user who owns it.`,
    );
  }
  const hash = createHash('sha256').update(wanted).digest('hex').slice(0, 16);
  await createOnce(marker, `${hash}-${randomBytes(4).toString('hex')}\n`);
  const name = (await readFile(marker, 'utf8')).trim();
  if (!/^[0-9a-f]{16}-[0-9a-f]{8}$/.test(name)) {
    throw new Error(`${marker} is malformed. It must hold the name of a folder in ${SHARED_ROOT}.`);
  }
  const standIn = path.join(SHARED_ROOT, name);
  await makeDirectory(SHARED_ROOT, 0o755);
  await makeDirectory(standIn, 0o711);
  announce(`PostgreSQL cannot run as root, and "${account.name}" cannot enter ${wanted}: the data are in ${standIn}.`);
  return standIn;
}

/** Makes a folder of exactly `mode`, whatever the umask; one that exists keeps its own. */
async function makeDirectory(directory: string, mode: number): Promise<void> {
  if ((await mkdir(directory, { recursive: true, mode })) !== undefined) await chmod(directory, mode);
}

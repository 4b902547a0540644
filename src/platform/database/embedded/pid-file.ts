import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, readlink, realpath, rename } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { writeDurably } from './create-once.js';
import type { Installation } from './data-directory.js';
import type { Endpoint } from './endpoint.js';
import { exists } from './postgres-binaries.js';
import { processExists } from './process-liveness.js';

/** What `postmaster.pid` says. It outlives a killed server, so it is a hint and never proof. */
export interface PidFile {
  readonly pid: number;
  readonly endpoint: Endpoint;
}

/** Reads `postmaster.pid`; `null` where there is none or a starting server has not finished writing it. */
export async function readPidFile(installation: Installation): Promise<PidFile | null> {
  const text = await readFile(pathOf(installation), 'utf8').catch(() => '');
  const [pid, , , port, socketDirectory] = text.split('\n');
  if (!Number(pid) || !Number(port)) return null;
  return { pid: Number(pid), endpoint: { port: Number(port), socketDirectory: socketDirectory || null } };
}

/**
 * Whether the process that `postmaster.pid` names is a living server of these files: not a zombie, and not a stranger
 * that was given the same number after a restart of the machine or container.
 */
export async function isServing({ cluster }: Installation, pid: number): Promise<boolean> {
  if (process.platform === 'win32') return processExists(pid);
  if (await exists('/proc/self/stat')) return isServingLinux(cluster, pid);
  const listed = await promisify(execFile)('ps', ['-o', 'stat=,comm=', '-p', String(pid)]).catch(() => null);
  return listed !== null && /^[^Z]\S*\s.*postgres/.test(listed.stdout.trim());
}

async function isServingLinux(cluster: string, pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  if (state === '' || state === 'Z' || state === 'X') return false;
  // A server's working directory is the folder of its files.
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  return workingDirectory === null || workingDirectory === (await realpath(cluster));
}

/**
 * Lets a new server start although the process that `postmaster.pid` names seems alive and is no server of these
 * files. The file is not removed: it also names the old server's shared memory, by which PostgreSQL notices backends
 * that outlive it. Only the process number is replaced, by ours, which PostgreSQL passes over as that of its parent.
 */
export async function disownPidFile(installation: Installation, stale: PidFile): Promise<void> {
  if (!processExists(stale.pid)) return;
  const file = pathOf(installation);
  const text = await readFile(file, 'utf8').catch(() => '');
  if (Number(text.split('\n')[0]) !== stale.pid) return;
  const replacement = `${file}.new-${randomBytes(4).toString('hex')}`;
  await writeDurably(replacement, text.replace(/^.*/, String(process.pid)), installation.account);
  await rename(replacement, file);
}

function pathOf({ cluster }: Installation): string {
  return path.join(cluster, 'postmaster.pid');
}

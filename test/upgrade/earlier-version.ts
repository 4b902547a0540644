import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '../..');
/** How long `npm ci` and the build of an earlier version may take together, in milliseconds. */
export const BUILD_LIMIT_MS = 400_000;

const run = promisify(execFile);

/** An earlier version of the service, built in a folder of its own. */
export interface EarlierVersion {
  /** Its root, with `dist/`. */
  readonly folder: string;
  /** The names of its migrations, oldest first. */
  readonly migrations: readonly string[];
  /** Removes the folder. */
  remove(): Promise<void>;
}

/**
 * Takes an earlier version out of Git and builds it. Its packages are those of this version where they are the same,
 * else npm installs its own.
 *
 * @param which the name of a commit in `earlier-versions.json`
 * @throws Error where this copy does not have the commit: it says how to get it. A test of upgrades that found nothing
 *   to upgrade from must not pass.
 */
export async function buildEarlierVersion(which: 'before' | 'oldest'): Promise<EarlierVersion> {
  const commit =
    (JSON.parse(readFileSync(join(import.meta.dirname, 'earlier-versions.json'), 'utf8')) as Record<string, string>)[
      which
    ] ?? '';
  await requireCommit(commit, which);
  const folder = await mkdtemp(join(tmpdir(), 'agentidp-earlier-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    await extract(commit, folder);
    if (await hasSamePackages(folder))
      await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'junction');
    else
      await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
        cwd: folder,
        shell: process.platform === 'win32',
      });
    // Not by its own set-up script, which would install into the folder that the link leads to.
    const cli = join(folder, 'node_modules/@nestjs/cli');
    const { bin } = JSON.parse(await readFile(join(cli, 'package.json'), 'utf8')) as { bin: string | { nest: string } };
    await run(process.execPath, [join(cli, typeof bin === 'string' ? bin : bin.nest), 'build'], { cwd: folder });
    return { folder, migrations: await migrationsOf(folder), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function requireCommit(commit: string, which: string): Promise<void> {
  try {
    await run('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: ROOT });
  } catch (cause) {
    const shallow = existsSync(join(ROOT, '.git', 'shallow'));
    const hint = shallow
      ? 'This clone is shallow: run git fetch --unshallow (in CI: fetch the whole history).'
      : 'Run the test in a clone with the whole history; an archive of the sources has none.';
    throw new Error(
      `The ${which} version to upgrade from (${commit}, test/upgrade/earlier-versions.json) is not here. ${hint}`,
      { cause },
    );
  }
}

async function extract(commit: string, folder: string): Promise<void> {
  const archive = spawn('git', ['archive', '--format=tar', commit], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const tar = spawn('tar', ['-x', '-f', '-', '-C', folder], { stdio: ['pipe', 'inherit', 'inherit'] });
  archive.stdout.pipe(tar.stdin);
  const codes = await Promise.all([once(archive, 'close'), once(tar, 'close')]);
  if (codes.some(([code]) => code !== 0)) throw new Error(`git archive ${commit} could not be extracted`);
}

interface Lock {
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly optional?: boolean }>>;
}

/** Whether each package that the earlier version locks is locked here in the same version. */
async function hasSamePackages(folder: string): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [folder, ROOT].map(async (place) => JSON.parse(await readFile(join(place, 'package-lock.json'), 'utf8')) as Lock),
  );
  return Object.entries(theirs?.packages ?? {}).every(
    ([path, { version, optional }]) => path === '' || optional === true || ours?.packages[path]?.version === version,
  );
}

async function migrationsOf(folder: string): Promise<string[]> {
  const list = await readFile(join(folder, 'src/platform/database/migration-list.ts'), 'utf8');
  return [...list.matchAll(/^ {2}(\w+),$/gm)].map(([, name = '']) => name);
}

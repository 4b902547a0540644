import type { INestApplicationContext } from '@nestjs/common';
import { open } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { createApp } from '../app.js';
import { BackupRefused } from '../platform/backup/backup-format.js';
import { checkBackup, restoreBackup } from '../platform/backup/restore-backup.js';
import { writeBackup } from '../platform/backup/write-backup.js';
import type { Config } from '../platform/config/config.js';
import { startEmbeddedPostgres } from '../platform/database/embedded/embedded-postgres.js';
import { adoptMasterKey, masterKeyFile, readMasterKey } from '../platform/database/embedded/master-key.js';
import { holdsDatabase, replaceEmbeddedPostgres, visitEmbeddedPostgres } from '../platform/database/embedded/visit.js';
import { openDatabase } from '../platform/database/open-database.js';
import { SystemClock } from '../platform/kernel/clock.js';
import { RecoveryService, type LostHistory } from '../recovery/recovery.service.js';
import { VERSION } from '../version.js';
import { terminalText } from './terminal-text.js';

const say = (line: string): void => console.log(line);
/** A file that is named holds nothing that can be used. */
const EXIT_NO_INPUT = 66;

const announce = (line: string): void => console.error(line);

/** `backup FILE_OR_FOLDER` */
export async function backUp({ database, keys }: Config, args: readonly string[]): Promise<number | null> {
  const [target, ...more] = args;
  if (target === undefined || target.startsWith('-') || more.length > 0) return null;
  const { url, migrationUrl, dataDirectory } = database;
  const visited = url === null ? await visitEmbeddedPostgres(dataDirectory, announce) : null;
  try {
    const { file, bytes, rows, header } = await writeBackup(
      visited?.owningUrl ?? migrationUrl ?? String(url),
      target,
      VERSION,
    );
    say(file);
    announce(`${rows} rows as of ${header.takenAt}, ${bytes} bytes.`);
    const place = keys.masterKey === null ? masterKeyFile(visited?.dataDirectory ?? dataDirectory) : 'MASTER_KEY';
    announce(
      `The master key is not in it: keep ${place} too, apart from the backup. Without it, it cannot be restored.`,
    );
    return 0;
  } finally {
    await visited?.leave();
  }
}

/** `restore FILE [--master-key FILE] [--replace] [--keep-tokens]` */
export async function restore(config: Config, args: readonly string[]): Promise<number | null> {
  const given = readRestoreArguments(args);
  if (given === null) return null;
  announce(`Reading ${given.file} to its end ...`);
  await checkBackup(given.file);
  const { url, migrationUrl, dataDirectory } = config.database;
  if (url !== null) {
    if (given.replace)
      throw new BackupRefused('--replace is for the embedded database. Name an empty one in DATABASE_URL.');
    const masterKey = await masterKeyFor(config, dataDirectory, given.masterKey);
    await load(config, given, { owningUrl: migrationUrl ?? url, servingUrl: url, masterKey });
    return 0;
  }
  await restoreEmbedded(config, given);
  return 0;
}

async function restoreEmbedded(config: Config, given: RestoreArguments): Promise<void> {
  const { dataDirectory } = config.database;
  const isThere = await holdsDatabase(dataDirectory);
  let postgres = await startEmbeddedPostgres({ dataDirectory, announce });
  try {
    const masterKey = await masterKeyFor(config, postgres.dataDirectory, given.masterKey);
    if (given.replace && isThere) {
      const replaced = await replaceEmbeddedPostgres(postgres, { dataDirectory, announce }, new SystemClock().now());
      postgres = replaced.postgres;
      announce(`The database from before is in ${replaced.aside}.`);
    }
    await load(config, given, { owningUrl: postgres.owningUrl, servingUrl: postgres.servingUrl, masterKey });
  } finally {
    await postgres.stop();
  }
}

/** `restore:check FILE...` */
export async function checkRestore(config: Config, args: readonly string[]): Promise<number | null> {
  if (args.length === 0 || args.some((argument) => argument.startsWith('-'))) return null;
  const database = await openDatabase(config, announce);
  const findings: (LostHistory | null)[] = [];
  try {
    await withApp(config, database.servingUrl, database.masterKey, async (app) => {
      for (const file of args) findings.push(await compare(app.get(RecoveryService), file));
    });
  } finally {
    await database.stop();
  }
  // What tells of nothing must not pass for evidence that nothing is lost.
  if (findings.some((found) => found === null || found.organizationId === null)) return EXIT_NO_INPUT;
  return findings.every((found) => found?.events === 0) ? 0 : 1;
}

/** Compares one file with the chain, and says what is lost; null where the file cannot be read. */
async function compare(recovery: RecoveryService, file: string): Promise<LostHistory | null> {
  const fault = await faultOf(file);
  if (fault !== null) {
    announce(`${file}: cannot be read (${fault}).`);
    return null;
  }
  const found = await recovery.lost(file, (act) => {
    const what = [act.occurredAt, act.organizationId, act.sequence, act.action, act.targetType, act.targetId];
    // Anybody may have written it, where it is not proven.
    say([...what, ...(act.again === null ? [] : [act.again])].map((each) => terminalText(String(each))).join('\t'));
  });
  const { organizationId, events, firstSequence, proven, isOrganizationLost } = found;
  if (!proven) announce(`${file}: not whole, or not signed with an audit key of ours. Take what it names with care.`);
  if (organizationId === null) announce(`${file}: tells of no organization.`);
  else if (firstSequence === null) announce(`${file}: nothing of organization ${organizationId} is lost.`);
  else if (isOrganizationLost) {
    announce(
      `${file}: organization ${organizationId} itself is lost: ${events} of its events, from ${firstSequence} on.`,
    );
  } else announce(`${file}: ${events} events of organization ${organizationId} are lost, from ${firstSequence} on.`);
  return found;
}

/** Why a file cannot be read; null where it can. */
async function faultOf(file: string): Promise<string | null> {
  try {
    const handle = await open(file);
    try {
      // A folder can be opened.
      await handle.read(Buffer.alloc(1), 0, 1, 0);
    } finally {
      await handle.close();
    }
    return null;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

interface RestoreArguments {
  readonly file: string;
  readonly masterKey: string | null;
  readonly replace: boolean;
  readonly keepTokens: boolean;
}

function readRestoreArguments(args: readonly string[]): RestoreArguments | null {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        'master-key': { type: 'string' },
        replace: { type: 'boolean', default: false },
        'keep-tokens': { type: 'boolean', default: false },
      },
    });
    const [file, ...more] = positionals;
    if (file === undefined || more.length > 0) return null;
    const { replace, 'master-key': masterKey = null, 'keep-tokens': keepTokens } = values;
    return { file, masterKey, replace, keepTokens };
  } catch {
    return null;
  }
}

/** The master key of the backup: it is never made here, because a new one opens nothing. */
async function masterKeyFor(config: Config, dataDirectory: string, given: string | null): Promise<Buffer> {
  const configured = config.keys.masterKey;
  if (configured !== null) return configured;
  const key = given === null ? await readMasterKey(dataDirectory) : await adoptMasterKey(given, dataDirectory);
  if (key !== null) return key;
  throw new BackupRefused(
    `The master key of the backup is missing: name its file with --master-key, or put it into ${masterKeyFile(dataDirectory)}, or set MASTER_KEY. Nothing was restored.`,
  );
}

/** Restores the backup, and ends the tokens from before unless it is only a move. */
async function load(
  config: Config,
  { file, keepTokens }: RestoreArguments,
  target: { owningUrl: string; servingUrl: string; masterKey: Buffer },
): Promise<void> {
  const { previousMasterKey } = config.keys;
  await restoreBackup(file, { ...target, previousMasterKey, announce }, async ({ takenAt }) => {
    if (keepTokens) return;
    await withApp(config, target.servingUrl, target.masterKey, (app) => app.get(RecoveryService).restart(takenAt));
  });
  if (keepTokens) {
    say('Restored. Tokens live on: this is right only where nothing was served after the backup.');
    return;
  }
  say('Restored. Every token from before is dead: agents ask for new ones.');
  say('What was revoked, suspended or rotated after the backup is not. Name it: npm run cli -- restore:check FILE...');
}

/** Works on the application's own services, without listening. */
async function withApp(
  config: Config,
  servingUrl: string,
  masterKey: Buffer,
  work: (app: INestApplicationContext) => Promise<void>,
): Promise<void> {
  const { previousMasterKey } = config.keys;
  const app = await createApp(
    { config, clock: new SystemClock(), masterKey, previousMasterKey, servingUrl },
    'command',
  );
  try {
    await work(app);
  } finally {
    await app.close();
  }
}

import type { INestApplicationContext } from '@nestjs/common';
import { createApp } from '../app.js';
import { KeyRotationService, NOBODY } from '../keys/key-rotation.service.js';
import { KeysService } from '../keys/keys.service.js';
import type { Config } from '../platform/config/config.js';
import { openDatabase, type OpenDatabase } from '../platform/database/open-database.js';
import { Resealing, whatIsLeft } from '../platform/database/resealing.js';
import { SystemClock } from '../platform/kernel/clock.js';
import { loadConfigOrExit, startFailure } from '../start-up.js';
import { OperatorService } from '../operator/operator.service.js';
import { RecoveryService } from '../recovery/recovery.service.js';
import { backUp, checkRestore, restore } from './backup-commands.js';

/** A command: what it does for people, and how. */
interface Command {
  readonly summary: string;
  readonly run: (config: Config, database: OpenDatabase, argument: string) => Promise<void>;
  /** What has to be named behind the command. */
  readonly argument?: string;
}

/** A command that reaches the database in a way of its own, and takes arguments. */
interface OwnCommand {
  readonly summary: string;
  readonly usage: string;
  /** Gives the exit code; null where the arguments are wrong. */
  readonly runOn: (config: Config, args: readonly string[]) => Promise<number | null>;
}

const say = (line: string): void => console.log(line);

const COMMANDS: Readonly<Record<string, Command | OwnCommand>> = {
  'operator:reset': {
    summary: 'Give the operator a new secret, shown once; the secrets and tokens that it had are revoked.',
    run: withApp(async (app) => {
      const { clientId, clientSecret } = await app.get(OperatorService).reset();
      say(`CLIENT_ID=${clientId}\nCLIENT_SECRET=${clientSecret}`);
    }),
  },
  migrate: {
    summary: 'Bring the schema to the newest version.',
    // Opening the database has migrated it.
    run: () => Promise.resolve(say('The schema is at the newest version.')),
  },
  'keys:list': {
    summary: 'List the signing keys and their phases.',
    run: withApp(async (app) => {
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<KeysService['list']>> = await app
          .get(KeysService)
          .list(200, cursor ?? undefined);
        for (const { kid, purpose, algorithm, phase, createdAt } of page.data) {
          say([kid, purpose, algorithm, phase, createdAt.toISOString()].join('\t'));
        }
        cursor = page.nextCursor;
      } while (cursor !== null);
    }),
  },
  'keys:rotate': {
    summary: 'Have the next key sign access tokens; the one before stays in the JWKS until its last token has expired.',
    run: withApp(async (app) => say((await app.get(KeyRotationService).rotate(NOBODY, 'access_token')).kid)),
  },
  'keys:rotate-audit': {
    summary: 'Have the next key sign checkpoints; the one before stays in the JWKS, so that they verify.',
    run: withApp(async (app) => say((await app.get(KeyRotationService).rotate(NOBODY, 'audit')).kid)),
  },
  'keys:revoke': {
    summary: 'Revoke the key of access tokens with this kid: its tokens are dead at once, and the next key signs.',
    argument: 'kid',
    run: withApp(async (app, kid) => {
      await app.get(KeyRotationService).revoke(NOBODY, kid);
      say(app.get(KeysService).signer().kid);
    }),
  },
  'master-key:reseal': {
    summary: 'Seal every secret anew under MASTER_KEY, and tell whether one is left under MASTER_KEY_PREVIOUS.',
    run: withApp(async (app) => {
      const count = await app.get(Resealing).resealAll();
      const { previous } = await app.get(Resealing).count();
      say(`${count} secrets were sealed anew. ${whatIsLeft(previous)}`);
    }),
  },
  backup: {
    summary: 'Write a backup of the database to a new file, or into a folder; the service may run meanwhile.',
    usage: 'FILE_OR_FOLDER',
    runOn: backUp,
  },
  restore: {
    summary: 'Restore a backup into an empty database. Every token from before is dead afterwards.',
    usage: 'FILE [--master-key FILE] [--replace] [--keep-tokens]',
    runOn: restore,
  },
  'restore:end-tokens': {
    summary: 'After another way of restoring: end every token, and say so in each log.',
    run: withApp(async (app) => {
      await app.get(RecoveryService).restart(null);
      say('Every token from before is dead: agents ask for new ones.');
    }),
  },
  'restore:check': {
    summary: 'Name what happened after the backup that was restored, from exports and checkpoints that were kept.',
    usage: 'FILE...',
    runOn: checkRestore,
  },
};

const [first = ''] = process.argv.slice(2);
const own = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
if (own !== undefined && 'runOn' in own) process.exit(await runOwn(first, own, process.argv.slice(3)));

// As they stand, because a `kid` may begin with a dash; `--` before it says the same.
const given = process.argv.slice(3);
const [argument = '', ...excess] = given[0] === '--' ? given.slice(1) : given;
const command = own;
const takesOne = command !== undefined && 'run' in command && command.argument !== undefined;
const isRight = takesOne ? argument !== '' && excess.length === 0 : process.argv.length === 3;
if (command === undefined || !('run' in command) || !isRight) {
  console.error('Usage: npm run cli -- <command>\n');
  for (const [name, each] of Object.entries(COMMANDS)) {
    const more = 'run' in each ? each.argument : each.usage;
    console.error(`  ${(more === undefined ? name : `${name} ${more}`).padEnd(20)}  ${each.summary}`);
  }
  process.exit(64);
}
process.exit(await runCommand(command));

async function runOwn(name: string, { usage, runOn }: OwnCommand, args: readonly string[]): Promise<number> {
  const config = loadConfigOrExit();
  try {
    const exitCode = await runOn(config, args);
    if (exitCode !== null) return exitCode;
    console.error(`Usage: npm run cli -- ${name} ${usage}`);
    return 64;
  } catch (error) {
    const { message, exitCode } = startFailure(error);
    console.error(message);
    return exitCode;
  }
}

async function runCommand({ run }: Command): Promise<number> {
  const config = loadConfigOrExit();
  let database: OpenDatabase | null = null;
  try {
    database = await openDatabase(config, (line) => console.error(line));
    await run(config, database, argument);
    return 0;
  } catch (error) {
    const { message, exitCode } = startFailure(error);
    console.error(message);
    return exitCode;
  } finally {
    await database?.stop();
  }
}

/** Runs a command on the application's own services, without listening. */
function withApp(work: (app: INestApplicationContext, argument: string) => Promise<void>): Command['run'] {
  return async (config, { servingUrl, masterKey, previousMasterKey }, named) => {
    const parts = { config, clock: new SystemClock(), masterKey, previousMasterKey, servingUrl };
    const app = await createApp(parts, 'command');
    try {
      await work(app, named);
    } finally {
      await app.close();
    }
  };
}

import type { INestApplicationContext } from '@nestjs/common';
import { parseArgs } from 'node:util';
import { createApp } from '../app.js';
import { KeysService } from '../keys/keys.service.js';
import type { Config } from '../platform/config/config.js';
import { openDatabase, type OpenDatabase } from '../platform/database/open-database.js';
import { SystemClock } from '../platform/kernel/clock.js';
import { loadConfigOrExit, startFailure } from '../start-up.js';
import { OperatorService } from '../operator/operator.service.js';

/** A command: what it does for people, and how. */
interface Command {
  readonly summary: string;
  readonly run: (config: Config, database: OpenDatabase) => Promise<void>;
}

const say = (line: string): void => console.log(line);

const COMMANDS: Readonly<Record<string, Command>> = {
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
      for (const { kid, purpose, algorithm, phase, createdAt } of await app.get(KeysService).list()) {
        say([kid, purpose, algorithm, phase, createdAt.toISOString()].join('\t'));
      }
    }),
  },
  'keys:rotate-audit': {
    summary: 'Make a new key for audit checkpoints; the old one stays in the JWKS, so that its checkpoints verify.',
    run: withApp(async (app) => say(await app.get(KeysService).rotateAuditKey())),
  },
};

const { positionals, values } = parseArgs({ allowPositionals: true, strict: false });
const [asked = ''] = positionals;
const command = Object.hasOwn(COMMANDS, asked) ? COMMANDS[asked] : undefined;
if (command === undefined || positionals.length > 1 || Object.keys(values).length > 0) {
  console.error('Usage: npm run cli -- <command>\n');
  for (const [name, { summary }] of Object.entries(COMMANDS)) console.error(`  ${name.padEnd(20)}${summary}`);
  process.exit(64);
}
process.exit(await runCommand(command));

async function runCommand({ run }: Command): Promise<number> {
  const config = loadConfigOrExit();
  let database: OpenDatabase | null = null;
  try {
    database = await openDatabase(config, (line) => console.error(line));
    await run(config, database);
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
function withApp(work: (app: INestApplicationContext) => Promise<void>): Command['run'] {
  return async (config, { servingUrl, masterKey }) => {
    const app = await createApp({ config, clock: new SystemClock(), masterKey, servingUrl }, 'load');
    try {
      await work(app);
    } finally {
      await app.close();
    }
  };
}

import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from './app.js';
import { OperatorService, type OperatorCredentials } from './operator/operator.service.js';
import type { Config } from './platform/config/config.js';
import { openDatabase, type OpenDatabase } from './platform/database/open-database.js';
import { Readiness } from './platform/http/readiness.js';
import { SystemClock } from './platform/kernel/clock.js';
import { loadConfigOrExit, startFailure } from './start-up.js';

/** How long draining may take before the process ends all the same, in milliseconds. */
const SHUTDOWN_LIMIT_MS = 10_000;

const say = (line: string): void => console.log(line);

/** Settles when the process is asked to end. From the first signal on, further ones change nothing. */
const askedToEnd = new Promise<void>((resolve) => {
  process.on('SIGINT', () => resolve());
  process.on('SIGTERM', () => resolve());
  // The terminal was closed.
  process.on('SIGHUP', () => resolve());
});

const config = loadConfigOrExit();
let database: OpenDatabase | null = null;
let app: NestFastifyApplication | null = null;
try {
  database = await openDatabase(config, say);
  database.onLost((reason) => {
    console.error(reason.message);
    process.exit(1);
  });
  const { servingUrl, masterKey } = database;
  app = await createApp({ config, clock: new SystemClock(), masterKey, servingUrl });
  // In this order: the secret of an operator is printed once, so nothing may fail between its making and its printing.
  await app.listen({ host: config.http.host, port: config.http.port });
  const operator = await app.get(OperatorService).ensure(config.bootstrap);
  greet(config, await app.getUrl(), operator);
} catch (error) {
  const { message, exitCode } = startFailure(error);
  console.error(`AgentIdP could not start: ${message}`);
  await app?.close().catch(() => undefined);
  await database?.stop();
  process.exit(exitCode);
}
await askedToEnd;
await shutDown(app, database);

async function shutDown(running: NestFastifyApplication, opened: OpenDatabase): Promise<void> {
  say('AgentIdP is shutting down.');
  setTimeout(() => {
    console.error(`AgentIdP did not drain within ${SHUTDOWN_LIMIT_MS / 1000} s.`);
    process.exit(1);
  }, SHUTDOWN_LIMIT_MS).unref();
  running.get(Readiness).drain();
  await running.close();
  await opened.stop();
  process.exit(0);
}

/** Tells where the service listens, and the first operator's secret, this once. */
function greet({ bootstrap, tokens }: Config, url: string, operator: OperatorCredentials | null): void {
  say(`AgentIdP listens on ${url} (issuer ${tokens.issuer}). Its API document is at ${url}/api/docs.`);
  if (operator === null) {
    if (bootstrap !== null) say('An operator exists: BOOTSTRAP_CLIENT_ID and BOOTSTRAP_CLIENT_SECRET are ignored.');
    return;
  }
  const { clientId, clientSecret } = operator;
  if (bootstrap !== null) {
    say(`The first operator agent was made: ${clientId}, with the secret of BOOTSTRAP_CLIENT_SECRET.`);
    return;
  }
  say(`
The first operator agent was made. Its secret is shown this once:

  CLIENT_ID=${clientId}
  CLIENT_SECRET=${clientSecret}

Get a token:

  curl -s -X POST ${url}/api/v1/token -d grant_type=client_credentials -d client_id=${clientId} -d client_secret=${clientSecret}
`);
}

import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from './app.js';
import { OperatorService, type OperatorCredentials } from './operator/operator.service.js';
import type { Config } from './platform/config/config.js';
import type { OpenDatabase } from './platform/database/open-database.js';
import { Farewell } from './platform/http/farewell.js';
import { Readiness } from './platform/http/readiness.js';
import { SystemClock } from './platform/kernel/clock.js';

/** Connections that may wait to be taken: with fewer, a burst of clients would wait for a second and more to connect. */
const BACKLOG = 4096;
/** How long draining may take, after the delay, before the process ends all the same, in milliseconds. */
export const SHUTDOWN_LIMIT_MS = 10_000;

/** Says something to people. */
export const say = (line: string): void => console.log(line);

/** The service, listening. */
export class Service {
  private constructor(
    readonly app: NestFastifyApplication,
    private readonly shutdownDelaySeconds: number,
  ) {}

  /**
   * Builds the application and listens.
   *
   * @param first whether this process makes the first operator where there is none, and greets; of several workers one
   */
  static async start(
    config: Config,
    { servingUrl, masterKey, previousMasterKey }: Pick<OpenDatabase, 'servingUrl' | 'masterKey' | 'previousMasterKey'>,
    first: boolean,
  ): Promise<Service> {
    const app = await createApp({ config, clock: new SystemClock(), masterKey, previousMasterKey, servingUrl });
    try {
      // In this order: the secret of an operator is printed once, so nothing may fail between its making and its
      // printing.
      await app.listen({ host: config.http.host, port: config.http.port, backlog: BACKLOG });
      if (first) greet(config, await app.getUrl(), await app.get(OperatorService).ensure(config.bootstrap));
      return new Service(app, config.http.shutdownDelaySeconds);
    } catch (error) {
      await app.close().catch(() => undefined);
      throw error;
    }
  }

  /**
   * Is not ready from now on, stops taking requests as soon as load balancers may have noticed, and waits until those
   * under way are answered and what is queued is committed.
   *
   * @param signal what asked for it: of Ctrl-C load balancers know nothing
   */
  async drain(signal: NodeJS.Signals): Promise<void> {
    this.app.get(Readiness).drain();
    const noticeMs = signal === 'SIGTERM' ? this.shutdownDelaySeconds * 1000 : 0;
    setTimeout(() => {
      console.error(`AgentIdP did not drain within ${SHUTDOWN_LIMIT_MS / 1000} s.`);
      process.exit(1);
    }, noticeMs + SHUTDOWN_LIMIT_MS).unref();
    await this.app.get(Farewell).untilQuiet(noticeMs);
    await this.app.close();
  }
}

/**
 * Tells where the service listens, and the first operator's secret, this once; in one write, so that whoever reads the
 * first line has the others too.
 */
function greet({ bootstrap, tokens }: Config, url: string, operator: OperatorCredentials | null): void {
  const address = `AgentIdP listens on ${url} (issuer ${tokens.issuer}). Its API document is at ${url}/api/docs.`;
  say([address, ...operatorLines(bootstrap !== null, url, operator)].join('\n'));
}

/** What is to be said of the first operator; `operator` is null where there was one already. */
function operatorLines(isGiven: boolean, url: string, operator: OperatorCredentials | null): string[] {
  if (operator === null) {
    return isGiven ? ['An operator exists: BOOTSTRAP_CLIENT_ID and BOOTSTRAP_CLIENT_SECRET are ignored.'] : [];
  }
  const { clientId, clientSecret } = operator;
  if (isGiven) return [`The first operator agent was made: ${clientId}, with the secret of BOOTSTRAP_CLIENT_SECRET.`];
  return [
    `
The first operator agent was made. Its secret is shown this once:

  CLIENT_ID=${clientId}
  CLIENT_SECRET=${clientSecret}

Get a token:

  curl -s -X POST ${url}/api/v1/token -d grant_type=client_credentials -d client_id=${clientId} -d client_secret=${clientSecret}
`,
  ];
}

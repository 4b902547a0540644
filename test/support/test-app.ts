import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createServer, type AddressInfo } from 'node:net';
import { createApp } from '../../src/app.js';
import { OperatorService } from '../../src/operator/operator.service.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import type { Clock } from '../../src/platform/kernel/clock.js';
import { Api, type ClientCredentials } from './api.js';
import { SettableClock } from './settable-clock.js';
import { createTestDatabase, TEST_MASTER_KEY, type TestDatabase } from './test-database.js';

/** The application on a real port and a real database. */
export interface TestApp {
  readonly app: NestFastifyApplication;
  /** Where it listens; its issuer too, unless the environment names another. */
  readonly url: string;
  readonly issuer: string;
  readonly database: TestDatabase;
  readonly clock: SettableClock;
  /** The first operator; empty strings for a second app on a database that has one. */
  readonly operator: ClientCredentials;
  /** Calls over HTTP. */
  readonly api: Api;
  /** Closes the app, and drops the database where this call made it. */
  close(): Promise<void>;
}

/** What a test may choose. */
export interface TestAppOptions {
  /** The database of another app, for several replicas on one; made anew unless given. */
  readonly database?: TestDatabase;
  readonly clock?: SettableClock;
  /** Variables as the environment would have them. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the application as `main` does, on a free port and a database of its own. */
export async function startTestApp(options: TestAppOptions = {}): Promise<TestApp> {
  const database = options.database ?? (await createTestDatabase());
  const clock = options.clock ?? new SettableClock();
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      return await listen(port, database, clock, options);
    } catch (error) {
      // Somebody else took the port in between.
      const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
      if (!taken || attempt === 5) throw error;
    }
  }
}

async function listen(
  port: number,
  database: TestDatabase,
  clock: SettableClock,
  options: TestAppOptions,
): Promise<TestApp> {
  const url = `http://127.0.0.1:${port}`;
  const config = loadConfig({
    NODE_ENV: 'test',
    LOG_LEVEL: 'silent',
    PORT: String(port),
    ISSUER: url,
    DATABASE_URL: database.servingUrl,
    ...options.env,
  });
  const app = await createApp({
    config,
    clock: clock satisfies Clock,
    masterKey: config.keys.masterKey ?? TEST_MASTER_KEY,
    previousMasterKey: config.keys.previousMasterKey,
    servingUrl: database.servingUrl,
  });
  try {
    const operator = await app.get(OperatorService).ensure(config.bootstrap);
    await app.listen({ host: '127.0.0.1', port });
    return {
      app,
      url,
      issuer: config.tokens.issuer,
      database,
      clock,
      operator: operator ?? { clientId: '', clientSecret: '' },
      api: new Api(url),
      close: async () => {
        await app.close();
        if (options.database === undefined) await database.drop();
      },
    };
  } catch (error) {
    await app.close();
    throw error;
  }
}

/** A port that nobody listens on at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

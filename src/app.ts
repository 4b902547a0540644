import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Logger } from 'nestjs-pino';
import { DataSource } from 'typeorm';
import { AppModule, type AppParts } from './app.module.js';
import { CredentialsService } from './credentials/credentials.service.js';
import { KeyRotationService } from './keys/key-rotation.service.js';
import { KeysService } from './keys/keys.service.js';
import { Backlog } from './platform/database/backlog.js';
import { Resealing } from './platform/database/resealing.js';
import { poolOf } from './platform/database/statement-pool.js';
import { Admission } from './platform/http/admission.js';
import { configureHttp } from './platform/http/configure-http.js';
import { fastifyOptions } from './platform/http/fastify-options.js';
import { Metrics } from './platform/http/metrics.js';
import { VERSION } from './version.js';
import { WebhookDispatcher } from './webhooks/webhook-dispatcher.js';

/** What is served outside the base path: what orchestrators and discovery expect at the root. */
const OUTSIDE_BASE_PATH = ['health/{*path}', 'metrics', '.well-known/{*path}'];

/**
 * The one way to build the application, for the service, the commands and the tests. The schema is migrated before; the
 * signing keys and the secret hasher are prepared here.
 *
 * @param purpose a command takes the signing keys as they are, since only the service makes keys, and runs no timers: what
 *   the service does by itself, such as signing checkpoints or retention, it does not do beside it
 * @returns the application, initialized, not yet listening
 */
export async function createApp(
  parts: AppParts,
  purpose: 'service' | 'command' = 'service',
): Promise<NestFastifyApplication> {
  const { config } = parts;
  const app = await NestFactory.create<NestFastifyApplication>(
    AppModule.forRoot({ ...parts, timers: purpose === 'service' }),
    new FastifyAdapter(fastifyOptions(config.http)),
    // The lines that Nest writes for each module and route while it starts are left out.
    { bodyParser: false, logger: ['fatal', 'error', 'warn'], abortOnError: false },
  );
  app.setGlobalPrefix('api/v1', { exclude: OUTSIDE_BASE_PATH });
  configureHttp(app, { issuer: config.tokens.issuer, version: VERSION });
  app.get(Metrics).observePool(poolOf(app.get(DataSource)));
  const admission = app.get(Admission);
  app.get(Backlog).observeRequests(() => admission.tokenRequests);
  // Not before the service listens: commands build the application too, and deliver nothing.
  app
    .getHttpAdapter()
    .getInstance()
    .addHook('onListen', async () => {
      app.get(WebhookDispatcher).start();
      app.get(Resealing).start();
    });
  await app.init();
  app.useLogger(app.get(Logger));
  try {
    await (purpose === 'service' ? app.get(KeyRotationService).prepare() : app.get(KeysService).load());
    await app.get(CredentialsService).prepare();
    await app.get(Resealing).requireKnown();
    return app;
  } catch (error) {
    // Its timers run already.
    await app.close().catch(() => undefined);
    throw error;
  }
}

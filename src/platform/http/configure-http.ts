import { ModuleRef } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { problems } from '../kernel/problem.js';
import { AllowedMethods } from './allowed-methods.js';
import { registerBodyParsers } from './body-parsers.js';
import { ErrorFilter } from './error.filter.js';
import { Metrics } from './metrics.js';
import { isOAuthPath } from './oauth-path.js';
import { setUpOpenApi, type ApiDescription } from './openapi.js';
import { logRequests, REQUEST_LOG } from './request-logging.js';
import { securityHeaders } from './security-headers.js';
import { managementValidationPipe } from './validation.js';

/**
 * Does everything of this room that is done on the application itself: headers, 404 and 405, body parsers, the error
 * filter, the validation pipe, request metrics, request lines and the API document.
 *
 * @param app made with `bodyParser: false` and an adapter of `fastifyOptions`, not yet initialized; it imports
 *   `HttpModule` and, where requests are to be logged, `loggingModule`
 * @param options the issuer's URL and the product's version
 */
export function configureHttp(app: NestFastifyApplication, options: ApiDescription): void {
  const fastify = app.getHttpAdapter().getInstance();
  answerEarly(fastify, options.issuer);
  registerBodyParsers(app);
  app.get(Metrics).observeRequests(fastify);
  const log = requestLogOf(app);
  if (log !== undefined) logRequests(fastify, log);
  app.useGlobalFilters(new ErrorFilter());
  app.useGlobalPipes(managementValidationPipe());
  setUpOpenApi(app, options);
}

/** Sets the headers of every answer, and refuses before the body is read what no route takes. */
function answerEarly(fastify: FastifyInstance, issuer: string): void {
  const headers = securityHeaders(issuer);
  const methods = new AllowedMethods(fastify);
  fastify.addHook('onRequest', (request, reply, done) => {
    const { url } = request;
    reply.headers(url.startsWith('/api/docs') ? headers.docs : headers.api);
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    if (isOAuthPath(url)) reply.header('pragma', 'no-cache');
    if (request.is404) return done(methods.refusalFor(url));
    // PostgreSQL takes no NUL in a text, and no path or parameter of ours has one.
    if (url.includes('%00')) return done(refusalOfNul(url));
    done();
  });
}

function refusalOfNul(url: string): Error {
  const query = url.indexOf('?');
  const inPath = query === -1 || url.slice(0, query).includes('%00');
  if (inPath) return problems.notFound;
  return problems.validationFailed.withErrors({ pointer: '', detail: 'The query string holds a NUL character.' });
}

function requestLogOf(app: NestFastifyApplication): Logger | undefined {
  // By way of ModuleRef: where `app.get` fails, NestFactory ends the process instead of throwing.
  const modules = app.get(ModuleRef);
  try {
    return modules.get<Logger>(REQUEST_LOG, { strict: false });
  } catch {
    return undefined;
  }
}

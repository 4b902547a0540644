import type { IncomingMessage } from 'node:http';
import { ModuleRef } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { problems } from '../kernel/problem.js';
import { Admission } from './admission.js';
import { AllowedMethods } from './allowed-methods.js';
import { answerInTurn } from './answers-in-turn.js';
import { registerBodyParsers } from './body-parsers.js';
import { ErrorFilter } from './error.filter.js';
import { Farewell } from './farewell.js';
import { Metrics } from './metrics.js';
import { isOAuthPath } from './oauth-path.js';
import { setUpOpenApi, type ApiDescription } from './openapi.js';
import { logRequests, REQUEST_LOG } from './request-logging.js';
import { securityHeaders } from './security-headers.js';
import { answerExpectation } from './transport-errors.js';
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
  answerInTurn(fastify);
  fastify.server.on('checkExpectation', answerExpectation);
  answerEarly(fastify, options.issuer);
  app.get(Farewell).observe(fastify);
  registerBodyParsers(app);
  app.get(Metrics).observeRequests(fastify);
  app.get(Admission).observe(fastify);
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
    if (isAmbiguous(request.raw)) {
      // What follows on the connection may be part of the request, in the eyes of another reader.
      reply.header('connection', 'close');
      return done(ambiguous);
    }
    if (request.is404) return done(methods.refusalFor(url));
    done(url.includes('%') ? refusalOfEscapes(url) : undefined);
  });
}

/** By their lengths, the fields that a request may have once (RFC 9110 §5.3): Node would take the first of several. */
const SINGLE_FIELDS: Readonly<Record<number, string>> = { 4: 'host', 12: 'content-type', 13: 'authorization' };

/** The most header fields: Node drops what is over a thousand in silence, be it what a proxy has added. */
const MAX_FIELDS = 100;

/** A host and a port (RFC 9110 §7.2), or nothing. */
const HOST = /^(?:[\w.~!$&'()*+;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i;

const ambiguous = problems.validationFailed.withDetail(
  `The request can be read in more than one way: it is not HTTP/1.0 or 1.1, has more than ${MAX_FIELDS} header fields, a transfer coding other than chunked, a fragment, no Host or no valid one, or repeats Host, Content-Type or Authorization.`,
);

/** Whether two readers of the request could take it for two different ones. */
function isAmbiguous({ rawHeaders, headers, httpVersion, url = '' }: IncomingMessage): boolean {
  const { host } = headers;
  // HTTP/0.9 has no end of a request, and of a version to come the framing is unknown.
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return true;
  // RFC 9112 §3.2; HTTP/1.0 knows no Host.
  if (host === undefined ? httpVersion === '1.1' : !HOST.test(host)) return true;
  // RFC 9112 §6.1: an HTTP/1.0 message in chunks is one that is not framed; we know no other coding.
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && (httpVersion === '1.0' || coding.toLowerCase() !== 'chunked')) return true;
  // RFC 9112 §3.2: no form of a request's target has one, and who ignores it reads another path.
  if (url.includes('#') || rawHeaders.length > 2 * MAX_FIELDS) return true;
  let found = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    if (SINGLE_FIELDS[name.length] !== name.toLowerCase()) continue;
    const mark = 1 << name.length;
    if ((found & mark) !== 0) return true;
    found |= mark;
  }
  return false;
}

/** Refuses what the router and the query parser leave alone: NUL, which PostgreSQL does not take, and broken escapes. */
function refusalOfEscapes(url: string): Error | undefined {
  const at = url.indexOf('?');
  const [path, query] = at === -1 ? [url, ''] : [url.slice(0, at), url.slice(at)];
  if (path.includes('%00')) return problems.notFound;
  if (query.includes('%00')) return queryFault('The query string holds a NUL character.');
  try {
    decodeURIComponent(query);
    return undefined;
  } catch {
    return queryFault('The query string is not well-formed percent-encoded UTF-8.');
  }
}

function queryFault(detail: string): Error {
  return problems.validationFailed.withErrors({ pointer: '', detail });
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

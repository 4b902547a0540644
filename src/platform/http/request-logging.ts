import cluster from 'node:cluster';
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { DynamicModule } from '@nestjs/common';
import type { FastifyInstance } from 'fastify';
import { LoggerModule } from 'nestjs-pino';
import { destination, levels, pino, type DestinationStream, type Logger, type LoggerOptions } from 'pino';
import type { LogLevel } from '../config/config.js';
import { wasShed } from './admission.js';
import { pathOf } from './oauth-path.js';

/** Injects the pino logger that writes the request lines. */
export const REQUEST_LOG = Symbol('request log');

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** Header fields and members that never reach the log. Without wildcards: pino then only looks where such keys stand. */
const REDACTED = [
  'authorization',
  'cookie',
  'set-cookie',
  'client_secret',
  'client_assertion',
  'password',
  'token',
].flatMap((name) =>
  ['', 'headers', 'req.headers', 'res.headers'].map((parent) =>
    parent === '' ? `["${name}"]` : `${parent}["${name}"]`,
  ),
);

/** Paths that are asked for every few seconds by machines: logged at `debug` only. */
const QUIET_PATHS: ReadonlySet<string> = new Set(['/health/live', '/health/ready', '/metrics']);

/** How many bytes of lines are gathered before they are written; what is written at once may have 16 KiB at most. */
const BUFFER_BYTES = 15_360;
/** Where several workers write to one pipe: less than what it takes in one piece, so that no line is torn. */
const SHARED_BUFFER_BYTES = 3072;
/** How long a line may be gathered, in milliseconds. */
const FLUSH_INTERVAL_MS = 250;
/** From this level on a line is written at once, with all before it. */
const URGENT = levels.values['warn'] ?? 40;

class RequestLogModule {}

/**
 * The logger on the standard output. Lines are written many at a time, because one write a line costs more than
 * the making of the line; warnings and errors at once, the rest within a quarter of a second, and what is left when the
 * process ends.
 */
function standardOutput(options: LoggerOptions): Logger {
  if (options.level === 'silent') return pino(options);
  const minLength = cluster.isWorker ? SHARED_BUFFER_BYTES : BUFFER_BYTES;
  const output = destination({ dest: 1, sync: true, minLength, periodicFlush: FLUSH_INTERVAL_MS });
  process.on('exit', () => output.flushSync());
  const hooks: LoggerOptions['hooks'] = {
    logMethod(line, log, level) {
      log.apply(this, line);
      if (level >= URGENT) output.flushSync();
    },
  };
  return pino({ ...options, hooks }, output);
}

/**
 * The logging of the application: JSON lines by pino, Nest's own logger included (`app.useLogger(app.get(Logger))`
 * with nestjs-pino's `Logger`). pino-http's automatic request logging and its middleware are off: they cost more than
 * the line itself; `logRequests` writes one line a request instead. Bodies are never logged.
 *
 * @param level the lowest level that is written
 * @param lines where the lines go; the standard output unless given
 */
export function loggingModule(level: LogLevel, lines?: DestinationStream): DynamicModule {
  const options = { level, redact: REDACTED, base: null };
  const logger = lines === undefined ? standardOutput(options) : pino(options, lines);
  return {
    module: RequestLogModule,
    global: true,
    imports: [LoggerModule.forRoot({ pinoHttp: { logger, autoLogging: false }, forRoutes: [] })],
    providers: [{ provide: REQUEST_LOG, useValue: logger }],
    exports: [REQUEST_LOG],
  };
}

/**
 * The id of a request: the caller's `X-Request-Id` where it has 1 to 64 characters of `[A-Za-z0-9._-]`, else a fresh
 * UUID. For Fastify's `genReqId`.
 */
export function requestIdOf(request: { readonly headers: IncomingHttpHeaders }): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/**
 * Writes one line for each answered request: id, method, path (never the query string: secrets are put there by
 * mistake), status, milliseconds and the caller's address. At `info`; 5xx at `warn`; health, metrics and what was
 * refused for overload at `debug`.
 */
export function logRequests(fastify: FastifyInstance, logger: Logger): void {
  if (!logger.isLevelEnabled('warn')) return;
  fastify.addHook('onResponse', (request, reply, done) => {
    const path = pathOf(request.url);
    const status = reply.statusCode;
    const level = wasShed(request) ? 'debug' : status >= 500 ? 'warn' : QUIET_PATHS.has(path) ? 'debug' : 'info';
    logger[level](
      {
        reqId: request.id,
        method: request.method,
        path,
        status,
        ms: Math.round(reply.elapsedTime * 10) / 10,
        ip: request.ip,
      },
      'request',
    );
    done();
  });
}

import type { FastifyAdapter } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { HttpConfig } from '../config/config.js';
import { BODY_LIMIT_BYTES } from './body-parsers.js';
import { requestIdOf } from './request-logging.js';
import { answerClientError, answerFrameworkError } from './transport-errors.js';

/** What the constructor of `FastifyAdapter` takes. */
type FastifyAdapterOptions = NonNullable<ConstructorParameters<typeof FastifyAdapter>[0]>;

/** How long a whole request may take to arrive, in milliseconds. */
const REQUEST_TIMEOUT_MS = 30_000;
/** How long the header fields may take to arrive, in milliseconds. */
const HEADERS_TIMEOUT_MS = 15_000;
/** How often it is looked for requests whose time is over, in milliseconds; Node's own half a minute would double it. */
const TIMEOUT_CHECK_MS = 2000;
/** How long a connection may be silent while a request is under way, in milliseconds. */
const CONNECTION_TIMEOUT_MS = 60_000;
/** How long an idle connection is kept, in milliseconds: longer than the 60 s of common load balancers. */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;
/** The longest path parameter, in characters; an id has 36, a key id 43. */
const MAX_PARAM_LENGTH = 128;

/**
 * The options of the Fastify adapter.
 *
 * @param config which proxies are believed
 */
export function fastifyOptions(config: Pick<HttpConfig, 'trustedProxies'>): FastifyAdapterOptions {
  return {
    logger: false,
    // The service has no middleware in the manner of Express: what would run it runs on every request.
    skipMiddie: true,
    genReqId: requestIdOf,
    requestIdHeader: false,
    trustProxy: config.trustedProxies.length === 0 ? false : [...config.trustedProxies],
    bodyLimit: BODY_LIMIT_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // Node would refuse a request without Host by an answer without a body: `configureHttp` does it in our shapes.
    http: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      requireHostHeader: false,
    },
    // While closing, what still arrives on open connections is served; readiness and `Connection: close` send it away.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH, caseSensitive: true, ignoreTrailingSlash: false },
    // The type allows for HTTP/2 servers; this one speaks HTTP/1.1.
    frameworkErrors: (error, request, reply) => {
      answerFrameworkError(error, request as unknown as FastifyRequest, reply as unknown as FastifyReply);
    },
    clientErrorHandler: answerClientError,
  };
}

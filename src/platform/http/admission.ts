import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { OAuthError, oauthErrors } from '../kernel/oauth-error.js';
import { problems } from '../kernel/problem.js';
import { InFlightBound } from './in-flight-bound.js';
import { Metrics } from './metrics.js';
import { isOAuthPath } from './oauth-path.js';

/** Marks what was let in, by when it began. */
const ADMITTED = Symbol('admitted');
/** Marks what was refused. */
const REFUSED = Symbol('refused');

interface MarkedRequest extends FastifyRequest {
  [ADMITTED]?: number | undefined;
  [REFUSED]?: boolean;
}

/** How often refusals are told in the log, in milliseconds. */
const REPORT_EVERY_MS = 1000;

const OAUTH_LIMITS = { start: 256, least: 64, most: 1024 };
/** Those of management differ too much in what they take to be measured by it. */
const MANAGEMENT_LIMITS = { start: 256, least: 256, most: 256 };

/**
 * Lets in as many requests as can be answered soon and refuses the rest at once: 503 with `Retry-After`, before anybody
 * is authenticated and before anything waits. Issuance, questions about tokens, and management are bounded apart, so
 * that none of them takes the room of another. Health, metrics and what is public have no bound.
 */
@Injectable()
export class Admission implements OnApplicationShutdown {
  private readonly logger = new Logger('Overload');
  private readonly tokens = new InFlightBound('tokens', OAUTH_LIMITS);
  private readonly introspection = new InFlightBound('introspection', OAUTH_LIMITS);
  private readonly management = new InFlightBound('management', MANAGEMENT_LIMITS);
  private readonly bounds = [this.tokens, this.introspection, this.management];
  private unreported = 0;
  private reportAt: NodeJS.Timeout | null = null;

  constructor(private readonly metrics: Metrics) {
    for (const bound of this.bounds) metrics.observeBound(bound);
  }

  /** Whether requests are refused at the moment, or were within the last second. */
  get isOverloaded(): boolean {
    return this.bounds.some((bound) => bound.isOverloaded);
  }

  /** How many requests for a token are under way. */
  get tokenRequests(): number {
    return this.tokens.inFlight;
  }

  /** Watches over the routes that are added from now on. */
  observe(fastify: FastifyInstance): void {
    fastify.decorateRequest(ADMITTED, undefined);
    fastify.decorateRequest(REFUSED, false);
    fastify.addHook('onRoute', (route) => {
      const bound = this.boundOf(route.url);
      if (bound === null) return;
      // Early what cannot be let in anyway; counted only once the body is there, or slow senders would take the room.
      route.onRequest = [
        ...hooksOf(route.onRequest),
        (request, reply, done) => this.refuseOver(bound, request, reply, done),
      ];
      route.preValidation = [
        ...hooksOf(route.preValidation),
        (request, reply, done) => {
          this.refuseOver(bound, request, reply, () => {
            (request as MarkedRequest)[ADMITTED] = bound.enter();
            done();
          });
        },
      ];
      // The answer is made: also where nobody is there any more to take it.
      route.onSend = [
        ...hooksOf(route.onSend),
        (request, _reply, payload, done) => {
          const beganMs = (request as MarkedRequest)[ADMITTED];
          if (beganMs !== undefined) {
            (request as MarkedRequest)[ADMITTED] = undefined;
            bound.leave(beganMs);
          }
          done(null, payload);
        },
      ];
    });
  }

  /** Ends the reports. */
  onApplicationShutdown(): void {
    if (this.reportAt !== null) clearTimeout(this.reportAt);
  }

  private boundOf(url: string): InFlightBound | null {
    if (url === '/api/v1/token') return this.tokens;
    if (url.startsWith('/api/v1/token/')) return this.introspection;
    return url.startsWith('/api/v1/') ? this.management : null;
  }

  private refuseOver(bound: InFlightBound, request: FastifyRequest, reply: FastifyReply, goOn: () => void): void {
    if (!bound.refuses()) return goOn();
    (request as MarkedRequest)[REFUSED] = true;
    this.metrics.requestShed(bound.name);
    this.report();
    const { type, body } = isOAuthPath(request.url) ? OAUTH_REFUSAL : REFUSAL;
    reply.code(503).header('retry-after', '1').header('content-type', type);
    void reply.send(body);
  }

  /** One line a second, however many were refused: lines would cost more than the refusals. */
  private report(): void {
    this.unreported += 1;
    this.reportAt ??= setTimeout(() => {
      this.logger.warn(`overloaded: ${this.unreported} requests were refused within a second`);
      this.unreported = 0;
      this.reportAt = null;
    }, REPORT_EVERY_MS).unref();
  }
}

/** Whether a request was refused for overload: its line in the log is not worth what it costs. */
export function wasShed(request: FastifyRequest): boolean {
  return (request as MarkedRequest)[REFUSED] === true;
}

const OAUTH_REFUSAL = refusal(oauthErrors.temporarilyUnavailable);
const REFUSAL = refusal(problems.unavailable);

/** Rendered once. As bytes: to a string Fastify would add a charset. */
function refusal(error: OAuthError | typeof problems.unavailable): { type: string; body: Buffer } {
  return {
    type: error instanceof OAuthError ? 'application/json' : 'application/problem+json',
    body: Buffer.from(JSON.stringify(error.toBody())),
  };
}

function hooksOf<Hook>(hooks: Hook | Hook[] | undefined): Hook[] {
  if (hooks === undefined) return [];
  return Array.isArray(hooks) ? hooks : [hooks];
}

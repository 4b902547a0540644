import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { FastifyInstance } from 'fastify';
import { Counter, Gauge, Histogram, Registry, type MetricObject } from 'prom-client';
import type { MetricsExchange } from '../workers/metrics-exchange.js';
import { measureRuntime } from './runtime-metrics.js';
import { SeriesHistogram, type Series } from './series-histogram.js';

const PREFIX = 'agentidp_';

/** Why a token was refused: the label of a counter, so a fixed list. */
export type TokenRefusalReason =
  | 'invalid_request'
  | 'unsupported_grant_type'
  | 'invalid_client'
  | 'invalid_scope'
  | 'invalid_target'
  | 'agent_suspended'
  | 'organization_suspended'
  | 'quota_reached'
  | 'throttled'
  | 'unavailable'
  | 'server_error';

/** How a client tried to authenticate itself: the label of a counter, so a fixed list. */
export type ClientAuthenticationMethod =
  'none' | 'client_secret_basic' | 'client_secret_post' | 'private_key_jwt' | 'federated_assertion';

/** What `Metrics` asks of a connection pool; `pg.Pool` has it. */
export interface ObservedPool {
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
}

/** What `Metrics` asks of a bound of requests under way. */
export interface ObservedBound {
  readonly name: string;
  readonly inFlight: number;
  readonly limit: number;
}

/** Upper bounds in seconds. */
const TIME_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Upper bounds in entries. */
const SIZE_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/** By the first digit of a status. */
const STATUS_CLASSES = ['other', '1xx', '2xx', '3xx', '4xx', '5xx'];

const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** The metrics of one application, in the Prometheus text format. Labels are fixed lists or route patterns. */
@Injectable()
export class Metrics implements OnApplicationShutdown {
  private readonly registry = new Registry();
  private readonly queues = new Map<string, () => number>();
  private readonly bounds: ObservedBound[] = [];
  private pool: ObservedPool | undefined;
  private exchange: MetricsExchange | null = null;
  private readonly stopRuntime = measureRuntime(this.registry, PREFIX);

  private readonly issued = this.counter('tokens_issued_total', 'Access tokens issued.');
  private readonly refused = this.counter('token_refusals_total', 'Token requests refused.', 'reason');
  private readonly introspections = this.counter('introspections_total', 'Introspections answered.', 'result');
  private readonly revocations = this.counter('revocations_total', 'Tokens revoked one by one.');
  private readonly failedAuthentications = this.counter(
    'client_authentication_failures_total',
    'Failed client authentications.',
    'method',
  );
  private readonly heldBack = this.counter(
    'client_authentications_held_back_total',
    'Client authentications refused after too many failures.',
  );
  private readonly flushSize = this.histogram('flush_size', 'Entries in one flush.', ['queue'], SIZE_BUCKETS);
  private readonly flushSeconds = this.histogram('flush_seconds', 'Duration of one flush.', ['queue'], TIME_BUCKETS);
  private readonly webhookSeconds = this.histogram(
    'webhook_attempt_seconds',
    'Duration of attempts to deliver a webhook.',
    ['outcome'],
    TIME_BUCKETS,
  );
  private readonly shed = this.counter('requests_shed_total', 'Requests refused for overload.', 'kind');
  private readonly keyFetches = this.counter(
    'federation_key_fetches_total',
    'Fetches of the keys of federation partners.',
    'outcome',
  );
  private readonly requestSeconds = new SeriesHistogram(
    this.registry,
    `${PREFIX}http_request_duration_seconds`,
    'Duration of HTTP requests.',
    TIME_BUCKETS,
  );
  /** By method, route and status: all of fixed lists, so there are a few hundred at most. */
  private readonly requestSeries = new Map<string, Map<string, Series>>();

  constructor() {
    // Shown before the first fetch, so that an alert on failures has something to look at.
    for (const outcome of ['fetched', 'failed'] as const) this.keyFetches.inc({ outcome }, 0);
    const { queues } = this;
    new Gauge({
      name: `${PREFIX}queue_depth`,
      help: 'Entries that wait in a queue.',
      labelNames: ['queue'] as const,
      registers: [this.registry],
      collect() {
        for (const [queue, depth] of queues) this.set({ queue }, depth());
      },
    });
    this.gaugeOfBounds('requests_in_flight', 'Requests under way.', ({ inFlight }) => inFlight);
    this.gaugeOfBounds('requests_in_flight_limit', 'Requests that may be under way.', ({ limit }) => limit);
    const pool = () => this.pool;
    new Gauge({
      name: `${PREFIX}pg_pool_connections`,
      help: 'Connections of the database pool, and requests that wait for one.',
      labelNames: ['state'] as const,
      registers: [this.registry],
      collect() {
        const counts = pool();
        if (counts === undefined) return;
        this.set({ state: 'total' }, counts.totalCount);
        this.set({ state: 'idle' }, counts.idleCount);
        this.set({ state: 'waiting' }, counts.waitingCount);
      },
    });
  }

  /** Counts `count` issued access tokens. */
  tokensIssued(count = 1): void {
    this.issued.inc(count);
  }

  /** Counts a refused token request. */
  tokenRefused(reason: TokenRefusalReason): void {
    this.refused.inc({ reason });
  }

  /** Counts an answered introspection. */
  introspected(active: boolean): void {
    this.introspections.inc({ result: active ? 'active' : 'inactive' });
  }

  /** Counts the revocation of one token. */
  revoked(): void {
    this.revocations.inc();
  }

  /** Counts a failed client authentication. */
  clientAuthenticationFailed(method: ClientAuthenticationMethod): void {
    this.failedAuthentications.inc({ method });
  }

  /** Counts a client authentication that had to wait. */
  clientAuthenticationHeldBack(): void {
    this.heldBack.inc();
  }

  /** Records an attempt to deliver a webhook. */
  webhookAttempted(outcome: 'delivered' | 'failed' | 'gone', seconds: number): void {
    this.webhookSeconds.observe({ outcome }, seconds);
  }

  /** Counts a fetch of a federation partner's keys. */
  partnerKeysFetched(outcome: 'fetched' | 'failed'): void {
    this.keyFetches.inc({ outcome });
  }

  /** Counts a request that was refused for overload. */
  requestShed(kind: string): void {
    this.shed.inc({ kind });
  }

  /** Reports how many requests of a kind are and may be under way at every collection. */
  observeBound(bound: ObservedBound): void {
    this.bounds.push(bound);
    this.shed.inc({ kind: bound.name }, 0);
  }

  /**
   * Records one flush of a queue.
   *
   * @param queue the name of the queue, one of a fixed few
   * @param size how many entries were flushed
   * @param seconds how long it took
   */
  flushed(queue: string, size: number, seconds: number): void {
    this.flushSize.observe({ queue }, size);
    this.flushSeconds.observe({ queue }, seconds);
  }

  /** Reports `depth()`, the number of waiting entries, as the depth of the queue `name` at every collection. */
  observeQueue(name: string, depth: () => number): void {
    this.queues.set(name, depth);
  }

  /** Reports the connections of `pool` at every collection. */
  observePool(pool: ObservedPool): void {
    this.pool = pool;
  }

  /** Records the duration of every answered request by method, route pattern and status class. */
  observeRequests(fastify: FastifyInstance): void {
    fastify.addHook('onResponse', (request, reply, done) => {
      const route = request.is404 ? 'unmatched' : (request.routeOptions.url ?? 'unmatched');
      this.seriesOf(route, request.method, reply.statusCode).observe(reply.elapsedTime / 1000);
      done();
    });
  }

  private seriesOf(route: string, requestMethod: string, statusCode: number): Series {
    let ofRoute = this.requestSeries.get(route);
    if (ofRoute === undefined) this.requestSeries.set(route, (ofRoute = new Map<string, Series>()));
    const method = METHODS.has(requestMethod) ? requestMethod : 'other';
    const status = STATUS_CLASSES[Math.floor(statusCode / 100)] ?? 'other';
    const key = method + status;
    let series = ofRoute.get(key);
    if (series === undefined) ofRoute.set(key, (series = this.requestSeconds.with({ method, route, status })));
    return series;
  }

  /** All metrics in the Prometheus text format; of several workers those of all of them, added up. */
  async render(): Promise<string> {
    return this.exchange === null ? this.registry.metrics() : this.exchange.render();
  }

  /** The metrics of this process. */
  own(): Promise<MetricObject[]> {
    return this.registry.getMetricsAsJSON();
  }

  /** From now on `render` answers for all workers. */
  answerForAll(exchange: MetricsExchange): void {
    this.exchange = exchange;
  }

  /** Stops measuring and forgets everything. */
  onApplicationShutdown(): void {
    this.stopRuntime();
    this.queues.clear();
    this.requestSeries.clear();
    this.pool = undefined;
    this.registry.clear();
  }

  private gaugeOfBounds(name: string, help: string, value: (bound: ObservedBound) => number): void {
    const { bounds } = this;
    new Gauge({
      name: PREFIX + name,
      help,
      labelNames: ['kind'] as const,
      registers: [this.registry],
      collect() {
        for (const bound of bounds) this.set({ kind: bound.name }, value(bound));
      },
    });
  }

  private counter<Label extends string = never>(name: string, help: string, ...labelNames: Label[]): Counter<Label> {
    return new Counter({ name: PREFIX + name, help, labelNames, registers: [this.registry] });
  }

  private histogram<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    buckets: number[],
  ): Histogram<Label> {
    return new Histogram({ name: PREFIX + name, help, labelNames, buckets, registers: [this.registry] });
  }
}

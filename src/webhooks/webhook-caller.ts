import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { KeyObject } from 'node:crypto';
import { Config } from '../platform/config/config.js';
import { Metrics } from '../platform/http/metrics.js';
import { Clock } from '../platform/kernel/clock.js';
import { GuardedClient, type OutboundAnswer } from '../platform/outbound/guarded-client.js';
import { OutboundError } from '../platform/outbound/outbound-error.js';
import type { DeliveryAttempt } from './delivery.entity.js';
import { retryAfterMs } from './retry-schedule.js';
import { signedHeaders } from './signing-secret.js';

/** For a whole attempt, in milliseconds. */
const TIMEOUT_MS = 10_000;
/** Bytes of an answer that are read; the connection of one that is longer is closed. */
const MAX_ANSWER_BYTES = 65_536;
/** Bytes of an answer that the history keeps. */
const KEPT_ANSWER_BYTES = 1024;

/** A message that is to be handed over. */
export interface Message {
  readonly url: string;
  /** The present key first. */
  readonly keys: readonly KeyObject[];
  readonly messageId: string;
  readonly body: string;
}

/** How an attempt went. */
export interface AttemptResult {
  readonly attempt: DeliveryAttempt;
  readonly outcome: 'delivered' | 'failed' | 'gone';
  /** How long the receiver asked to be left alone, in milliseconds. */
  readonly retryAfterMs: number | null;
}

/** Hands messages over: one signed POST an attempt. */
@Injectable()
export class WebhookCaller implements OnApplicationShutdown {
  private readonly client: GuardedClient;

  constructor(
    config: Config,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
  ) {
    this.client = new GuardedClient({
      allowedNetworks: config.outbound.webhookAllowedNetworks,
      plainHttp: config.environment !== 'production',
    });
  }

  /** What is wrong with a URL as a destination; null where nothing is. */
  fault(url: string): string | null {
    return this.client.fault(url);
  }

  /**
   * Makes one attempt.
   *
   * @param signal gives the attempt up
   * @returns how it went; null where it was given up
   */
  async attempt({ url, keys, messageId, body }: Message, signal: AbortSignal): Promise<AttemptResult | null> {
    const startedMs = this.clock.nowMs();
    const started = performance.now();
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'SentryAgent-Webhooks/1.0',
      ...signedHeaders(keys, messageId, Math.floor(startedMs / 1000), body),
    };
    const limits = { timeoutMs: TIMEOUT_MS, maxBytes: MAX_ANSWER_BYTES };
    let answer: OutboundAnswer | null = null;
    let error: string | null = null;
    try {
      answer = await this.client.call({ method: 'POST', url, headers, body, signal, ...limits });
      if (!isSuccess(answer.status)) error = `the receiver answered ${answer.status}`;
    } catch (failure) {
      if (!(failure instanceof OutboundError)) throw failure;
      if (failure.failure === 'aborted') return null;
      error = failure.message;
    }
    const seconds = (performance.now() - started) / 1000;
    const outcome = error === null ? 'delivered' : answer?.status === 410 ? 'gone' : 'failed';
    this.metrics.webhookAttempted(outcome, seconds);
    return {
      attempt: {
        at: new Date(startedMs).toISOString(),
        durationMs: Math.round(seconds * 1000),
        statusCode: answer?.status ?? null,
        error,
        answer: answer === null ? null : beginningOf(answer.body),
      },
      outcome,
      retryAfterMs: retryAfterMs(answer?.headers['retry-after'], this.clock.nowMs()),
    };
  }

  /** Closes the connections that are kept. */
  onApplicationShutdown(): void {
    this.client.close();
  }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** The first KiB as text; what PostgreSQL cannot keep in JSON is replaced. */
function beginningOf(body: Buffer): string {
  return body.subarray(0, KEPT_ANSWER_BYTES).toString('utf8').replaceAll('\0', '\ufffd');
}

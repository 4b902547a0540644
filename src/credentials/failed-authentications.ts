import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { LRUCache } from 'lru-cache';
import { Config, type FailureLimits } from '../platform/config/config.js';
import { GroupCommit } from '../platform/database/group-commit.js';
import { Metrics } from '../platform/http/metrics.js';
import { Clock } from '../platform/kernel/clock.js';
import { oauthErrors } from '../platform/kernel/oauth-error.js';
import type { RequestOrigin } from '../platform/kernel/principal.js';
import { sourceNetwork } from '../platform/kernel/source-network.js';
import { isUuid } from '../platform/kernel/uuid.js';
import {
  FailedAuthenticationsRepository,
  type Failure,
  type Source,
  type Waits,
} from './failed-authentications.repository.js';

/** How long a failure counts, in milliseconds; the SQL has the same minute. */
const WINDOW_MS = 60_000;
/** How often old failures are deleted, in milliseconds. */
const CLEANING_INTERVAL_MS = 10_000;
const CLEANING_BATCH = 1000;
const CLEANING_MAX_BATCHES = 100;
const RECORD_LIMITS = { maxQueue: 2000, maxBatch: 200 };
/** Sources and networks that this replica remembers; of what it forgets the database still knows. */
const MAX_REMEMBERED = 20_000;
/** Stands for every client_id that is no UUID: no agent has it. */
const NO_UUID = '00000000-0000-0000-0000-000000000000';

/** What this replica knows of a source beside what the database says. */
interface Memory {
  /** Its latest failures, oldest first: no more than the limit. */
  failedAtMs: number[];
  waitsUntilMs: number;
}

/**
 * Slows down whoever guesses secrets. Failures are counted for client and network together; at the limit within a
 * minute that source waits, whatever it shows. At a higher limit over all clients of a network, its unknown clients and
 * its clients that failed wait. A client that never failed is held back by nobody.
 *
 * The database has the count of all replicas: it is read with the client and written before a failure is answered.
 * A replica adds what it has seen fail and not read back yet, so that guesses that come together are not all tried: no
 * more than the limit of each replica. Tries that had to wait are neither tried nor counted, so nobody waits for longer
 * than a minute.
 */
@Injectable()
export class FailedAuthentications implements OnApplicationShutdown {
  private readonly logger = new Logger(FailedAuthentications.name);
  private readonly limits: FailureLimits;
  private readonly recording: GroupCommit<Failure, Waits>;
  private readonly sources = new LRUCache<string, Memory>({ max: MAX_REMEMBERED });
  private readonly networks = new LRUCache<string, number>({ max: MAX_REMEMBERED });

  constructor(
    private readonly repository: FailedAuthenticationsRepository,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    config: Config,
  ) {
    this.limits = config.abuse.failures;
    this.recording = new GroupCommit(
      'authentication_failures',
      RECORD_LIMITS,
      (failures) => this.repository.record(failures, this.limits),
      ({ network }) => network,
      (size, seconds) => metrics.flushed('authentication_failures', size, seconds),
    );
    metrics.observeQueue('authentication_failures', () => this.recording.depth);
  }

  /** The source that a try is counted under. */
  sourceOf(clientId: string, origin: RequestOrigin): Source {
    return {
      clientId: isUuid(clientId) ? clientId.toLowerCase() : NO_UUID,
      network: sourceNetwork(origin.ip),
    };
  }

  /**
   * Refuses a try that has to wait: to be called before the client is looked up, and again with what was read, in the
   * very turn of the event loop in which the secret is compared.
   *
   * @param readWait until when it has to wait as the database has it
   * @throws OAuthError `temporarily_unavailable` (429) with `Retry-After`
   */
  refuseWhileWaiting(source: Source, readWait: Date | null = null): void {
    const memory = this.sources.get(keyOf(source));
    const oldestMs = memory?.failedAtMs.at(-this.limits.perClient);
    this.refuseUntil(
      Math.max(readWait?.getTime() ?? 0, memory?.waitsUntilMs ?? 0, oldestMs === undefined ? 0 : oldestMs + WINDOW_MS),
    );
  }

  /**
   * Counts a failure.
   *
   * @param known whether there is such a client
   * @param audited settles once the failure is in the audit log; where its network waits nobody waits for that, so that
   *   known and unknown clients are told apart by nothing
   * @throws OAuthError `temporarily_unavailable` (429) where the try should have waited
   */
  async record(source: Source, known: boolean, audited: Promise<void>): Promise<void> {
    const nowMs = this.clock.nowMs();
    this.remember(source, nowMs);
    const networkWaitsUntilMs = this.networks.get(source.network) ?? 0;
    if (networkWaitsUntilMs > nowMs) {
      const written = known ? Promise.all([this.commit(source, known, nowMs), audited]) : audited;
      written.catch((error: unknown) => this.logger.warn(`could not record a failure: ${String(error)}`));
      this.refuseUntil(networkWaitsUntilMs);
      return;
    }
    const [waits] = await Promise.all([this.commit(source, known, nowMs), audited]);
    this.refuseUntil(Math.max(waits.client?.getTime() ?? 0, waits.network?.getTime() ?? 0));
  }

  /** Deletes failures that count no longer, with a margin for replicas whose clocks lag behind. */
  @Interval(CLEANING_INTERVAL_MS)
  async clean(): Promise<void> {
    const before = new Date(this.clock.nowMs() - 2 * WINDOW_MS);
    try {
      for (let batch = 0; batch < CLEANING_MAX_BATCHES; batch += 1) {
        if ((await this.repository.deleteBefore(before, CLEANING_BATCH)) < CLEANING_BATCH) return;
      }
    } catch (error) {
      this.logger.warn(`could not delete old failures: ${String(error)}`);
    }
  }

  /** Ends the counting once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.recording.drain();
  }

  private async commit(source: Source, known: boolean, nowMs: number): Promise<Waits> {
    const waits = await this.recording.commit({ ...source, known, failedAt: new Date(nowMs) });
    const memory = this.sources.get(keyOf(source));
    if (waits.client !== null && memory !== undefined) memory.waitsUntilMs = waits.client.getTime();
    if (waits.network !== null) this.networks.set(source.network, waits.network.getTime());
    return waits;
  }

  private remember(source: Source, nowMs: number): void {
    const key = keyOf(source);
    const memory = this.sources.get(key) ?? { failedAtMs: [], waitsUntilMs: 0 };
    memory.failedAtMs = [...memory.failedAtMs, nowMs].slice(-this.limits.perClient);
    this.sources.set(key, memory);
  }

  /** An instant that lies further ahead than a minute is from before the clock was set back: it holds no longer. */
  private refuseUntil(untilMs: number): void {
    const waitMs = untilMs - this.clock.nowMs();
    if (waitMs <= 0 || waitMs > WINDOW_MS + 5000) return;
    this.metrics.clientAuthenticationHeldBack();
    throw oauthErrors.tooManyFailures.withHeaders({ 'Retry-After': String(Math.ceil(waitMs / 1000)) });
  }
}

function keyOf({ clientId, network }: Source): string {
  return clientId + network;
}

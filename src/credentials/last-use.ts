import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { Clock } from '../platform/kernel/clock.js';
import { CredentialsRepository, type CredentialUse } from './credentials.repository.js';

/** How old a stored last use may be before a newer one is written, in milliseconds. */
const GRANULARITY_MS = 60_000;
/** How often uses are written, in milliseconds. */
const WRITE_INTERVAL_MS = 1000;
/** Uses that may wait; more are dropped, and noted with the credential's next use. */
const MAX_WAITING = 10_000;

/**
 * Keeps `lastUsedAt` without a write on every request: a use is noted in memory where the stored one is more than a
 * minute old, and what was noted is written once a second in one statement.
 */
@Injectable()
export class LastUse implements OnApplicationShutdown {
  private readonly logger = new Logger(LastUse.name);
  private waiting = new Map<string, CredentialUse>();

  constructor(
    private readonly repository: CredentialsRepository,
    private readonly clock: Clock,
  ) {}

  /** Notes that a credential was used now, given when it was last used as stored. */
  note(credential: Omit<CredentialUse, 'usedAt'>, stored: Date | null): void {
    const nowMs = this.clock.nowMs();
    if (stored !== null && nowMs - stored.getTime() < GRANULARITY_MS) return;
    if (this.waiting.size >= MAX_WAITING && !this.waiting.has(credential.credentialId)) return;
    this.waiting.set(credential.credentialId, { ...credential, usedAt: new Date(nowMs) });
  }

  /** Writes what was noted. A failed write loses nothing but exactness: the next use is noted again. */
  @Interval(WRITE_INTERVAL_MS)
  async write(): Promise<void> {
    if (this.waiting.size === 0) return;
    const uses = [...this.waiting.values()];
    this.waiting = new Map();
    try {
      await this.repository.recordUses(uses);
    } catch (error) {
      this.logger.warn(`could not write ${uses.length} last uses: ${String(error)}`);
    }
  }

  /** Writes what is left once the server has answered its last request. */
  onApplicationShutdown(): Promise<void> {
    return this.write();
  }
}

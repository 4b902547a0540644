import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { KeyRing } from './key-ring.js';
import { KeyRotationService } from './key-rotation.service.js';
import { KeysRepository } from './keys.repository.js';

/** How soon a replica knows of a key that is published ahead, whether or not it is asked for anything. */
const POLL_MS = 500;
/** How soon a step is taken once it is due. */
const ADVANCE_MS = 5000;

/** Keeps a replica that serves up with the keys, and takes the steps that are due. Every replica runs one. */
@Injectable()
export class KeySchedule implements BeforeApplicationShutdown {
  private readonly logger = new Logger(KeySchedule.name);
  private readonly running = new Map<string, Promise<void>>();
  private closed = false;

  constructor(
    private readonly repository: KeysRepository,
    private readonly ring: KeyRing,
    private readonly rotation: KeyRotationService,
  ) {}

  /** Loads the keys anew where they have changed. */
  @Interval(POLL_MS)
  poll(): Promise<void> {
    return this.run('know whether the signing keys have changed', async () =>
      this.ring.turnTo(await this.repository.version()),
    );
  }

  /** Takes the steps that are due. */
  @Interval(ADVANCE_MS)
  advance(): Promise<void> {
    return this.run('look after the signing keys', () => this.rotation.advance());
  }

  /** Waits for what is under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    await Promise.all(this.running.values());
  }

  /** Runs a round, unless the one of the same name before it is still under way. */
  private async run(what: string, work: () => Promise<void>): Promise<void> {
    if (this.closed || !this.ring.serving || this.running.has(what)) return;
    const round = work().catch((error: unknown) => {
      if (!this.closed) this.logger.warn(`could not ${what}: ${String(error)}`);
    });
    this.running.set(what, round);
    await round;
    this.running.delete(what);
  }
}

import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { AuditService } from '../audit/audit.service.js';
import { SystemClock } from '../platform/kernel/clock.js';
import { CheckpointFollower } from './checkpoint-follower.js';
import { ChainBroken, type CheckpointsService } from './checkpoints.service.js';
import { DueChains } from './due-chains.js';
import type { DueChainsRepository } from './due-chains.repository.js';

const CHAINS = 30_000;
const MOST = 10_000;

const idOf = (number: number): string => `${String(number).padStart(8, '0')}-0000-4000-8000-000000000000`;
const idsFrom = (from: number, count: number): string[] => Array.from({ length: count }, (_, n) => idOf(from + n));

/** A follower of chains that all want a checkpoint; none is made before `release`. */
class ManyChains {
  readonly all = idsFrom(0, CHAINS);
  readonly waiting = new Set(this.all);
  written = new Map<string, number>();
  release = (): void => undefined;
  /** Chains over which nothing is signed, and how often each was tried. */
  readonly broken = new Set<string>();
  readonly tries = new Map<string, number>();
  readonly follower: CheckpointFollower;

  constructor() {
    const released = new Promise<void>((resolve) => (this.release = resolve));
    const due = (ids: readonly string[]) =>
      ids.filter((id) => this.waiting.has(id)).map((organizationId) => ({ organizationId, checkpointSequence: 0 }));
    const repository = {
      pageEnd: (after: string, limit: number) =>
        Promise.resolve(this.all.filter((id) => id > after)[limit - 1] ?? null),
      waiting: (ids: readonly string[]) => Promise.resolve(due(ids).map((chain) => ({ ...chain, sequence: 900 }))),
      // In no order, as the database gives them.
      due: (after: string, end: string) =>
        Promise.resolve(due(this.all.filter((id) => id > after && id <= end)).reverse()),
    } as unknown as DueChainsRepository;
    const audit = {
      takeWritten: () => {
        const { written } = this;
        this.written = new Map();
        return written;
      },
    } as unknown as AuditService;
    const checkpoints = {
      follow: async (id: string) => {
        this.tries.set(id, (this.tries.get(id) ?? 0) + 1);
        if (this.broken.has(id)) throw new ChainBroken(id, 1);
        await released;
        this.waiting.delete(id);
        return true;
      },
    } as unknown as CheckpointsService;
    this.follower = new CheckpointFollower(new DueChains(repository, audit, new SystemClock()), checkpoints);
  }

  write(ids: readonly string[]): void {
    this.written = new Map(ids.map((id) => [id, 60]));
  }

  async poll(times: number): Promise<void> {
    for (let time = 0; time < times; time += 1) await this.follower.poll();
  }

  /** How many have got one. */
  get done(): number {
    return CHAINS - this.waiting.size;
  }
}

describe('the chains that wait for a checkpoint', () => {
  it.each(['busy', 'found by the pass'])(
    'are never more than ten thousand, and none is forgotten (%s)',
    async (how) => {
      const chains = new ManyChains();
      for (let from = 0; from < CHAINS; from += MOST) {
        if (how === 'busy') chains.write(idsFrom(from, MOST));
        await chains.poll(20);
      }
      chains.release();
      await chains.follower.settled();
      expect(chains.done).toBeGreaterThanOrEqual(MOST - 1000);
      expect(chains.done).toBeLessThanOrEqual(MOST);
      for (let pass = 0; pass < 3; pass += 1) {
        await chains.poll(4 * 8);
        await chains.follower.settled();
      }
      expect(chains.done).toBe(CHAINS);
    },
  );

  it('are looked at when there is room again, without a pass', async () => {
    const chains = new ManyChains();
    chains.write(idsFrom(0, MOST));
    await chains.poll(1);
    chains.write(idsFrom(MOST, MOST));
    await chains.poll(1);
    chains.release();
    await chains.follower.settled();
    expect(chains.done).toBe(MOST);
    await chains.poll(1);
    await chains.follower.settled();
    expect(chains.done).toBe(2 * MOST);
  });

  it('leave room for a busy one, however many the pass has found', async () => {
    const chains = new ManyChains();
    await chains.poll(40);
    const busy = idOf(CHAINS - 1);
    chains.write([busy]);
    await chains.poll(1);
    chains.release();
    await chains.follower.settled();
    expect([chains.done, chains.waiting.has(busy)]).toEqual([MOST - 1000 + 1, false]);
  });
});

describe('the chains that are broken', () => {
  beforeEach(() => {
    Logger.overrideLogger(false);
  });
  afterEach(() => {
    Logger.overrideLogger(['log', 'error', 'warn', 'debug', 'verbose', 'fatal']);
  });

  it('are left alone, ten thousand of them; of more, the one that has been longest is tried again', async () => {
    const chains = new ManyChains();
    const [first = '', ...others] = idsFrom(0, MOST);
    const one = idOf(MOST);
    for (const id of [first, ...others, one]) chains.broken.add(id);
    const fail = async (ids: readonly string[]) => {
      chains.write(ids);
      await chains.poll(1);
      await chains.follower.settled();
    };
    await fail([first]);
    await fail(others);
    await fail([first]);
    expect([chains.tries.size, chains.tries.get(first)]).toEqual([MOST, 1]);
    await fail([one]);
    await fail([first]);
    expect([chains.tries.get(one), chains.tries.get(first)]).toEqual([1, 2]);
  });
});

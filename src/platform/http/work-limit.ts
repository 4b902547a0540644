import { Problem, problems } from '../kernel/problem.js';

const tooManyOfOne = new Problem('rate_limited', {
  detail: 'The organization has as many of these requests under way as it may.',
  headers: { 'Retry-After': '5' },
});

/** How many may wait for their turn: of one organization, and in all. Whoever comes then is refused at once. */
const WAITING = { each: 10, all: 100 };

/** Begins what waits, or refuses it where there is no room; takes it from those that wait. */
type Settle = () => void;

/**
 * How much long work is under way at one time: so many for one organization, so many in all. Over it is refused, at once
 * or after waiting in vain for a turn. Organizations have their turns in rotation, and each its work in the order in which
 * it was asked for, so that whoever asks for much waits behind nobody but themselves.
 */
export class WorkLimit {
  private readonly underWay = new Map<string, number>();
  /** Of each organization what waits; the one whose turn is next comes first. */
  private readonly waiting = new Map<string, Set<Settle>>();
  private total = 0;

  /**
   * @param each the most for one organization
   * @param all the most in all
   * @param patienceMs how long work that is handed to `run` waits for its turn, in milliseconds
   */
  constructor(
    private readonly each: number,
    private readonly all: number,
    private patienceMs = 0,
  ) {}

  /** Runs `work` within the limits, when it is its turn. Throws Problem `rate_limited`, `unavailable`. */
  async run<T>(organizationId: string, work: () => Promise<T>): Promise<T> {
    const leave = await this.turn(organizationId);
    try {
      return await work();
    } finally {
      leave();
    }
  }

  /**
   * Begins work that ends with a call of what this returns.
   *
   * @throws Problem `rate_limited` where the organization has enough, `unavailable` where this replica has
   */
  enter(organizationId: string): () => void {
    const refusal = this.refusalOf(organizationId);
    if (refusal !== null) throw refusal;
    this.underWay.set(organizationId, this.countOf(organizationId) + 1);
    this.total += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.leave(organizationId);
    };
  }

  /** Refuses what waits and has nothing wait from now on: a replica that shuts down has no time for it. */
  stopWaiting(): void {
    this.patienceMs = 0;
    for (const settles of [...this.waiting.values()]) for (const settle of [...settles]) settle();
  }

  private leave(organizationId: string): void {
    this.total -= 1;
    const rest = this.countOf(organizationId) - 1;
    if (rest === 0) this.underWay.delete(organizationId);
    else this.underWay.set(organizationId, rest);
    for (const [next, settles] of this.waiting) {
      const [settle] = settles;
      if (settle === undefined || this.refusalOf(next) !== null) continue;
      // To the end of the rotation.
      this.waiting.delete(next);
      this.waiting.set(next, settles);
      settle();
      return;
    }
  }

  /** `enter`, after waiting for a turn where there is no room. */
  private async turn(organizationId: string): Promise<() => void> {
    if (this.refusalOf(organizationId) === null || !this.mayWait(organizationId)) return this.enter(organizationId);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.forget(organizationId, settle);
        clearTimeout(timer);
        // Entered here, so that nobody who comes meanwhile takes the place.
        const refusal = this.refusalOf(organizationId);
        if (refusal === null) resolve(this.enter(organizationId));
        else reject(refusal);
      };
      const timer = setTimeout(settle, this.patienceMs);
      const mine = this.waiting.get(organizationId);
      if (mine === undefined) this.waiting.set(organizationId, new Set([settle]));
      else mine.add(settle);
    });
  }

  private forget(organizationId: string, settle: Settle): void {
    const mine = this.waiting.get(organizationId);
    mine?.delete(settle);
    if (mine?.size === 0) this.waiting.delete(organizationId);
  }

  private mayWait(organizationId: string): boolean {
    if (this.patienceMs === 0 || (this.waiting.get(organizationId)?.size ?? 0) >= WAITING.each) return false;
    let all = 0;
    for (const { size } of this.waiting.values()) all += size;
    return all < WAITING.all;
  }

  private refusalOf(organizationId: string): Problem | null {
    if (this.countOf(organizationId) >= this.each) return tooManyOfOne;
    return this.total >= this.all ? problems.unavailable : null;
  }

  private countOf(organizationId: string): number {
    return this.underWay.get(organizationId) ?? 0;
  }
}

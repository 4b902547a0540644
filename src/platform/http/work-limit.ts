import { Problem, problems } from '../kernel/problem.js';

const tooManyOfOne = new Problem('rate_limited', {
  detail: 'The organization has as many of these requests under way as it may.',
  headers: { 'Retry-After': '5' },
});

/** How many may wait for their turn: of one organization, and in all. Whoever comes then is refused at once. */
const WAITING = { each: 10, all: 100 };

interface Waiting {
  readonly organizationId: string;
  /** Begins, or refuses where there is no room. */
  readonly settle: () => void;
}

/**
 * How much long work is under way at one time: so many for one organization, so many in all. Over it is refused, at once
 * or after waiting in vain for a turn; turns are taken in the order in which they were asked for, and an organization
 * that has enough does not hold up the others.
 */
export class WorkLimit {
  private readonly underWay = new Map<string, number>();
  private readonly waiting = new Set<Waiting>();
  private total = 0;

  /**
   * @param each the most for one organization
   * @param all the most in all
   * @param patienceMs how long work that is handed to `run` waits for its turn, in milliseconds
   */
  constructor(
    private readonly each: number,
    private readonly all: number,
    private readonly patienceMs = 0,
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

  private leave(organizationId: string): void {
    this.total -= 1;
    const rest = this.countOf(organizationId) - 1;
    if (rest === 0) this.underWay.delete(organizationId);
    else this.underWay.set(organizationId, rest);
    for (const next of this.waiting) {
      if (this.refusalOf(next.organizationId) === null) return next.settle();
    }
  }

  /** `enter`, after waiting for a turn where there is no room. */
  private async turn(organizationId: string): Promise<() => void> {
    const patient = this.patienceMs > 0 && this.mayWait(organizationId);
    if (!patient || this.refusalOf(organizationId) === null) return this.enter(organizationId);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.waiting.delete(waiting);
        clearTimeout(timer);
        // Entered here, so that nobody who comes meanwhile takes the place.
        const refusal = this.refusalOf(organizationId);
        if (refusal === null) resolve(this.enter(organizationId));
        else reject(refusal);
      };
      const waiting = { organizationId, settle };
      const timer = setTimeout(settle, this.patienceMs);
      this.waiting.add(waiting);
    });
  }

  private mayWait(organizationId: string): boolean {
    const mine = [...this.waiting].filter((waiting) => waiting.organizationId === organizationId).length;
    return mine < WAITING.each && this.waiting.size < WAITING.all;
  }

  private refusalOf(organizationId: string): Problem | null {
    if (this.countOf(organizationId) >= this.each) return tooManyOfOne;
    return this.total >= this.all ? problems.unavailable : null;
  }

  private countOf(organizationId: string): number {
    return this.underWay.get(organizationId) ?? 0;
  }
}

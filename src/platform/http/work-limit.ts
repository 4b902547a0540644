import { Problem, problems } from '../kernel/problem.js';

const tooManyOfOne = new Problem('rate_limited', {
  detail: 'The organization has as many of these requests under way as it may.',
  headers: { 'Retry-After': '5' },
});

/** How much long work is under way at one time: so many for one organization, so many in all; over it is refused. */
export class WorkLimit {
  private readonly underWay = new Map<string, number>();
  private total = 0;

  /**
   * @param each the most for one organization
   * @param all the most in all
   */
  constructor(
    private readonly each: number,
    private readonly all: number,
  ) {}

  /** Runs `work` within the limits. Throws Problem `rate_limited`, `unavailable`. */
  async run<T>(organizationId: string, work: () => Promise<T>): Promise<T> {
    const leave = this.enter(organizationId);
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
    const mine = this.underWay.get(organizationId) ?? 0;
    if (mine >= this.each) throw tooManyOfOne;
    if (this.total >= this.all) throw problems.unavailable;
    this.underWay.set(organizationId, mine + 1);
    this.total += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.total -= 1;
      const rest = (this.underWay.get(organizationId) ?? 1) - 1;
      if (rest === 0) this.underWay.delete(organizationId);
      else this.underWay.set(organizationId, rest);
    };
  }
}

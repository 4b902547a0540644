/** How many requests of one kind may be under way. */
export interface InFlightLimits {
  /** At the beginning, and again whenever nothing is under way. */
  readonly start: number;
  /** However slow they become. */
  readonly least: number;
  /** However fast they are. */
  readonly most: number;
}

/** How long a request may be under way in the mean, in milliseconds: some of them take twice as long. */
const TARGET_MS = 200;
/** What is measured at one time, in milliseconds. */
const WINDOW_MS = 100;
const DECREASE = 0.8;
const INCREASE = 16;
/** How long after a refusal there is still overload, in milliseconds. */
const OVERLOAD_MS = 1000;

/**
 * Bounds how many requests are under way, by how long they take: what is over the bound would only wait, so it is
 * refused at once. The bound falls by a fifth while requests take longer than the target and rises by steps while they
 * do not (additive increase, multiplicative decrease), so that it finds what this machine and its database can do.
 */
export class InFlightBound {
  private underWay = 0;
  private bound: number;
  private refusedAtMs = Number.NEGATIVE_INFINITY;
  private windowFromMs = 0;
  private count = 0;
  private sumMs = 0;
  private reached = false;

  /**
   * @param name what the kind is called in metrics and logs
   * @param now a clock in milliseconds that never goes back
   */
  constructor(
    readonly name: string,
    private readonly limits: InFlightLimits,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.bound = limits.start;
  }

  /** How many are under way. */
  get inFlight(): number {
    return this.underWay;
  }

  /** How many may be under way at the moment. */
  get limit(): number {
    return this.bound;
  }

  /** Whether a request was refused within the last second. */
  get isOverloaded(): boolean {
    return this.now() - this.refusedAtMs < OVERLOAD_MS;
  }

  /** Whether one more would be refused; then it counts as refused. */
  refuses(): boolean {
    if (this.underWay < this.bound) return false;
    this.reached = true;
    this.refusedAtMs = this.now();
    return true;
  }

  /**
   * Counts a request as under way.
   *
   * @returns when it began, for `leave`
   */
  enter(): number {
    if (this.underWay === 0) this.bound = Math.max(this.bound, this.limits.start);
    this.underWay += 1;
    if (this.underWay >= this.bound) this.reached = true;
    return this.now();
  }

  /** Counts a request that began at `beganMs` as answered. */
  leave(beganMs: number): void {
    this.underWay -= 1;
    const now = this.now();
    this.count += 1;
    this.sumMs += now - beganMs;
    if (now - this.windowFromMs >= WINDOW_MS) this.adapt(now);
  }

  private adapt(now: number): void {
    const { least, most, start } = this.limits;
    if (this.sumMs / this.count > TARGET_MS) this.bound = Math.max(least, Math.floor(this.bound * DECREASE));
    else if (this.reached || this.bound < start) this.bound = Math.min(most, this.bound + INCREASE);
    this.windowFromMs = now;
    this.count = 0;
    this.sumMs = 0;
    this.reached = false;
  }
}

/** How much a batch queue may hold. */
export interface BatchLimits {
  /** Items that may wait; one more is refused with `QueueFull`. */
  readonly maxQueue: number;
  /** Items that one run takes. */
  readonly maxBatch: number;
}

/** When a run that could begin had better wait for more items. */
export interface Gathering {
  /** Asked when a run could begin. What it returns tells whether to wait where so many items are there, at every change. */
  readonly begin: () => (items: number) => boolean;
  /** Is told what to call when waiting may no longer be worthwhile; whoever makes it so has to call it. */
  readonly onChange: (reconsider: () => void) => void;
}

/** The queue holds as many items as it may. The caller answers 503 with `Retry-After`. */
export class QueueFull extends Error {
  constructor(queue: string) {
    super(`the queue ${queue} is full`);
    this.name = 'QueueFull';
  }
}

/** The queue is shutting down and takes nothing more. */
export class QueueClosed extends Error {
  constructor(queue: string) {
    super(`the queue ${queue} is closed`);
    this.name = 'QueueClosed';
  }
}

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** What became of one item of a batch. */
export type Settled<Result> = { readonly result: Result } | { readonly error: unknown };

/** What is told about each run: the number of its items and its duration in seconds. */
export type BatchObserver = (size: number, seconds: number) => void;

/**
 * Gathers items while one run is under way and gives them, in order, to the next: at once when idle (unless gathering is
 * worthwhile), no timer, one run at a time, bounded, drained at shutdown. Each caller waits for the result of its own
 * item.
 */
export class SerialBatch<Item, Result> {
  private waiting: Waiting<Item, Result>[] = [];
  private running: Promise<void> | null = null;
  private closed = false;
  private pause: { readonly isWorthwhile: (items: number) => boolean; readonly end: () => void } | null = null;

  /**
   * @param name what the queue is called in metrics and errors
   * @param limits how much it may hold
   * @param run handles one batch; it settles every item, in the order given, and rejects only when all of them failed
   * @param observe told about each run
   * @param gathering when to wait for more items; never unless given
   */
  constructor(
    readonly name: string,
    private readonly limits: BatchLimits,
    private readonly run: (items: readonly Item[]) => Promise<readonly Settled<Result>[]>,
    private readonly observe: BatchObserver = () => undefined,
    private readonly gathering?: Gathering,
  ) {
    gathering?.onChange(() => this.reconsider());
  }

  /** How many items wait, those in the present run not counted. */
  get depth(): number {
    return this.waiting.length;
  }

  /**
   * Hands `item` to the next run.
   *
   * @returns the item's own result
   * @throws QueueFull, QueueClosed, or what its run says about the item
   */
  add(item: Item): Promise<Result> {
    if (this.closed) return Promise.reject(new QueueClosed(this.name));
    if (this.waiting.length >= this.limits.maxQueue) return Promise.reject(new QueueFull(this.name));
    return new Promise<Result>((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      this.running ??= this.runUntilEmpty();
      this.reconsider();
    });
  }

  /** Takes nothing more and waits until all that was taken is settled. */
  async drain(): Promise<void> {
    this.closed = true;
    while (this.running !== null) await this.running;
  }

  private async runUntilEmpty(): Promise<void> {
    // Items that arrive in the same turn of the event loop share the first run.
    await Promise.resolve();
    while (this.waiting.length > 0) {
      const isWorthwhile = this.gathering?.begin();
      if (isWorthwhile?.(this.waiting.length) === true) await this.gather(isWorthwhile);
      const batch = this.waiting.splice(0, this.limits.maxBatch);
      const started = performance.now();
      await this.settle(batch);
      this.observe(batch.length, (performance.now() - started) / 1000);
    }
    this.running = null;
  }

  /** Waits for more items while that is worthwhile. */
  private async gather(isWorthwhile: (items: number) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      this.pause = { isWorthwhile, end: resolve };
    });
    this.pause = null;
  }

  private reconsider(): void {
    if (this.pause !== null && !this.pause.isWorthwhile(this.waiting.length)) this.pause.end();
  }

  private async settle(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const settled = await this.run(batch.map(({ item }) => item));
      batch.forEach(({ resolve, reject }, index) => {
        const outcome = settled[index];
        if (outcome === undefined) reject(new Error(`the queue ${this.name} lost the result of an item`));
        else if ('error' in outcome) reject(outcome.error);
        else resolve(outcome.result);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}

/**
 * Calls for the same thing share their work: one runs, and all that arrive meanwhile share the one after it, which begins
 * after each of them was made. However many callers there are, a key has one under way.
 */
export class CoalescedCalls<Result> {
  private readonly running = new Map<string, Promise<void>>();
  private readonly next = new Map<string, Promise<Result>>();

  /**
   * @param key what the call is for
   * @returns what `work` resolves to, begun now or as soon as the one under way has ended
   */
  call(key: string, work: () => Promise<Result>): Promise<Result> {
    const waiting = this.next.get(key);
    if (waiting !== undefined) return waiting;
    const running = this.running.get(key);
    if (running === undefined) return this.start(key, work);
    const next = running.then(() => {
      this.next.delete(key);
      return this.start(key, work);
    });
    this.next.set(key, next);
    return next;
  }

  private start(key: string, work: () => Promise<Result>): Promise<Result> {
    const result = work();
    const end = () => void this.running.delete(key);
    this.running.set(key, result.then(end, end));
    return result;
  }
}

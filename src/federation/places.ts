/** So many places, and no more. */
export class Places {
  private taken = 0;

  /**
   * @param most how many may be taken at one time
   */
  constructor(private readonly most: number) {}

  /** Takes one. Answers whether there was one. */
  take(): boolean {
    if (this.taken >= this.most) return false;
    this.taken += 1;
    return true;
  }

  /** Gives one back. */
  giveBack(): void {
    this.taken -= 1;
  }
}

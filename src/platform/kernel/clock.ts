/**
 * Where the time comes from. Everything that needs the present instant asks the `Clock`, so that tests can set it;
 * nothing in the product calls `Date.now()` or `new Date()` for it.
 */
export abstract class Clock {
  /** The present instant in milliseconds since the Unix epoch. */
  abstract nowMs(): number;

  /** The present instant in whole seconds since the Unix epoch: the NumericDate of RFC 7519 §2. */
  nowSeconds(): number {
    return Math.floor(this.nowMs() / 1000);
  }

  /** The present instant as a `Date`. */
  now(): Date {
    return new Date(this.nowMs());
  }
}

/** The machine's own clock. */
export class SystemClock extends Clock {
  nowMs(): number {
    return Date.now();
  }
}

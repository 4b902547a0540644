import { randomInt } from 'node:crypto';

/** How long after the first, second, … failure an event is tried again, in seconds. */
export const RETRY_SECONDS = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400] as const;

/** Each delay is longer or shorter by at most this share, so that what failed together does not come back together. */
export const JITTER = 0.1;

/** The longest delay that a receiver may ask for. */
const MAX_RETRY_AFTER_MS = 86_400_000;

/** How long a subscription may fail before it is disabled. */
export const FAILING_LIMIT_MS = 7 * 86_400_000;

/**
 * When an event is tried again.
 *
 * @param failures how often it has failed, at least 1
 * @param nowMs the present instant
 * @param retryAfterMs how long the receiver asked to be left alone; null where it did not
 * @returns null where it is given up
 */
export function nextAttemptMs(failures: number, nowMs: number, retryAfterMs: number | null): number | null {
  const seconds = RETRY_SECONDS[failures - 1];
  if (seconds === undefined) return null;
  const jitter = 1 + (JITTER * randomInt(-1000, 1001)) / 1000;
  const asked = Math.min(retryAfterMs ?? 0, MAX_RETRY_AFTER_MS);
  return nowMs + Math.max(Math.round(seconds * 1000 * jitter), asked);
}

/**
 * What a `Retry-After` header (RFC 9110 §10.2.3) asks for, in milliseconds.
 *
 * @returns null where it is missing or not well-formed
 */
export function retryAfterMs(header: string | undefined, nowMs: number): number | null {
  if (header === undefined) return null;
  if (/^\d{1,10}$/.test(header)) return Number(header) * 1000;
  const instant = /^[A-Z][a-z]{2}, /.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(instant) ? null : Math.max(0, instant - nowMs);
}

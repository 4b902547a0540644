import { randomUUID } from 'node:crypto';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** A UUID in lower case, for patterns over parts of a cursor. */
export const LOWER_CASE_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether `value` is written as a UUID (RFC 9562 §4), of any version. */
export function isUuid(value: string): boolean {
  return value.length === 36 && UUID.test(value);
}

/**
 * A UUID of version 7 (RFC 9562 §5.7): the instant, and 74 random bits. They are those of a random UUID, which Node has in
 * stock: a call for random bytes of its own costs four times as much.
 *
 * @param unixMs the instant, in milliseconds since the Unix epoch
 */
export function uuidv7(unixMs: number): string {
  const instant = unixMs.toString(16).padStart(12, '0');
  return `${instant.slice(0, 8)}-${instant.slice(8)}-7${randomUUID().slice(15)}`;
}

/** Milliseconds that a UUID of version 7 has room for. */
const MAX_UUID_MS = 2 ** 48 - 1;

/** The least UUID of version 7 (RFC 9562 §5.7) that is made at an instant; those made before are less. */
export function firstUuidAt(instant: Date): string {
  const ms = Math.min(Math.max(instant.getTime(), 0), MAX_UUID_MS);
  const hex = ms.toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

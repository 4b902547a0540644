import { types } from 'node:util';
import { DatabaseAway } from '../database/connection-sockets.js';
import { QueueClosed, QueueFull } from '../database/serial-batch.js';

/** Codes of Node's sockets and of PostgreSQL (SQLSTATE) that mean: not now, perhaps in a second. */
const TRANSIENT_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  '25006', // read_only_sql_transaction: a replica that is not promoted yet
  '25P03', // idle_in_transaction_session_timeout
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available
  '57014', // query_canceled: statement timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
]);

/** Errors of `pg` and TypeORM about connections that carry no code. */
const TRANSIENT_MESSAGES = [
  'Connection terminated',
  'timeout exceeded when trying to connect',
  'Client has encountered a connection error',
  'Client was closed and is not queryable',
  // TypeORM gives a connection that broke back while its transaction still goes on.
  'already released',
  'Cannot use a pool after calling end on the pool',
  'Query read timeout',
  'Driver not Connected',
];

/**
 * The parts of PostgreSQL that keep rows in files. What the system refuses them has a SQLSTATE of its own only where the
 * disk is full or fails; a quota of the disk, or a limit on the size of files, is XX000 as an error within PostgreSQL is.
 */
const STORAGE: ReadonlySet<unknown> = new Set(['md.c', 'slru.c']);

const MAX_DEPTH = 5;

/**
 * Whether `error` says that the database is away, shutting down, overloaded or too slow, or that a queue is full, so
 * that the request may succeed when it is sent again. Looks into what TypeORM and Node wrap: `driverError`, `cause` and
 * `errors`.
 */
export function isUnavailability(error: unknown, depth = 0): boolean {
  // Not by `instanceof`: Node's own errors are of another realm where the code runs in a VM context.
  if (!types.isNativeError(error) || depth > MAX_DEPTH) return false;
  if (error instanceof QueueFull || error instanceof QueueClosed || error instanceof DatabaseAway) return true;
  const { code, file, driverError, errors } = error as Error &
    Partial<Record<'code' | 'file' | 'driverError' | 'errors', unknown>>;
  if (typeof code === 'string' && (TRANSIENT_CODES.has(code) || /^(?:08|53|58)[0-9A-Z]{3}$/.test(code))) return true;
  if (code === 'XX000' && STORAGE.has(file)) return true;
  if (TRANSIENT_MESSAGES.some((message) => error.message.includes(message))) return true;
  const inner: unknown[] = [driverError, error.cause, ...(Array.isArray(errors) ? (errors as unknown[]) : [])];
  return inner.some((wrapped) => isUnavailability(wrapped, depth + 1));
}

/** The SQLSTATE of a PostgreSQL error, or `undefined` where `error` is none (a broken connection has none). */
export function sqlStateOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  const { code } = error;
  // Node's own codes (EPIPE) begin with E, as no SQLSTATE of PostgreSQL does.
  return typeof code === 'string' && /^[0-9A-DF-Z][0-9A-Z]{4}$/.test(code) ? code : undefined;
}

/**
 * Whether the database rolled the statement back for a reason that lies in one of its rows or in a passing conflict, so
 * that its rows can be tried again one by one: cardinality (21), data (22) and integrity (23) faults, deadlock,
 * serialization failure, lock timeout. A broken connection is never among them: what became of its statement is unknown.
 */
export function isRowFault(error: unknown): boolean {
  const state = sqlStateOf(error);
  if (state === undefined) return false;
  return ['21', '22', '23'].includes(state.slice(0, 2)) || ['40P01', '40001', '55P03'].includes(state);
}

/** Whether the database gave up waiting for a lock (55P03). */
export function isLockTimeout(error: unknown): boolean {
  return sqlStateOf(error) === '55P03';
}

/** Whether the database rolled back because a lock was not to be had: a timeout, or a deadlock (40P01). */
export function isLockRefusal(error: unknown): boolean {
  return isLockTimeout(error) || sqlStateOf(error) === '40P01';
}

/** Whether the server takes no writes (25006): a standby, or one that was a primary until just now. */
export function isReadOnly(error: unknown): boolean {
  return sqlStateOf(error) === '25006';
}

/** Whether `error` says that a unique constraint called `constraint` was violated. */
export function isUniqueViolation(error: unknown, constraint: string): boolean {
  return (
    sqlStateOf(error) === '23505' &&
    typeof error === 'object' &&
    error !== null &&
    'constraint' in error &&
    error.constraint === constraint
  );
}

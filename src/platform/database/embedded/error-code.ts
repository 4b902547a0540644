/**
 * The `code` of an error of Node (`ENOENT`) or of PostgreSQL (SQLSTATE), `undefined` where it has none. An error that
 * stands for several, as `net` raises when it tried several addresses, has the code of the first.
 */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error instanceof AggregateError ? errorCode(error.errors[0]) : undefined;
}

/** Whether `error` carries one of `codes`. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  const code = errorCode(error);
  return code !== undefined && codes.includes(code);
}

/** What `error` says, for a sentence of ours. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

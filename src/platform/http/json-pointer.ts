/**
 * The JSON Pointer (RFC 6901 §3) of the member that `path` leads to; the empty path is the whole document, `""`.
 *
 * @param path member names and array indexes, outermost first
 */
export function jsonPointer(path: readonly (string | number)[]): string {
  let pointer = '';
  for (const step of path) pointer += `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`;
  return pointer;
}

/** What tells the members of a JSON text: its strings, those before a colon being names, and where objects begin and end. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}]/gs;

/**
 * Whether an object in a JSON text has a member twice. Readers differ in which of the two they take (RFC 8259 §4), so one
 * could be verified and the other one be shown.
 *
 * @param json a text that `JSON.parse` takes
 */
export function hasRepeatedMember(json: string): boolean {
  const objects: Set<unknown>[] = [];
  for (const [token, colon] of json.matchAll(TOKEN)) {
    if (token === '{') objects.push(new Set());
    else if (token === '}') objects.pop();
    else if (colon !== undefined) {
      const name = JSON.parse(token.slice(0, -colon.length)) as unknown;
      const names = objects.at(-1);
      if (names?.has(name) === true) return true;
      names?.add(name);
    }
  }
  return false;
}

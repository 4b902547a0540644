/** The longest line that is read, in bytes; an event has some hundred. */
export const MAX_LINE_BYTES = 1024 * 1024;

/** A line of a file, or what keeps it from being one. */
export type Line =
  | { readonly number: number; readonly text: string; readonly ended: boolean }
  | { readonly number: number; readonly text: null; readonly fault: 'line_too_long' | 'compression_damaged' };

/**
 * Splits a stream into lines, with at most one of them in memory. A line of more than `MAX_LINE_BYTES` is given as
 * `text: null` and ends the iteration.
 */
export async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<Line> {
  let number = 1;
  let rest: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      const piece = chunk.subarray(from, end);
      if (length + piece.length > MAX_LINE_BYTES) {
        yield { number, text: null, fault: 'line_too_long' };
        return;
      }
      yield { number, text: Buffer.concat([...rest, piece]).toString('utf8'), ended: true };
      number += 1;
      rest = [];
      length = 0;
      from = end + 1;
    }
    rest.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > MAX_LINE_BYTES) {
      yield { number, text: null, fault: 'line_too_long' };
      return;
    }
  }
  if (length > 0) yield { number, text: Buffer.concat(rest).toString('utf8'), ended: false };
}

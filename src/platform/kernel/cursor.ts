import { problems } from './problem.js';

/** What a member of a position must look like; a pattern is one. */
export interface CursorShape {
  test(member: string): boolean;
}

const CANONICAL_INSTANT = /^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** An instant as `toISOString()` renders it, of a day that there is: PostgreSQL takes no other. */
export const INSTANT: CursorShape = {
  test: (member) => {
    const instant = new Date(CANONICAL_INSTANT.test(member) ? member : Number.NaN);
    return !Number.isNaN(instant.getTime()) && instant.toISOString() === member;
  },
};

/**
 * Renders the place where the next page of a list begins.
 *
 * @param list the list that it is a place of, its tenant included
 * @param position the sort key of the last item that was given
 */
export function encodeCursor(list: string, position: readonly string[]): string {
  return Buffer.from(JSON.stringify([list, ...position]), 'utf8').toString('base64url');
}

/**
 * Reads a cursor back.
 *
 * @param list the list that is asked for, its tenant included
 * @param cursor what the caller sent
 * @param shapes one shape for each member of the position
 * @returns the position that `encodeCursor` was given
 * @throws Problem `validation_failed` for anything that is no cursor of this very list
 */
export function decodeCursor(list: string, cursor: string, shapes: readonly CursorShape[]): string[] {
  const parts = parse(cursor);
  const fits =
    Array.isArray(parts) &&
    parts.length === shapes.length + 1 &&
    parts[0] === list &&
    shapes.every((shape, index) => typeof parts[index + 1] === 'string' && shape.test(parts[index + 1] as string));
  if (!fits) {
    throw problems.validationFailed.withErrors({ pointer: '/cursor', detail: 'is not a cursor of this list' });
  }
  return parts.slice(1) as string[];
}

function parse(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}

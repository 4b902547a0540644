import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { decodeCursor, encodeCursor, INSTANT } from './cursor.js';
import { Problem } from './problem.js';

const ANYTHING = /^[^]*$/;

function refusalOf(work: () => unknown): Problem {
  try {
    work();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a cursor', () => {
  it('comes back as it was given, whatever list and position', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string(), { maxLength: 4 }), (list, position) => {
        const cursor = encodeCursor(list, position);
        expect(cursor).toMatch(/^[\w-]+$/);
        const shapes = position.map(() => ANYTHING);
        expect(decodeCursor(list, cursor, shapes)).toEqual(position);
      }),
    );
  });

  it('is refused by any other list', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (list, other) => {
        fc.pre(list !== other);
        const refusal = refusalOf(() => decodeCursor(other, encodeCursor(list, ['1']), [ANYTHING]));
        expect(refusal.code).toBe('validation_failed');
        expect(refusal.errors).toEqual([{ pointer: '/cursor', detail: expect.any(String) }]);
      }),
    );
  });

  it('is refused, never anything worse, for whatever a caller sends', () => {
    const sent = fc.oneof(
      fc.string(),
      fc.json().map((json) => Buffer.from(json).toString('base64url')),
      fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('base64url')),
    );
    fc.assert(
      fc.property(sent, (cursor) => {
        expect(refusalOf(() => decodeCursor('list', cursor, [/^\d+$/])).code).toBe('validation_failed');
      }),
    );
  });

  it.each<[string, readonly unknown[]]>([
    ['too few members', ['list']],
    ['too many members', ['list', '1', '2']],
    ['a member of another shape', ['list', 'x']],
    ['a member that is a number', ['list', 1]],
    ['a member that is null', ['list', null]],
    ['a member that is a list', ['list', ['1']]],
  ])('is refused for %s', (_what, parts) => {
    const cursor = Buffer.from(JSON.stringify(parts)).toString('base64url');
    expect(refusalOf(() => decodeCursor('list', cursor, [/^\d+$/])).code).toBe('validation_failed');
  });
});

describe('an instant in a cursor', () => {
  it('is what toISOString() renders', () => {
    const instants = fc.date({
      min: new Date('0001-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59.999Z'),
      noInvalidDate: true,
    });
    fc.assert(fc.property(instants, (instant) => INSTANT.test(instant.toISOString())));
  });

  it.each([
    '',
    '2026-11-22',
    '2026-11-22T10:00:00Z',
    '2026-11-22T10:00:00.000',
    '2026-11-22T10:00:00.000+00:00',
    '2026-02-30T00:00:00.000Z',
    '2026-13-01T00:00:00.000Z',
    '2026-11-22T24:00:00.000Z',
    '2026-11-22T23:59:60.000Z',
    '0000-01-01T00:00:00.000Z',
    '+010000-01-01T00:00:00.000Z',
    '2026-11-22T10:00:00.000Z\n',
  ])('is not %j', (text) => {
    expect(INSTANT.test(text)).toBe(false);
  });
});

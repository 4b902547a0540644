import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Problem } from '../kernel/problem.js';
import { MAX_JSON_DEPTH, parseJsonBody } from './json-body.js';

const parse = (text: string) => parseJsonBody(Buffer.from(text));
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

describe('parseJsonBody', () => {
  it('reads any JSON as JSON.parse does', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        const text = JSON.stringify(value);
        if (/__proto__|\\u0000|\\ud[89a-f]/.test(text)) return;
        expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it('reads or refuses any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        try {
          parseJsonBody(Buffer.from(body));
        } catch (error) {
          expect(error).toBeInstanceOf(Problem);
        }
      }),
    );
  });

  it('takes 32 levels and no more', () => {
    expect(() => parse(nested(MAX_JSON_DEPTH))).not.toThrow();
    expect(() => parse(nested(MAX_JSON_DEPTH + 1))).toThrow(Problem);
  });

  it('takes surrogate pairs, an empty body and constructors that are no attack', () => {
    expect(parse('"\\ud83d\\ude00"')).toBe('😀');
    expect(parse('')).toBeUndefined();
    expect(parse('{"constructor":{"a":1}}')).toEqual({ constructor: { a: 1 } });
  });
});

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { OAuthError } from '../kernel/oauth-error.js';
import { OAuthForm } from './oauth-form.js';

const parse = (text: string) => OAuthForm.parse(Buffer.from(text));

describe('OAuthForm', () => {
  it('decodes names and values', () => {
    const form = parse('a+b=c%20d&na%6De=%C3%A9+%2B&&plain=1&raw=é');
    expect(form.get('a b')).toBe('c d');
    expect(form.get('name')).toBe('é +');
    expect(form.get('plain')).toBe('1');
    expect(form.get('raw')).toBe('é');
  });

  it('takes an empty value for an omitted parameter', () => {
    const form = parse('a=&b&c=%20&d==&a=1');
    expect([form.get('a'), form.get('b'), form.get('c'), form.get('d'), form.get('e')]).toEqual([
      '1',
      undefined,
      ' ',
      '=',
      undefined,
    ]);
    expect(form.all('a')).toEqual(['1']);
    expect(form.all('b')).toEqual([]);
  });

  it('tells the first repeated name', () => {
    expect(parse('a=1&b=2&b=3&a=4').repeated()).toBe('a');
    expect(parse('a=1&b=2&%62=').repeated()).toBe('b');
    expect(parse('a=1&b=2').repeated()).toBeUndefined();
    expect(parse('').repeated()).toBeUndefined();
    expect(parse('__proto__=1&constructor=2').get('toString')).toBeUndefined();
  });

  it('takes 64 parameters and no more', () => {
    expect(parse('a=1&'.repeat(64)).all('a')).toHaveLength(64);
    expect(() => parse('a=1&'.repeat(65))).toThrow(OAuthError);
  });

  it.each(['a=%', 'a=%1', 'a=%zz', '%ff=1', 'a=%c0%80', 'a=%ed%a0%80', 'a=%00', 'a=\0', '%00'])(
    'refuses %j',
    (text) => {
      expect(() => parse(text)).toThrow(OAuthError);
    },
  );

  it('reads or refuses any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        try {
          OAuthForm.parse(Buffer.from(body));
        } catch (error) {
          expect(error).toBeInstanceOf(OAuthError);
        }
      }),
    );
  });

  it('agrees with the URL standard on whatever it accepts', () => {
    const alphabet = ['a', 'b', '=', '&', '+', '%41', '%2B', '%26', '%C3%A9', '%3d'];
    for (let seed = 0; seed < 2000; seed++) {
      let text = '';
      for (let rest = seed * 7919 + 13; rest > 0; rest = Math.floor(rest / alphabet.length)) {
        text += alphabet[rest % alphabet.length] ?? '';
      }
      const standard = new URLSearchParams(text);
      const form = parse(text);
      for (const name of standard.keys()) {
        expect(form.all(name)).toEqual(standard.getAll(name).filter((value) => value !== ''));
      }
    }
  });
});

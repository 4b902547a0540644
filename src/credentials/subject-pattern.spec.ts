import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { matchesSubject, subjectPatternFault } from './subject-pattern.js';

const segment = fc.stringMatching(/^[a-z0-9@._-]{1,8}$/);
const separator = fc.constantFrom('/', ':', '://');

/** A subject as segments and what stands between them. */
const subject = fc
  .tuple(segment, fc.array(fc.tuple(separator, segment), { maxLength: 6 }))
  .map(([first, rest]) => [first, ...rest.flat()]);

describe('the subject of an identity', () => {
  it('without a wildcard means itself and nothing else', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, other) => {
        fc.pre(!one.includes('*'));
        expect(matchesSubject(one, one)).toBe(true);
        expect(matchesSubject(one, other)).toBe(one === other);
      }),
    );
  });

  it('with wildcards means whatever stands in the place of each, as long as it is one segment', () => {
    fc.assert(
      fc.property(
        subject,
        fc.array(fc.boolean(), { minLength: 13, maxLength: 13 }),
        segment,
        (parts, open, filling) => {
          const isOpen = (index: number): boolean => index % 2 === 0 && open[index] === true;
          const pattern = parts.map((part, index) => (isOpen(index) ? '*' : part)).join('');
          expect(matchesSubject(pattern, parts.join(''))).toBe(true);
          expect(matchesSubject(pattern, parts.map((part, index) => (isOpen(index) ? filling : part)).join(''))).toBe(
            true,
          );
          // One segment more, one that is empty, or one that is two is another subject.
          expect(matchesSubject(pattern, `${parts.join('')}/x`)).toBe(false);
          parts.forEach((_part, index) => {
            if (!isOpen(index)) return;
            for (const wrong of ['', `${filling}/${filling}`, `${filling}:${filling}`]) {
              expect(matchesSubject(pattern, parts.map((part, at) => (at === index ? wrong : part)).join(''))).toBe(
                false,
              );
            }
          });
        },
      ),
    );
  });

  it('does not take one separator for the other, nor a star in a subject for a pattern', () => {
    expect(matchesSubject('a:*', 'a/b')).toBe(false);
    expect(matchesSubject('a/b', 'a/*')).toBe(false);
    expect(matchesSubject('a/*', 'a/*')).toBe(true);
  });

  it('answers at once for subjects that are made to take long', () => {
    const began = performance.now();
    expect(matchesSubject('*:'.repeat(250), 'a:'.repeat(511) + '!')).toBe(false);
    expect(performance.now() - began).toBeLessThan(100);
  });

  it.each([
    ['a:*', false, null],
    ['*', true, null],
    ['*', false, 'would match every subject of its length: name a segment, or claims'],
    ['*/*', false, 'would match every subject of its length: name a segment, or claims'],
    ['a:b*', true, 'must have * only as a whole segment between / or :'],
    ['a:**', true, 'must have * only as a whole segment between / or :'],
  ])('%s, with claims %s: %s', (pattern, hasClaims, fault) => {
    expect(subjectPatternFault(pattern, hasClaims)).toBe(fault);
  });
});

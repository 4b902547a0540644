import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { formatMonth, monthOf, nextMonth } from './month.js';

describe('a calendar month', () => {
  it.each([
    ['2026-11-01T00:00:00.000Z', 202611, '2026-12-01T00:00:00.000Z'],
    ['2026-11-30T23:59:59.999Z', 202611, '2026-12-01T00:00:00.000Z'],
    ['2026-12-31T23:59:59.999Z', 202612, '2027-01-01T00:00:00.000Z'],
    ['2027-01-01T00:00:00.000Z', 202701, '2027-02-01T00:00:00.000Z'],
    ['2028-01-31T12:00:00.000Z', 202801, '2028-02-01T00:00:00.000Z'],
    ['2028-02-29T12:00:00.000Z', 202802, '2028-03-01T00:00:00.000Z'],
  ])('of %s is %d, and the next begins at %s', (instant, month, next) => {
    expect(monthOf(new Date(instant))).toBe(month);
    expect(nextMonth(new Date(instant)).toISOString()).toBe(next);
  });

  it.each([
    [202611, '2026-11'],
    [202601, '2026-01'],
    [202612, '2026-12'],
  ])('%d reads %s', (month, text) => {
    expect(formatMonth(month)).toBe(text);
  });

  it('sorts as time does, and the next begins after every instant of it and no later', () => {
    const instants = fc.date({
      min: new Date('2000-01-01T00:00:00Z'),
      max: new Date('2100-01-01T00:00:00Z'),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(instants, instants, (one, other) => {
        if (one <= other) expect(monthOf(one)).toBeLessThanOrEqual(monthOf(other));
        const next = nextMonth(one);
        expect(next.getTime()).toBeGreaterThan(one.getTime());
        expect(monthOf(next)).toBeGreaterThan(monthOf(one));
        expect(monthOf(new Date(next.getTime() - 1))).toBe(monthOf(one));
        expect(formatMonth(monthOf(one))).toBe(one.toISOString().slice(0, 7));
      }),
    );
  });
});

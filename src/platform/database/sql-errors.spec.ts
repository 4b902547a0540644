import { describe, expect, it } from '@jest/globals';
import { isRowFault, isUniqueViolation, sqlStateOf } from './sql-errors.js';

const withCode = (code: unknown, more: object = {}) => Object.assign(new Error('fault'), { code }, more);

describe('the errors of PostgreSQL', () => {
  it.each(['21000', '22021', '22P05', '23505', '40P01', '40001', '55P03', '57014', 'XX000', 'P0001'])(
    'have SQLSTATE %s',
    (code) => {
      expect(sqlStateOf(withCode(code))).toBe(code);
    },
  );

  it.each([
    withCode('ECONNRESET'),
    withCode('EPIPE'),
    withCode('ERR_ASSERTION'),
    withCode(23505),
    withCode(undefined),
    new Error('Connection terminated'),
    'a string',
    null,
    undefined,
    42,
  ])('are not %p, which has no SQLSTATE and is no fault of a row', (error) => {
    expect(sqlStateOf(error)).toBeUndefined();
    expect(isRowFault(error)).toBe(false);
  });

  it.each(['21000', '22001', '22003', '22021', '22P02', '22P05', '23502', '23503', '23505', '23514', '40P01', '40001'])(
    'lie in a row or a passing conflict: %s',
    (code) => {
      expect(isRowFault(withCode(code))).toBe(true);
    },
  );

  it('lie in a passing conflict when a lock was not to be had', () => {
    expect(isRowFault(withCode('55P03'))).toBe(true);
  });

  it.each(['08006', '25006', '40003', '42883', '53300', '54000', '55000', '57014', '57P01', '57P02', '57P03', 'XX000'])(
    'lie elsewhere: %s',
    (code) => {
      expect(isRowFault(withCode(code))).toBe(false);
    },
  );

  it('name the unique constraint that was violated', () => {
    expect(isUniqueViolation(withCode('23505', { constraint: 'slug' }), 'slug')).toBe(true);
    expect(isUniqueViolation(withCode('23505', { constraint: 'other' }), 'slug')).toBe(false);
    expect(isUniqueViolation(withCode('23503', { constraint: 'slug' }), 'slug')).toBe(false);
    expect(isUniqueViolation(withCode('23505'), 'slug')).toBe(false);
    expect(isUniqueViolation(null, 'slug')).toBe(false);
  });
});

import { ForbiddenException, HttpException, NotFoundException } from '@nestjs/common';
import { describe, expect, it } from '@jest/globals';
import { QueryFailedError } from 'typeorm';
import { DatabaseAway } from '../database/connection-sockets.js';
import { QueueFull } from '../database/serial-batch.js';
import { OAuthError, oauthErrors } from '../kernel/oauth-error.js';
import { PROBLEM_KINDS, Problem, type ProblemCode } from '../kernel/problem.js';
import { translateError } from './error-translation.js';

const withCode = (code: string, message = 'x') => Object.assign(new Error(message), { code });

describe('translateError', () => {
  it.each([
    ...[
      'ECONNREFUSED',
      '57P01',
      '57P02',
      '57P03',
      '08006',
      '08P01',
      '53100',
      '53300',
      '58030',
      '57014',
      '55P03',
      '40P01',
    ].map((code) => withCode(code)),
    Object.assign(withCode('XX000', 'could not extend file "base/5/16387": Disk quota exceeded'), { file: 'md.c' }),
    new Error('Connection terminated unexpectedly'),
    new Error('timeout exceeded when trying to connect'),
    new QueryFailedError('SELECT 1', [], withCode('57014')),
    new AggregateError([withCode('ECONNREFUSED')]),
    new Error('wrapped', { cause: withCode('08003') }),
    new QueueFull('audit'),
    new DatabaseAway(),
    new Error('Database connection provided by a query runner was already released, cannot continue'),
  ])('answers 503 with Retry-After to %p', (error) => {
    for (const oauth of [true, false]) {
      const answer = translateError(error, oauth);
      expect([answer.status, answer.headers['Retry-After']]).toEqual([503, '1']);
    }
  });

  it.each([
    withCode('23505'),
    withCode('22P02'),
    withCode('XX000'),
    new Error('x'),
    'text',
    undefined,
    null,
    7,
    { statusCode: 700 },
  ])('answers 500 to %p and tells nothing', (error) => {
    expect(translateError(error, false)).toMatchObject({ status: 500, code: 'internal_error' });
    expect(translateError(error, true)).toMatchObject({ status: 500, error: 'server_error' });
  });

  it('translates every problem into the OAuth shape and back', () => {
    for (const code of Object.keys(PROBLEM_KINDS) as ProblemCode[]) {
      const problem = new Problem(code, {
        detail: 'a "quoted" \\ détail',
        headers: { 'X-H': '1' },
        privateDetail: 'p',
      });
      const shape = translateError(problem, true);
      expect(shape).toBeInstanceOf(OAuthError);
      expect(shape.status).toBe(code === 'unsupported_media_type' ? 400 : problem.status);
      expect((shape as OAuthError).description).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
      expect(shape).toMatchObject({ privateDetail: 'p', headers: { 'X-H': '1' } });
      const back = translateError(shape, false);
      expect(back).toBeInstanceOf(Problem);
      expect(back.status).toBe(shape.status);
    }
    for (const error of Object.values(oauthErrors)) {
      expect(translateError(error, false)).toMatchObject({ status: error.status, detail: error.description });
      expect(translateError(error, true)).toBe(error);
    }
  });

  it('translates the exceptions of Nest and never repeats their text', () => {
    expect(translateError(new NotFoundException('/secret?x'), false)).toMatchObject({ code: 'not_found' });
    expect(translateError(new ForbiddenException('secret'), true)).toMatchObject({ error: 'insufficient_scope' });
    for (let status = 400; status < 600; status++) {
      for (const oauth of [true, false]) {
        const answer = translateError(new HttpException('secret text', status), oauth);
        expect(answer.status < 500).toBe(status < 500);
        expect(JSON.stringify(answer.toBody())).not.toContain('secret');
        expect(answer.privateDetail).toBe('secret text');
      }
    }
  });
});

import { describe, expect, it } from '@jest/globals';
import { Problem, PROBLEM_KINDS, problems, type ProblemCode } from './problem.js';

const original = new Problem('conflict', {
  detail: 'Public.',
  privateDetail: 'private',
  errors: [{ pointer: '/a', detail: 'wrong' }],
  headers: { 'X-A': '1' },
  extensions: { limit: 3 },
});
const state = ({
  code,
  status,
  title,
  detail,
  privateDetail,
  errors,
  headers,
  extensions,
  message,
}: Problem): unknown => ({
  code,
  status,
  title,
  detail,
  privateDetail,
  errors,
  headers,
  extensions,
  message,
});

describe('a problem', () => {
  it('has the status and the title of its code', () => {
    for (const [code, { status, title }] of Object.entries(PROBLEM_KINDS)) {
      const problem = new Problem(code as ProblemCode);
      expect([problem.status, problem.title, problem.message, problem.name]).toEqual([status, title, title, 'Problem']);
      expect(problem.toBody()).toEqual({ type: `urn:sentryagent:problem:${code}`, title, status, code });
    }
  });

  it.each<[string, (problem: Problem) => Problem, object]>([
    ['detail', (problem) => problem.withDetail('Other.'), { detail: 'Other.', message: 'Other.' }],
    ['private detail', (problem) => problem.withPrivateDetail('secret'), { privateDetail: 'secret' }],
    [
      'faults',
      (problem) => problem.withErrors({ pointer: '/b', detail: 'x' }),
      { errors: [{ pointer: '/b', detail: 'x' }] },
    ],
    ['headers', (problem) => problem.withHeaders({ 'X-B': '2' }), { headers: { 'X-A': '1', 'X-B': '2' } }],
    ['extensions', (problem) => problem.withExtensions({ used: 3 }), { extensions: { limit: 3, used: 3 } }],
  ])('gives a copy with other %s, keeps the rest, and stays as it is', (_what, change, changed) => {
    const before = state(original);
    const copy = change(original);
    expect(copy).not.toBe(original);
    expect(copy).toBeInstanceOf(Problem);
    expect(state(copy)).toEqual({ ...(before as object), ...changed });
    expect(state(original)).toEqual(before);
  });

  it('answers what is public, extensions among the members, and never the private detail', () => {
    const body = original.withPrivateDetail('the secret cause').toBody();
    expect(body).toEqual({
      type: 'urn:sentryagent:problem:conflict',
      title: PROBLEM_KINDS.conflict.title,
      status: 409,
      detail: 'Public.',
      code: 'conflict',
      errors: [{ pointer: '/a', detail: 'wrong' }],
      limit: 3,
    });
    expect(JSON.stringify(body)).not.toContain('secret');
  });
});

describe('the catalogue of problems', () => {
  it('has the codes of the contract with their statuses', () => {
    const statuses = Object.fromEntries(Object.entries(PROBLEM_KINDS).map(([code, { status }]) => [code, status]));
    expect(statuses).toMatchObject({
      validation_failed: 400,
      invalid_token: 401,
      insufficient_scope: 403,
      limit_reached: 403,
      not_found: 404,
      method_not_allowed: 405,
      conflict: 409,
      payload_too_large: 413,
      unsupported_media_type: 415,
      rate_limited: 429,
      unavailable: 503,
    });
  });

  it('has no private detail and no faults of its own', () => {
    for (const problem of Object.values(problems)) {
      expect([problem.privateDetail, problem.errors]).toEqual([undefined, undefined]);
    }
    expect(Number(problems.unavailable.headers['Retry-After'])).toBeGreaterThan(0);
  });
});

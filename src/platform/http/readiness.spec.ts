import { describe, expect, it } from '@jest/globals';
import { HealthIndicatorService } from '@nestjs/terminus';
import type { DataSource } from 'typeorm';
import { Readiness } from './readiness.js';

function readinessOf(query: () => Promise<unknown>, isOverloaded = false): Readiness {
  return new Readiness({ query } as unknown as DataSource, new HealthIndicatorService(), { isOverloaded });
}

describe('Readiness', () => {
  it('is ready while the database answers', async () => {
    await expect(readinessOf(() => Promise.resolve([])).check()).resolves.toEqual({
      status: 'ok',
      checks: { database: 'up' },
    });
  });

  it('is not ready when the database fails, and tells nothing of the failure', async () => {
    const failure = readinessOf(() => Promise.reject(new Error('10.0.0.1 refused'))).check();
    await expect(failure).rejects.toMatchObject({ status: 503, extensions: { checks: { database: 'down' } } });
    await expect(failure).rejects.not.toMatchObject({ message: expect.stringContaining('10.0.0.1') });
  });

  it('gives the database one second, and asks it once at a time', async () => {
    let questions = 0;
    const readiness = readinessOf(() => {
      questions++;
      return new Promise((resolve) => setTimeout(resolve, 1_500));
    });
    const startedAt = performance.now();
    const checks = await Promise.allSettled([readiness.check(), readiness.check(), readiness.check()]);
    expect(checks.every(({ status }) => status === 'rejected')).toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(1_400);
    expect(questions).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 700));
  });

  it('stays ready while it is overloaded, and says so', async () => {
    const readiness = readinessOf(() => Promise.resolve([]), true);
    expect(await readiness.check()).toEqual({ status: 'ok', checks: { database: 'up', load: 'overloaded' } });
  });

  it('is not ready once it drains', async () => {
    const readiness = readinessOf(() => Promise.resolve([]));
    readiness.drain();
    await expect(readiness.check()).rejects.toMatchObject({ status: 503, extensions: { checks: { draining: true } } });
  });
});

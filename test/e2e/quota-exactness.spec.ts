import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { holdLedgers, ledgerOf, lockWaiters, queueDepth, until, withPatientStatements } from '../faults/conditions.js';
import type { Answer } from '../support/api.js';
import { SettableClock } from '../support/settable-clock.js';
import { tellRefusals } from '../support/refusals.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

const NOVEMBER = 202611;

let database: TestDatabase;
let one: TestApp;
let other: TestApp;
let operator: string;

beforeEach(async () => {
  database = await createTestDatabase();
  const env = { ISSUER: 'https://issuer.example' };
  one = await withPatientStatements(await startTestApp({ database, env, clock: new SettableClock() }));
  other = await withPatientStatements(await startTestApp({ database, env, clock: new SettableClock() }));
  one.clock.set('2026-11-15T12:00:00.000Z');
  other.clock.set('2026-11-15T12:00:00.000Z');
  operator = await one.api.token(one.operator);
});
afterEach(async () => {
  await one.close();
  await other.close();
  await database.drop();
});

/** Gives the organization a limit, and a month in which it has used some of it. */
async function limitTo(limit: number | null, used = 0): Promise<void> {
  await database.query('UPDATE organizations SET limit_tokens_per_month = $1', [limit]);
  await database.query('UPDATE organization_ledgers SET quota_month = $1, tokens_used = $2', [NOVEMBER, used]);
}

/** Token requests in parallel, spread over both replicas. */
function ask(count: number): Promise<Answer[]> {
  const { operator: client } = one;
  return Promise.all(
    Array.from({ length: count }, (_, index) => (index % 2 === 0 ? one : other).api.requestToken(client)),
  );
}

function count(answers: readonly Answer[], status: number): number {
  return answers.filter((answer) => answer.status === status).length;
}

async function events(action: string): Promise<{ outcome: string; details: Record<string, unknown> }[]> {
  return database.query(
    'SELECT outcome, details FROM audit_events WHERE action = $1 ORDER BY organization_id, sequence',
    [action],
  );
}

async function expectValidChain(): Promise<void> {
  await database.query('UPDATE organizations SET limit_tokens_per_month = NULL');
  const token = await one.api.token(one.operator);
  // A refusal that was counted may be written between the two looks.
  await until('that the whole chain was looked at', async () => {
    const { body } = await one.api.call('GET', '/audit/verify', token);
    expect(body).toMatchObject({ valid: true });
    return body['checked'] === (await ledgerOf(database)).sequence;
  });
}

describe('the monthly quota over two replicas', () => {
  it('gives exactly 20 tokens to 50 parallel requests against a limit of 20', async () => {
    await limitTo(20);
    const issuedBefore = (await ledgerOf(database)).issued;
    const answers = await ask(50);
    expect(count(answers, 200)).toBe(20);
    expect(count(answers, 403)).toBe(30);
    for (const { status, body } of answers) {
      if (status === 403) expect(body['error']).toBe('unauthorized_client');
    }
    const ledger = await ledgerOf(database);
    expect(ledger.used).toBe(20);
    expect(ledger.issued - issuedBefore).toBe(20);
    await tellRefusals(one, other);
    const refusals = await events('token.refused');
    expect(refusals.map(({ details }) => details['count']).reduce((sum, each) => Number(sum) + Number(each), 0)).toBe(
      30,
    );
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ outcome: 'failure', details: { reason: 'quota_reached' } });
    }
    expect((await events('quota.threshold')).map(({ details }) => details)).toEqual([
      { limit: 20, period: '2026-11', thresholdPercent: 80 },
      { limit: 20, period: '2026-11', thresholdPercent: 100 },
    ]);
    const { body: quota } = await other.api.call('GET', '/quota', operator);
    expect(quota['tokens']).toMatchObject({ limit: 20, used: 20, remaining: 0 });
    await expectValidChain();
  });

  it('is exact where the limit is reached in the middle of one flush', async () => {
    await limitTo(20, 15);
    const hold = await holdLedgers(database);
    const first = one.api.requestToken(one.operator);
    await lockWaiters(database, 'issue_tokens');
    const gathered = Array.from({ length: 10 }, () => one.api.requestToken(one.operator));
    await queueDepth(one, 'tokens', 10);
    await hold.release();
    const answers = await Promise.all([first, ...gathered]);
    expect(count(answers, 200)).toBe(5);
    expect(count(answers, 403)).toBe(6);
    expect((await ledgerOf(database)).used).toBe(20);
    expect(await events('quota.threshold')).toMatchObject([
      { details: { thresholdPercent: 80 } },
      { details: { thresholdPercent: 100 } },
    ]);
    await expectValidChain();
  });

  it('does not count refused requests, whatever the reason', async () => {
    await limitTo(20, 10);
    const refused = [
      await one.api.requestToken({ ...one.operator, clientSecret: 'wrong' }),
      await one.api.requestToken(one.operator, { scope: 'no:such-scope' }),
      await other.api.requestToken(one.operator, { resource: 'https://unknown.example' }),
      await other.api.requestToken(one.operator, { grant_type: 'password' }),
    ];
    for (const { status } of refused) expect(status).toBeGreaterThanOrEqual(400);
    expect((await ledgerOf(database)).used).toBe(10);
  });

  it('holds on the next request to any replica when it is changed', async () => {
    await limitTo(0);
    expect(count(await ask(4), 403)).toBe(4);
    await limitTo(2);
    expect(count(await ask(4), 200)).toBe(2);
    await limitTo(1, 2);
    expect(count(await ask(2), 403)).toBe(2);
    await limitTo(null, 2);
    expect(count(await ask(4), 200)).toBe(4);
    expect((await ledgerOf(database)).used).toBe(6);
  });

  it('crosses only the last threshold where a limit of 1 is used up', async () => {
    await limitTo(1);
    await ask(1);
    expect(await events('quota.threshold')).toMatchObject([{ details: { thresholdPercent: 100 } }]);
  });

  it('begins anew with the month, once, although the clock of one replica lags behind', async () => {
    await limitTo(20, 20);
    expect(count(await ask(2), 403)).toBe(2);
    one.clock.set('2026-12-01T00:00:00.000Z');
    other.clock.set('2026-11-30T23:59:59.000Z');
    // Whoever comes first from the replica that is ahead begins December for both.
    expect(count([await one.api.requestToken(one.operator)], 200)).toBe(1);
    const answers = await ask(50);
    expect(count(answers, 200)).toBe(19);
    expect(count(answers, 403)).toBe(31);
    expect((await ledgerOf(database)).used).toBe(20);
    const periods = (await events('quota.threshold')).map(({ details }) => details['period']);
    expect(periods).toEqual(['2026-12', '2026-12']);
    await expectValidChain();
  });
});

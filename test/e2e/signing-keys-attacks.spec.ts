import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { KeySchedule } from '../../src/keys/key-schedule.js';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';
import { addOrganization } from '../support/organizations.js';
import { advance, jwksKids, kidOf, kidsOf, publishedLongAgo, TwoReplicas } from '../support/signing-keys.js';
import { type TestApp } from '../support/test-app.js';

let replicas: TwoReplicas;
let one: TestApp;
let other: TestApp;

async function start(): Promise<void> {
  replicas = await TwoReplicas.start();
  ({ one, other } = replicas);
}

describe('attacks on the signing keys', () => {
  beforeAll(start);
  afterAll(() => replicas.stop());

  it('by anybody without admin:orgs are refused, and change nothing', async () => {
    await publishedLongAgo(one.database);
    const [active = ''] = await kidsOf(one.database, 'active');
    const before = await jwksKids(one);
    const scopes = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== 'admin:orgs');
    const tenant = await addOrganization(one, replicas.operator);
    const tenantAgent = await one.api.agent(replicas.operator, { organizationId: tenant, scopes });
    const colleague = await one.api.agent(replicas.operator, { scopes });
    for (const agent of [tenantAgent, colleague]) {
      const token = await one.api.token(agent);
      for (const answer of [
        await one.api.call('GET', '/keys', token),
        await replicas.rotate(token),
        await replicas.revoke(active, token),
      ]) {
        expect([answer.status, answer.body['code']]).toEqual([403, 'insufficient_scope']);
      }
    }
    expect(await jwksKids(one)).toEqual(before);
  });

  it.each([
    ['one that was never made', 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'],
    ['odd characters', '%00%0a%22%27;DROP%20TABLE%20signing_keys;--'],
    ['a path', '..%2f..%2fagents'],
    ['another script', encodeURIComponent('ключ')],
    ['a very long one', 'x'.repeat(4000)],
    ['a pattern', '%25'],
  ])('revoke a kid that is none: %s', async (_name, kid) => {
    const { status, body } = await replicas.revoke(kid);
    expect([status, body['code']]).toEqual([404, 'not_found']);
  });

  it('revoke a key twice, or one that checkpoints need', async () => {
    const killed = kidOf(replicas.operator);
    expect((await replicas.revoke(killed)).status).toBe(200);
    await replicas.renew();
    const twice = await replicas.revoke(killed);
    expect([twice.status, twice.body['code']]).toEqual([409, 'conflict']);
    for (const phase of ['active', 'next']) {
      const [audit = ''] = await kidsOf(one.database, phase, 'audit');
      expect((await replicas.revoke(audit)).status).toBe(409);
    }
    expect(await kidsOf(one.database, 'revoked')).toEqual([killed]);
  });

  it('revoke the same key many times at once: one wins', async () => {
    const killed = kidOf(replicas.operator);
    const statuses = (
      await Promise.all(
        Array.from({ length: 8 }, (_, at) => replicas.revoke(killed, replicas.operator, at % 2 ? one : other)),
      )
    ).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    // The others are too late, their own token died with the key, or a slow machine had them wait for the lock in vain.
    expect(statuses.filter((status) => ![200, 401, 409, 503].includes(status))).toEqual([]);
    await replicas.renew();
    expect(await kidsOf(one.database, 'active')).toHaveLength(1);
    expect(await kidsOf(one.database, 'next')).toHaveLength(1);
  });

  it('rotate many times at once: one wins', async () => {
    await replicas.renew();
    await publishedLongAgo(one.database);
    const statuses = (
      await Promise.all(Array.from({ length: 8 }, (_, at) => replicas.rotate(replicas.operator, at % 2 ? one : other)))
    ).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(statuses.filter((status) => ![200, 409, 503].includes(status))).toEqual([]);
    expect(await kidsOf(one.database, 'next')).toHaveLength(1);
  });

  it.each([{ purpose: 'other' }, { purpose: null }, { purpose: ['audit'] }, { kid: 'x' }, []])(
    'rotate with a body that is none: %j',
    async (body) => {
      await replicas.renew();
      expect((await one.api.call('POST', '/keys/rotate', replicas.operator, body)).status).toBe(400);
    },
  );

  it('go on with a token of a revoked key: it is dead whatever its signature says', async () => {
    const killed = replicas.operator;
    await replicas.revoke(kidOf(killed));
    await replicas.renew();
    for (const { api } of [one, other]) {
      expect((await api.call('GET', '/agents', killed)).status).toBe(401);
      expect((await api.revoke(killed, replicas.operator)).status).toBe(401);
    }
    expect((await one.api.call('GET', '/agents', replicas.operator)).status).toBe(200);
  });

  it('revoke so many keys that those that are retired never leave the JWKS', async () => {
    const { database } = one;
    await database.query(
      `INSERT INTO signing_keys (kid, purpose, algorithm, phase, public_jwk, sealed_private_key, created_at, retired_at,
          revoked_at)
        SELECT 'revoked-' || i, purpose, algorithm, 'revoked', public_jwk, ''::bytea, '2026-01-01'::timestamptz, NULL::timestamptz, now()
          FROM signing_keys, generate_series(1, 100) AS i WHERE phase = 'active' AND purpose = 'access_token'
        UNION ALL
        SELECT 'retired', purpose, algorithm, 'retired', public_jwk, ''::bytea, now(), now() - interval '2 days', NULL
          FROM signing_keys WHERE phase = 'active' AND purpose = 'access_token'`,
    );
    await advance(one);
    expect(await kidsOf(database, 'retired')).not.toContain('retired');
  });

  it('go on with one after a standby took over that had not got the last changes of the keys', async () => {
    await replicas.renew();
    const killed = replicas.operator;
    const { database } = one;
    await database.query('UPDATE signing_key_set SET version = version - 2');
    await other.app.get(KeySchedule).poll();
    // By another replica, in two steps: the count is where it was before.
    await database.query("UPDATE signing_keys SET phase = 'revoked' WHERE kid = $1", [kidOf(killed)]);
    await database.query("UPDATE signing_keys SET phase = 'active' WHERE phase = 'next' AND purpose = 'access_token'");
    expect((await other.api.call('GET', '/agents', killed)).status).toBe(401);
  });
});

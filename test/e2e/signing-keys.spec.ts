import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { KeysService } from '../../src/keys/keys.service.js';
import { holdLedgers, lockWaiters } from '../faults/conditions.js';
import { claimsOf } from '../support/api.js';
import {
  advance,
  jwksKids,
  kidOf,
  kidsOf,
  publishedLongAgo,
  TwoReplicas,
  type ShownKey,
} from '../support/signing-keys.js';
import { type TestApp } from '../support/test-app.js';

let replicas: TwoReplicas;
let one: TestApp;
let other: TestApp;

async function start(): Promise<void> {
  replicas = await TwoReplicas.start();
  ({ one, other } = replicas);
}

describe('our signing keys', () => {
  beforeEach(start);
  afterEach(() => replicas.stop());

  it('are listed with their phases, page by page, and nothing of their private halves', async () => {
    const { status, body, text } = await one.api.call<{ data: ShownKey[]; nextCursor: null }>(
      'GET',
      '/keys',
      replicas.operator,
    );
    expect(status).toBe(200);
    expect(body.data.map(({ purpose, algorithm, phase }) => `${purpose} ${algorithm} ${phase}`).sort()).toEqual([
      'access_token RS256 active',
      'access_token RS256 next',
      'audit ES256 active',
      'audit ES256 next',
    ]);
    expect(text).not.toMatch(/sealed|private|"d"/i);
    const next = body.data.find(({ phase, purpose }) => phase === 'next' && purpose === 'access_token');
    expect(Date.parse(next?.['usableFrom'] ?? '') - Date.parse(next?.['createdAt'] ?? '')).toBeGreaterThanOrEqual(
      330_000,
    );
    const seen: unknown[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page: { data: ShownKey[]; nextCursor: string | null } = (
        await one.api.call<never>('GET', `/keys?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`, replicas.operator)
      ).body;
      seen.push(...page.data);
      cursor = page.nextCursor;
    }
    expect(seen).toEqual(body.data);
  });

  it('are not rotated before everybody who keeps the JWKS has the next one', async () => {
    const before = await jwksKids(one);
    for (let time = 1; time <= 5; time += 1) {
      const { status, body, headers } = await replicas.rotate();
      expect([status, body['code']]).toEqual([409, 'conflict']);
      expect(headers.get('retry-after')).toMatch(/^[1-9]\d{0,2}$/);
    }
    expect(await jwksKids(one)).toEqual(before);
  });

  it('are rotated: every replica signs with the next one, and takes the tokens of both', async () => {
    const [[active = ''], [next = '']] = [await kidsOf(one.database, 'active'), await kidsOf(one.database, 'next')];
    await publishedLongAgo(one.database);
    const { status, body } = await replicas.rotate();
    expect([status, body]).toEqual([200, expect.objectContaining({ kid: next, phase: 'active', usableFrom: null })]);
    const tokens = [replicas.operator, await one.api.token(one.operator), await other.api.token(one.operator)];
    expect(tokens.map(kidOf)).toEqual([active, next, next]);
    for (const replica of [one, other]) {
      for (const token of tokens)
        expect(await replica.api.introspect(replicas.operator, token)).toMatchObject({ active: true });
      expect((await replica.api.call('GET', '/keys', tokens[2] ?? '')).status).toBe(200);
    }
    const [spare = ''] = await kidsOf(one.database, 'next');
    expect(await jwksKids(other)).toEqual(expect.arrayContaining([active, next, spare]));
    expect((await replicas.events('key.rotated'))[0]).toMatchObject({
      organizationId: claimsOf(replicas.operator)['org'],
      actor: one.operator.clientId,
      target: { type: 'key', id: next },
      details: { algorithm: 'RS256', purpose: 'access_token', retiredKid: active, nextKid: spare },
    });
    // The new next key is not known to all either.
    expect((await replicas.rotate()).status).toBe(409);
  });

  it('of checkpoints are rotated by the same rules, and apart from those of tokens', async () => {
    const audit = (): ReturnType<typeof replicas.rotate> =>
      one.api.call<ShownKey>('POST', '/keys/rotate', replicas.operator, { purpose: 'audit' });
    expect((await audit()).status).toBe(409);
    await publishedLongAgo(one.database);
    const tokens = await kidsOf(one.database, 'active');
    const [next = ''] = await kidsOf(one.database, 'next', 'audit');
    const [old = ''] = await kidsOf(one.database, 'active', 'audit');
    expect((await audit()).body).toMatchObject({ kid: next, purpose: 'audit', phase: 'active' });
    expect(await kidsOf(one.database, 'active')).toEqual(tokens);
    const { body } = await other.api.call('GET', '/audit/checkpoint', replicas.operator);
    expect(kidOf(String(body['checkpoint']))).toBe(next);
    // However old it is, it stays: its checkpoints do.
    await one.database.query("UPDATE signing_keys SET retired_at = retired_at - interval '20 years' WHERE kid = $1", [
      old,
    ]);
    await advance(one);
    expect(await jwksKids(one)).toContain(old);
    expect((await one.api.call('GET', '/audit/verify', replicas.operator)).body).toMatchObject({ valid: true });
    // What never signs again has no private half any more.
    const [row] = await one.database.query('SELECT sealed_private_key AS sealed FROM signing_keys WHERE kid = $1', [
      old,
    ]);
    expect(row?.['sealed']).toEqual(Buffer.alloc(0));
  });

  it('that are revoked take their tokens with them on the next request to any replica, and the next one signs', async () => {
    const [next = ''] = await kidsOf(one.database, 'next');
    const agent = await one.api.agent(replicas.operator, { scopes: ['agents:read', 'tokens:read'] });
    // Both replicas have seen the token, and remember that its signature is right.
    const token = await one.api.token(agent);
    for (const { api } of [one, other])
      expect(await api.introspect(replicas.operator, token)).toMatchObject({ active: true });
    const { status, body } = await replicas.revoke(kidOf(token));
    expect([status, body['phase'], body['kid']]).toEqual([200, 'revoked', kidOf(token)]);
    expect((await other.api.call('GET', `/agents/${agent.agentId}`, token)).status).toBe(401);
    expect((await one.api.call('GET', '/keys', replicas.operator)).status).toBe(401);
    const renewed = await other.api.token(one.operator);
    expect(kidOf(renewed)).toBe(next);
    for (const { api } of [one, other]) {
      expect(await api.introspect(renewed, token)).toEqual({ active: false });
      expect(await api.introspect(renewed, renewed)).toMatchObject({ active: true });
    }
    expect(await jwksKids(other)).not.toContain(kidOf(token));
    replicas.operator = renewed;
    const [spare = ''] = await kidsOf(one.database, 'next');
    expect(spare).not.toBe(next);
    expect((await replicas.events('key.revoked'))[0]).toMatchObject({
      actor: one.operator.clientId,
      target: { type: 'key', id: kidOf(token) },
      details: { algorithm: 'RS256', purpose: 'access_token', phase: 'active', successorKid: next },
    });
    expect((await replicas.events('key.created'))[0]).toMatchObject({
      actor: one.operator.clientId,
      target: { type: 'key', id: spare },
      details: { algorithm: 'RS256', purpose: 'access_token', phase: 'next' },
    });
  });

  it('that are revoked one after the other never leave the operator without a key', async () => {
    for (let time = 1; time <= 3; time += 1) {
      const killed = kidOf(replicas.operator);
      expect((await replicas.revoke(killed)).status).toBe(200);
      await replicas.renew(time % 2 === 0 ? one : other);
      expect(kidOf(replicas.operator)).not.toBe(killed);
    }
    expect(await kidsOf(one.database, 'active')).toHaveLength(1);
    expect(await kidsOf(one.database, 'next')).toHaveLength(1);
    expect(await kidsOf(one.database, 'revoked')).toHaveLength(3);
    expect((await one.api.call('GET', '/audit/verify', replicas.operator)).body).toMatchObject({ valid: true });
  });

  it('that are revoked where no other was published ahead make two, and the log tells of both', async () => {
    const [next = ''] = await kidsOf(one.database, 'next');
    await one.database.query('DELETE FROM signing_keys WHERE kid = $1', [next]);
    const killed = kidOf(replicas.operator);
    expect((await replicas.revoke(killed)).status).toBe(200);
    await replicas.renew();
    const [[active = ''], [spare = '']] = [await kidsOf(one.database, 'active'), await kidsOf(one.database, 'next')];
    expect((await replicas.events('key.created')).reverse()).toEqual([
      expect.objectContaining({
        target: { type: 'key', id: active },
        details: expect.objectContaining({ phase: 'active' }),
      }),
      expect.objectContaining({
        target: { type: 'key', id: spare },
        details: expect.objectContaining({ phase: 'next' }),
      }),
    ]);
  });

  it('that are next or retired are revoked alone', async () => {
    await publishedLongAgo(one.database);
    await replicas.rotate();
    const [retired = ''] = await kidsOf(one.database, 'retired');
    const [next = ''] = await kidsOf(one.database, 'next');
    await replicas.renew();
    const signing = kidOf(replicas.operator);
    const agent = await one.api.agent(replicas.operator);
    expect((await replicas.revoke(next)).body).toMatchObject({ phase: 'revoked' });
    expect((await replicas.revoke(retired)).body).toMatchObject({ phase: 'revoked' });
    expect(kidOf(await other.api.token(agent))).toBe(signing);
    expect(await jwksKids(one)).toEqual(expect.not.arrayContaining([next, retired]));
    expect(await kidsOf(one.database, 'next')).toHaveLength(1);
    expect(await kidsOf(one.database, 'revoked')).toEqual(expect.arrayContaining([next, retired]));
  });

  it('sign anew what is being issued while its key is revoked: the same token, which lives', async () => {
    const [[active = ''], [next = '']] = [await kidsOf(one.database, 'active'), await kidsOf(one.database, 'next')];
    const agent = await one.api.agent(replicas.operator);
    const hold = await holdLedgers(one.database);
    const asked = one.api.token(agent);
    await lockWaiters(one.database, 'issue_tokens');
    // As an act of another replica that had the locks before.
    await hold.query("UPDATE signing_keys SET phase = 'revoked', revoked_at = now() WHERE kid = $1", [active]);
    await hold.query("UPDATE signing_keys SET phase = 'active' WHERE kid = $1", [next]);
    await hold.release();
    const token = await asked;
    expect(kidOf(token)).toBe(next);
    await replicas.renew();
    expect(await other.api.introspect(replicas.operator, token)).toMatchObject({
      active: true,
      jti: claimsOf(token)['jti'],
    });
    const issued = await one.database.query(
      "SELECT 1 FROM audit_events WHERE action = 'token.issued' AND target_id = $1",
      [claimsOf(token)['jti']],
    );
    expect(issued).toHaveLength(1);
  });

  it('end an act whose caller has a token of a key that is revoked while the act waits', async () => {
    const [[active = ''], [next = '']] = [await kidsOf(one.database, 'active'), await kidsOf(one.database, 'next')];
    const hold = await holdLedgers(one.database);
    const asked = one.api.call('POST', '/agents', replicas.operator, { name: 'x' });
    await lockWaiters(one.database, 'SELECT 1 FROM organization_ledgers WHERE');
    await hold.query("UPDATE signing_keys SET phase = 'revoked', revoked_at = now() WHERE kid = $1", [active]);
    await hold.query("UPDATE signing_keys SET phase = 'active' WHERE kid = $1", [next]);
    await hold.release();
    const { status, body } = await asked;
    expect([status, body['code']]).toEqual([401, 'invalid_token']);
  });

  it('are followed by a replica that looks for nothing by itself, at its next request', async () => {
    // Neither polls.
    for (const { app } of [one, other]) Object.assign(app.get(KeysService)['ring'], { isServing: false });
    await publishedLongAgo(one.database);
    await replicas.rotate();
    const [active = ''] = await kidsOf(one.database, 'active');
    const token = await one.api.token(one.operator);
    expect(kidOf(token)).toBe(active);
    expect(await other.api.introspect(token, token)).toMatchObject({ active: true });
    expect((await replicas.revoke(active, token)).status).toBe(200);
    const renewed = await one.api.token(one.operator);
    // This one was never published ahead long enough; nobody but the database told the other replica.
    expect(await other.api.introspect(renewed, token)).toEqual({ active: false });
  });
});

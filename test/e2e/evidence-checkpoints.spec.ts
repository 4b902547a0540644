import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  CompactSign,
  compactVerify,
  createLocalJWKSet,
  decodeProtectedHeader,
  SignJWT,
  type JSONWebKeySet,
} from 'jose';
import { createHash, createPrivateKey } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { KeyRotationService, NOBODY } from '../../src/keys/key-rotation.service.js';
import { CheckpointFollower } from '../../src/evidence/checkpoint-follower.js';
import { CheckpointsService } from '../../src/evidence/checkpoints.service.js';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { claimsOf, type TestAgent } from '../support/api.js';
import { publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { TEST_MASTER_KEY } from '../support/test-database.js';

interface CheckpointView {
  readonly checkpoint: string;
  readonly sequence: number;
  readonly hash: string;
  readonly previousCheckpointHash: string | null;
}

const FOREIGN = '11111111-1111-4111-8111-111111111111';

/** Waits until `probe` gives something, for at most ten seconds of the machine's time. */
async function eventually<T>(probe: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = performance.now() + 10_000; ; await delay(20)) {
    const found = await probe();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error('it did not come about');
  }
}

describe('signed checkpoints', () => {
  let service: TestApp;
  let token: string;
  let organizationId: string;

  const get = (path: string, caller = token) => service.api.call('GET', path, caller);
  const current = async () => (await get('/audit/checkpoint')).body['checkpoint'] as string;
  const list = async () => (await get('/audit/checkpoints?limit=200')).body['data'] as CheckpointView[];
  const jwks = async () =>
    (await service.api.send<{ keys: Record<string, string>[] }>('GET', '/.well-known/jwks.json')).body;

  beforeAll(async () => {
    service = await startTestApp();
    token = await service.api.token(service.operator);
    organizationId = claimsOf(token)['org'] as string;
  });
  afterAll(() => service.close());

  it('covers every event committed before the request, signed with the audit key of the JWKS', async () => {
    const [newest] = (await get('/audit?limit=1')).body['data'] as { sequence: number; hash: string }[];
    const checkpoint = await current();
    const keys = await jwks();
    const { payload, protectedHeader } = await compactVerify(
      checkpoint,
      createLocalJWKSet(keys as unknown as JSONWebKeySet),
    );
    const audit = keys.keys.filter(({ purpose, kid }) => purpose === 'audit' && kid === protectedHeader.kid);
    expect(audit).toEqual([expect.objectContaining({ use: 'sig', alg: 'ES256', kid: protectedHeader.kid })]);
    expect(Object.keys(audit[0] ?? {})).not.toContain('d');
    expect(protectedHeader).toEqual({ alg: 'ES256', typ: 'audit-checkpoint+jwt', kid: audit[0]?.['kid'] });
    expect(JSON.parse(Buffer.from(payload).toString())).toEqual({
      organizationId,
      sequence: newest?.sequence,
      hash: newest?.hash,
      rootHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      issuedAt: expect.stringMatching(/Z$/),
      previousCheckpointHash: null,
    });
  });

  it('gives the same one while nothing happens, and then one that names the one before', async () => {
    const before = await current();
    expect(await current()).toBe(before);
    await service.api.token(service.operator);
    const after = await current();
    expect(claimsOf(after)['sequence']).toBe((claimsOf(before)['sequence'] as number) + 1);
    expect(claimsOf(after)['previousCheckpointHash']).toBe(createHash('sha256').update(before).digest('hex'));
    expect((await list()).map(({ checkpoint }) => checkpoint).slice(0, 2)).toEqual([after, before]);
  });

  it('pages through all of them, and takes no cursor of another list or tenant', async () => {
    await service.api.token(service.operator);
    await current();
    const all = await list();
    const first = await get('/audit/checkpoints?limit=1');
    const cursor = first.body['nextCursor'] as string;
    const second = await get(`/audit/checkpoints?limit=200&cursor=${cursor}`);
    expect([...(first.body['data'] as unknown[]), ...(second.body['data'] as unknown[])]).toEqual(all);
    const events = (await get('/audit?limit=1')).body['nextCursor'] as string;
    const foreign = Buffer.from(JSON.stringify([`audit-checkpoints:${FOREIGN}`, '1'])).toString('base64url');
    for (const path of [
      `/audit/checkpoints?cursor=${events}`,
      `/audit/checkpoints?cursor=${foreign}`,
      `/audit?cursor=${cursor}`,
    ]) {
      expect((await get(path)).status).toBe(400);
    }
  });

  it('signs at most 60 s after an event, and adds nothing to the chain that it signs', async () => {
    await service.api.token(service.operator);
    const newest = (await list())[0]?.sequence ?? 0;
    service.clock.advance(61);
    const signed = await eventually(async () => (await list()).find(({ sequence }) => sequence > newest));
    const [newestEvent] = (await get('/audit?limit=1')).body['data'] as { sequence: number; action: string }[];
    expect(newestEvent).toMatchObject({ sequence: signed.sequence, action: 'token.issued' });
    // Nothing more wants a checkpoint, however long it takes.
    const count = (await list()).length;
    service.clock.advance(600);
    const follower = service.app.get(CheckpointFollower);
    // More than a pass over all ledgers.
    for (let poll = 0; poll < 30; poll += 1) await follower.poll();
    await follower.settled();
    expect((await list()).length).toBe(count);
  });

  it('signs at most 1,000 events after an event', async () => {
    const agent = await service.api.agent(token, { scopes: [] });
    const before = (await list())[0]?.sequence ?? 0;
    await Promise.all(Array.from({ length: 20 }, () => issue(service, agent, 36)));
    await eventually(async () => (await list()).find(({ sequence }) => sequence > before));
    expect((await get('/audit/verify')).body).toMatchObject({ valid: true });
  }, 60_000);

  it('keeps other tenants out', async () => {
    const agent = await service.api.agent(token, { scopes: ['audit:read'] });
    const plain = await service.api.token(agent);
    const nothing = await service.api.token(await service.api.agent(token, { scopes: ['agents:read'] }));
    for (const path of ['/audit/checkpoint', '/audit/checkpoints', '/audit/verify']) {
      expect((await get(`${path}?organizationId=${FOREIGN}`, plain)).status).toBe(403);
      expect((await get(path, nothing)).status).toBe(403);
      expect((await get(`${path}?unknown=1`, plain)).status).toBe(400);
    }
    expect((await get(`/audit/checkpoint?organizationId=${FOREIGN}`)).status).toBe(404);
    expect((await get(`/audit/verify?organizationId=${FOREIGN}`)).status).toBe(404);
    expect((await get('/audit/verify?fromSequence=3&toSequence=2')).status).toBe(400);
    for (const body of [
      {},
      { checkpoint: '' },
      { checkpoint: 7 },
      { checkpoint: 'x', more: 1 },
      { checkpoint: 'x'.repeat(9000) },
    ]) {
      expect((await service.api.call('POST', '/audit/verify', token, body)).status).toBe(400);
    }
  });

  it('takes no access token signed with the audit key, and no checkpoint signed with the key of tokens', async () => {
    const rows = await service.database.query<{ kid: string; purpose: string; sealed_private_key: Buffer }>(
      "SELECT * FROM signing_keys WHERE phase = 'active'",
    );
    const keyOf = (purpose: string) => {
      const row = rows.find((key) => key.purpose === purpose);
      if (row === undefined) throw new Error(`no key for ${purpose}`);
      const der = new Sealer(TEST_MASTER_KEY).open(row.sealed_private_key, `signing-key:${row.kid}`);
      return { kid: row.kid, key: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }) };
    };
    const audit = keyOf('audit');
    const forged = await new SignJWT(claimsOf(token))
      .setProtectedHeader({ alg: 'ES256', kid: audit.kid, typ: 'JWT' })
      .sign(audit.key);
    expect((await get('/audit', forged)).status).toBe(401);
    expect((await get('/audit', await current())).status).toBe(401);

    const access = keyOf('access_token');
    const { alg } = decodeProtectedHeader(token);
    const checkpoint = await new CompactSign(Buffer.from(JSON.stringify(claimsOf(await current()))))
      .setProtectedHeader({ alg: alg ?? '', kid: access.kid, typ: 'audit-checkpoint+jwt' })
      .sign(access.key);
    const verdict = await service.api.call('POST', '/audit/verify', token, { checkpoint });
    expect(verdict.body).toMatchObject({ valid: false, reason: 'checkpoint_not_authentic' });
  });

  it('rotates the audit key with overlap', async () => {
    const before = await current();
    await publishedLongAgo(service.database);
    const { kid } = await service.app.get(KeyRotationService).rotate(NOBODY, 'audit');
    await service.api.token(service.operator);
    const after = await current();
    expect(decodeProtectedHeader(after).kid).toBe(kid);
    // The one before, the one that signs, and the one after.
    expect((await jwks()).keys.filter(({ purpose }) => purpose === 'audit')).toHaveLength(3);
    for (const checkpoint of [before, after]) {
      expect((await service.api.call('POST', '/audit/verify', token, { checkpoint })).body).toMatchObject({
        valid: true,
      });
    }
  });

  it.each(['servingUrl', 'owningUrl'] as const)('lets %s neither change nor remove what was logged', async (role) => {
    const client = new pg.Client({ connectionString: service.database[role] });
    await client.connect();
    try {
      for (const statement of [
        "UPDATE audit_events SET action = 'agent.created'",
        'DELETE FROM audit_events',
        'DELETE FROM audit_events WHERE sequence = (SELECT max(sequence) FROM audit_events)',
        'TRUNCATE audit_events',
        'TRUNCATE organizations CASCADE, audit_events',
        "UPDATE audit_checkpoints SET checkpoint = ''",
        'DELETE FROM audit_checkpoints',
        'TRUNCATE audit_checkpoints',
        'DELETE FROM audit_tree_tiles',
        'TRUNCATE audit_tree_tiles',
        "UPDATE audit_tree_tiles SET hashes = ''",
      ]) {
        await expect(client.query(statement)).rejects.toMatchObject({ code: expect.stringMatching(/^42/) });
      }
      if (role === 'servingUrl') {
        await expect(client.query('UPDATE audit_trees SET removed_through = 5')).rejects.toMatchObject({
          code: '42501',
        });
        await expect(client.query('DELETE FROM audit_trees')).rejects.toMatchObject({ code: '42501' });
      }
    } finally {
      await client.end();
    }
  });

  it('stores one checkpoint where two instances find a chain due at once', async () => {
    const second = await startTestApp({
      database: service.database,
      clock: service.clock,
      env: { ISSUER: service.issuer },
    });
    try {
      const agent = await service.api.agent(token, { scopes: ['audit:read'] });
      const [one, other] = [service, second].map(({ app }) => app.get(CheckpointsService));
      const stored = async () =>
        Number(
          (
            await service.database.query<{ count: string }>(
              'SELECT count(*) FROM audit_checkpoints WHERE organization_id = $1',
              [organizationId],
            )
          )[0]?.count,
        );
      const before = await stored();
      for (let round = 0; round < 20; round += 1) {
        await issue(service, agent, 1);
        const seen = (await one?.newestSequence(organizationId)) ?? 0;
        // The chain grows between what the one reads and what the other does.
        await Promise.all([
          one?.follow(organizationId, seen),
          issue(second, agent, 1),
          other?.follow(organizationId, seen),
        ]);
      }
      expect(await stored()).toBe(before + 20);
      const { body } = await second.api.call('GET', '/audit/verify', token);
      expect(body).toMatchObject({ valid: true, firstSequence: 1, brokenAt: null });
    } finally {
      await second.close();
    }
  }, 60_000);

  it('gives one gapless chain when two instances write at once', async () => {
    const second = await startTestApp({
      database: service.database,
      clock: service.clock,
      env: { ISSUER: service.issuer },
    });
    try {
      const agent = await service.api.agent(token, { scopes: ['audit:read'] });
      const asked = Array.from({ length: 8 }, (_, index) =>
        second.api
          .call('GET', '/audit/checkpoint', token)
          .then(() => issue(index % 2 === 0 ? service : second, agent, 10)),
      );
      await Promise.all([...asked, issue(service, agent, 60), issue(second, agent, 60), current(), current()]);
      const { body } = await second.api.call('GET', '/audit/verify', token);
      expect(body).toMatchObject({ valid: true, firstSequence: 1, brokenAt: null });
      const [counted] = await service.database.query<{ events: string; last: string }>(
        'SELECT count(*) AS events, max(sequence) AS last FROM audit_events',
      );
      expect(counted?.events).toBe(counted?.last);
      expect(Number(counted?.last)).toBeGreaterThanOrEqual(Number(body['checked']));
    } finally {
      await second.close();
    }
  }, 60_000);
});

/** Issues `count` tokens, one after another. */
async function issue(service: TestApp, agent: TestAgent, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) await service.api.token(agent);
}

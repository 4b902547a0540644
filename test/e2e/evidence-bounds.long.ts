import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import { CheckpointFollower } from '../../src/evidence/checkpoint-follower.js';
import { claimsOf, type TestAgent } from '../support/api.js';
import { addOrganization } from '../support/organizations.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

interface CheckpointView {
  readonly checkpoint: string;
  readonly sequence: number;
  readonly previousCheckpointHash: string | null;
}

/** The most events of a chain that wait for a checkpoint, at this instant. */
async function waiting(service: TestApp): Promise<number> {
  const [row] = await service.database.query<{ most: string }>(
    `SELECT max(l.sequence - coalesce(t.checkpoint_sequence, 0)) AS most
      FROM organization_ledgers l LEFT JOIN audit_trees t ON t.organization_id = l.organization_id`,
  );
  return Number(row?.most ?? 0);
}

describe('a checkpoint at most 1,000 events after an event', () => {
  it('is there under load on two instances, and every chain is gapless', async () => {
    const first = await startTestApp();
    const second = await startTestApp({ database: first.database, clock: first.clock, env: { ISSUER: first.issuer } });
    try {
      const operator = await first.api.token(first.operator);
      const tenants = [await addOrganization(first, operator), await addOrganization(first, operator)];
      const agents = await Promise.all(
        tenants.map((organizationId) => first.api.agent(operator, { organizationId, scopes: ['audit:read'] })),
      );
      let most = 0;
      let busy = true;
      const watch = async () => {
        while (busy) most = Math.max(most, await waiting(first));
      };
      // Twenty callers an instance, three quarters of them for one organization.
      const load = [first, second].flatMap((service) =>
        Array.from({ length: 20 }, (_, caller) => issue(service, agents[caller % 4 === 0 ? 1 : 0] as TestAgent, 60)),
      );
      const watching = watch();
      await Promise.all(load);
      busy = false;
      await watching;
      // As many as the chain has to get before one is due, so that the bound was put to the test.
      expect(most).toBeGreaterThan(400);
      expect(most).toBeLessThanOrEqual(1000);
      for (const [index, agent] of agents.entries()) {
        const { body } = await second.api.call('GET', '/audit/verify', await second.api.token(agent));
        expect(body).toMatchObject({ valid: true, firstSequence: 1, brokenAt: null });
        const [counted] = await first.database.query<{ events: string; last: string; tokens: string }>(
          `SELECT count(*) AS events, max(sequence) AS last, count(*) FILTER (WHERE action = 'token.issued') AS tokens
            FROM audit_events WHERE organization_id = $1`,
          [tenants[index]],
        );
        expect(counted?.events).toBe(counted?.last);
        expect(Number(counted?.tokens)).toBe([1801, 601][index]);
      }
    } finally {
      await second.close();
      await first.close();
    }
  }, 120_000);
});

describe('a checkpoint at most 60 s after an event', () => {
  let service: TestApp;
  let token: string;
  let follower: CheckpointFollower;

  /** The age of the oldest event that no checkpoint covers, in seconds of the service's clock. */
  const oldest = async () => {
    const [row] = await service.database.query<{ at: Date | null }>(
      `SELECT min(e.occurred_at) AS at FROM audit_events e LEFT JOIN audit_trees t ON t.organization_id = e.organization_id
        WHERE e.sequence > coalesce(t.checkpoint_sequence, 0)`,
    );
    return row?.at === null || row?.at === undefined ? 0 : (service.clock.nowMs() - row.at.getTime()) / 1000;
  };

  beforeAll(async () => {
    const clock = new SettableClock();
    clock.freeze('2026-03-01T12:00:00Z');
    service = await startTestApp({ clock });
    follower = service.app.get(CheckpointFollower);
    token = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('is there second by second, whatever the pace of events', async () => {
    const ages: number[] = [];
    for (let second = 0; second < 125; second += 1) {
      if (second % 7 === 0) await service.api.token(service.operator);
      service.clock.advance(1);
      // A second has twenty polls; the fourth of these looks at all ledgers.
      for (let poll = 0; poll < 4; poll += 1) await follower.poll();
      await follower.settled();
      ages.push(await oldest());
    }
    expect(Math.max(...ages)).toBeLessThanOrEqual(60);
    // Not because every event gets one of its own.
    expect(Math.max(...ages)).toBeGreaterThan(40);
  }, 120_000);

  it('is found among 30,000 organizations within four seconds of polls, wherever it stands', async () => {
    await service.database.query(
      `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
        SELECT gen_random_uuid(), 'many', 'many-' || n, 'free', 'active', now(), now() FROM generate_series(1, 30000) n`,
    );
    await service.database.query(
      `INSERT INTO organization_ledgers (organization_id, head_hash)
        SELECT organization_id, sha256(convert_to(organization_id::text, 'UTF8')) FROM organizations
          WHERE slug LIKE 'many-%'`,
    );
    const ends = await service.database.query<{ organization_id: string }>(
      `(SELECT organization_id FROM organizations WHERE slug LIKE 'many-%' ORDER BY organization_id LIMIT 1) UNION ALL
        (SELECT organization_id FROM organizations WHERE slug LIKE 'many-%' ORDER BY organization_id DESC LIMIT 1)`,
    );
    for (const { organization_id: organizationId } of ends) {
      await service.api.agent(token, { organizationId, scopes: ['audit:read'] });
    }
    service.clock.advance(50);
    for (let poll = 0; poll < 80; poll += 1) await follower.poll();
    await follower.settled();
    const covered = await service.database.query(
      `SELECT 1 FROM audit_checkpoints c JOIN organization_ledgers l USING (organization_id, sequence)
        WHERE organization_id = ANY ($1::uuid[])`,
      [ends.map(({ organization_id }) => organization_id)],
    );
    expect(covered).toHaveLength(2);
  }, 60_000);

  it('does not wait for a chain that has much to take in', async () => {
    const organizationId = await addOrganization(service, token);
    const other = await addOrganization(service, token);
    await writeChain(service, organizationId, 45_000);
    await service.api.agent(token, { organizationId: other, scopes: [] });
    service.clock.advance(51);
    const covered = async (id: string) =>
      (
        await service.database.query<{ reached: boolean }>(
          `SELECT t.checkpoint_sequence = l.sequence AS reached FROM organization_ledgers l
            JOIN audit_trees t USING (organization_id) WHERE organization_id = $1`,
          [id],
        )
      )[0]?.reached === true;
    await until('the other has its checkpoint', () => covered(other));
    await until('the long one has its checkpoint', () => covered(organizationId), 60_000);
  }, 90_000);
});

describe('asking for checkpoints again and again', () => {
  let service: TestApp;
  let operator: string;
  let tenant: string;
  let agent: TestAgent;
  let token: string;

  const get = (path: string, caller = token) => service.api.call('GET', path, caller);
  const current = async () => (await get('/audit/checkpoint')).body['checkpoint'] as string;
  const stored = async () =>
    Number(
      (
        await service.database.query<{ count: string }>(
          'SELECT count(*) FROM audit_checkpoints WHERE organization_id = $1',
          [tenant],
        )
      )[0]?.count,
    );
  const newest = async () => ((await get('/audit/checkpoints?limit=1')).body['data'] as CheckpointView[])[0];

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    tenant = await addOrganization(service, operator);
    agent = await service.api.agent(operator, { organizationId: tenant, scopes: ['audit:read'] });
    token = await service.api.token(agent);
  });
  afterAll(() => service.close());

  it('makes one for all who ask at the same time, and holds nobody else up', async () => {
    const before = await stored();
    await service.api.token(agent);
    const [asked, other] = await Promise.all([
      Promise.all(Array.from({ length: 200 }, () => get('/audit/checkpoint'))),
      get('/audit/checkpoint', operator),
    ]);
    expect(new Set(asked.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(asked.map(({ body }) => body['checkpoint'])).size).toBe(1);
    expect(other.status).toBe(200);
    expect(await stored()).toBe(before + 1);
  });

  it('covers whatever was committed before each of them', async () => {
    await Promise.all(
      Array.from({ length: 40 }, async () => {
        const jti = claimsOf(await service.api.token(agent))['jti'];
        const { body: event } = await get(`/audit/${String(jti)}`);
        expect(claimsOf(await current())['sequence']).toBeGreaterThanOrEqual(event['sequence'] as number);
      }),
    );
  });

  it('does not fill the disk: beyond 300 an hour they are signed and not stored, and verify all the same', async () => {
    const kept: string[] = [];
    for (let asked = 0; asked < 320; asked += 1) {
      await service.api.token(agent);
      kept.push(await current());
    }
    expect(await stored()).toBe(300);
    const last = kept.at(-1) ?? '';
    const { body: page } = await get('/audit?limit=1');
    expect(claimsOf(last)['sequence']).toBe((page['data'] as { sequence: number }[])[0]?.sequence);
    // It names the newest that is stored.
    const named = await newest();
    expect(claimsOf(last)['previousCheckpointHash']).toBe(
      createHash('sha256')
        .update(named?.checkpoint ?? '')
        .digest('hex'),
    );
    for (const checkpoint of [kept[0] ?? '', kept.at(-10) ?? '', last]) {
      const { body } = await service.api.call('POST', '/audit/verify', token, { checkpoint });
      expect(body).toMatchObject({ valid: true, brokenAt: null });
    }
    const jti = claimsOf(await service.api.token(agent))['jti'];
    expect((await get(`/audit/receipt?jti=${String(jti)}`)).status).toBe(200);
    // An export ends with one that is stored, so that the next export goes on behind it.
    const end = (await get('/audit/export')).text.trimEnd().split('\n').at(-1) ?? '';
    expect((JSON.parse(end) as CheckpointView).checkpoint).toBe(named?.checkpoint);
    expect(await stored()).toBe(300);
  }, 120_000);

  it('goes on with the checkpoints that are due, which name the stored ones, and stores again an hour later', async () => {
    const before = await newest();
    service.clock.advance(61);
    await until('a due checkpoint', async () => (await stored()) === 301);
    expect(await newest()).toMatchObject({
      previousCheckpointHash: createHash('sha256')
        .update(before?.checkpoint ?? '')
        .digest('hex'),
    });
    service.clock.advance(3600);
    token = await service.api.token(agent);
    await current();
    expect(await stored()).toBe(302);
    expect((await get('/audit/verify')).body).toMatchObject({ valid: true });
  });
});

/** Issues `count` tokens, one after another. */
async function issue(service: TestApp, agent: TestAgent, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) await service.api.token(agent);
}

/** Appends events by the database's own function: a chain from before anybody followed it. */
async function writeChain(service: TestApp, organizationId: string, count: number): Promise<void> {
  await service.database.query(
    `SELECT count(*) FROM (SELECT array_agg($1::uuid) AS organizations, array_agg('{'::text) AS heads,
        array_agg('}'::text) AS tails, array_agg(gen_random_uuid()) AS ids, array_agg('agent.updated'::text) AS actions,
        array_agg('success'::text) AS outcomes, array_agg(NULL::uuid) AS actors, array_agg('agent'::text) AS types,
        array_agg('x'::text) AS targets, array_agg(NULL::text) AS ips, array_agg('{}'::jsonb) AS details,
        array_agg($3::timestamptz) AS at FROM generate_series(1, $2::integer)) x
      CROSS JOIN LATERAL append_audit_events(organizations, heads, tails, ids, actions, outcomes, actors, types, targets,
        ips, ips, x.details, x.at)`,
    [organizationId, count, service.clock.now()],
  );
}

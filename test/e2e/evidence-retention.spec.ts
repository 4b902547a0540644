import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { CheckpointSigner } from '../../src/evidence/checkpoint-signer.js';
import type { CutPayload } from '../../src/evidence/checkpoint.js';
import { RetentionService } from '../../src/evidence/retention.service.js';
import { claimsOf, type TestAgent } from '../support/api.js';
import { restoreEvidence, saveEvidence } from '../support/chain-forgery.js';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const DAY_MS = 24 * 3600 * 1000;
const VERIFIER = path.join(import.meta.dirname, '../../dist/src/evidence/offline/audit-verify.js');

describe('retention by tier', () => {
  let service: TestApp;
  let tenant: string;
  let agent: TestAgent;
  let token: string;
  /** A checkpoint from long ago, over fewer events than were removed. */
  let old: string;
  let cutAt: number;
  /** The statement of the first cut, which a later one replaced. */
  let firstCut: string;

  const get = (url: string) => service.api.call('GET', url, token);
  const issue = async (count: number) => {
    for (let number = 0; number < count; number += 1) token = await service.api.token(agent);
  };
  const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS).toISOString();
  const sequences = async () =>
    (
      await service.database.query<{ sequence: string }>(
        'SELECT sequence FROM audit_events WHERE organization_id = $1 ORDER BY sequence',
        [tenant],
      )
    ).map(({ sequence }) => Number(sequence));
  const cut = async () => {
    const [row] = await service.database.query<{ cut: string }>(
      'SELECT cut FROM audit_trees WHERE organization_id = $1',
      [tenant],
    );
    return row?.cut ?? '';
  };
  const checkpoint = async () => (await get('/audit/checkpoint')).body['checkpoint'] as string;

  beforeAll(async () => {
    service = await startTestApp();
    service.clock.set(daysAgo(200));
    const operator = await service.api.token(service.operator);
    tenant = await addOrganization(service, operator, { tier: 'free' });
    agent = await service.api.agent(operator, { organizationId: tenant, scopes: ['audit:read'] });
    await issue(4);
    old = await checkpoint();
    service.clock.set(daysAgo(120));
    await issue(5);
    cutAt = claimsOf(await checkpoint())['sequence'] as number;
    service.clock.set(daysAgo(30));
    await issue(3);
    await checkpoint();
    service.clock.set(daysAgo(0));
    await issue(2);
  });
  afterAll(() => service.close());

  it('is refused by the database for what is too young, not covered, or kept for ever', async () => {
    const client = new pg.Client({ connectionString: service.database.servingUrl });
    await client.connect();
    const remove = (organization: string, through: number) =>
      client.query('SELECT remove_audit_prefix($1, $2, $3, $4)', [organization, through, 'x', 100]);
    try {
      const [operatorOrganization] = await service.database.query<{ organization_id: string }>(
        "SELECT organization_id FROM organizations WHERE tier = 'enterprise'",
      );
      for (const [organization, through] of [
        [tenant, cutAt + 3],
        [tenant, cutAt - 1],
        [tenant, 1_000_000],
        [operatorOrganization?.organization_id ?? '', 1],
      ] as const) {
        await expect(remove(organization, through)).rejects.toMatchObject({ code: '42501' });
      }
    } finally {
      await client.end();
    }
    expect((await sequences())[0]).toBe(1);
  });

  it('begins with a log that is whole', async () => {
    await service.database.query('CREATE TABLE removed_events AS TABLE audit_events');
    expect((await get('/audit/verify')).body).toMatchObject({ valid: true, firstSequence: 1 });
  });

  it('waits for an active webhook, up to the last checkpoint that it has passed', async () => {
    const webhookId = randomUUID();
    await service.database.query(
      `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, sealed_secret, created_at, updated_at)
        VALUES ($1, $2, 'https://receiver.example', '{*}', 'active', '', now(), now())`,
      [tenant, webhookId],
    );
    const first = claimsOf(old)['sequence'] as number;
    // Leased to nobody who serves, so that it stays where it is.
    await service.database.query(
      `INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence, lease_owner, lease_until)
        VALUES ($1, $2, true, $3, $2, 'infinity')`,
      [tenant, webhookId, first - 1],
    );
    await service.app.get(RetentionService).sweep();
    expect((await sequences())[0]).toBe(1);
    await service.database.query('UPDATE webhook_lanes SET sequence = $2 WHERE webhook_id = $1', [
      webhookId,
      first + 2,
    ]);
    await service.app.get(RetentionService).sweep();
    expect((await sequences())[0]).toBe(first + 1);
    expect((await get('/audit/verify')).body).toMatchObject({ valid: true, firstSequence: first + 1 });
    firstCut = await cut();
    await service.database.query('UPDATE webhook_lanes SET active = false WHERE webhook_id = $1', [webhookId]);
  });

  it('removes a whole prefix up to a checkpoint, and what is left verifies and says where it begins', async () => {
    const before = await sequences();
    await service.app.get(RetentionService).sweep();
    expect(await sequences()).toEqual(before.filter((sequence) => sequence > cutAt));
    const { body } = await get('/audit/verify');
    expect(body).toMatchObject({ valid: true, firstSequence: cutAt + 1, lastSequence: before.at(-1), brokenAt: null });
    expect((await get(`/audit/verify?fromSequence=2`)).body).toMatchObject({ firstSequence: cutAt + 1, valid: true });
    const kept = await service.api.call('POST', '/audit/verify', token, { checkpoint: old });
    expect(kept.body).toMatchObject({ valid: true, firstSequence: cutAt + 1 });
  });

  it('takes nothing that usage has not counted', async () => {
    const operator = await service.api.token(service.operator);
    const day = (days: number) => daysAgo(days).slice(0, 10);
    const { body } = await service.api.call(
      'GET',
      `/organizations/${tenant}/usage?from=${day(210)}&to=${day(0)}`,
      operator,
    );
    const days = body['days'] as { day: string; tokens: number }[];
    expect(days.map(({ tokens }) => tokens)).toEqual([4, 5, 3, 2]);
  });

  it('leaves other organizations alone', async () => {
    const [row] = await service.database.query<{ first: string }>(
      'SELECT min(sequence) AS first FROM audit_events WHERE organization_id <> $1',
      [tenant],
    );
    expect(row?.first).toBe('1');
  });

  it('still proves what is left, and growth since before the cut', async () => {
    const { jti } = claimsOf(token);
    expect((await get(`/audit/receipt?jti=${String(jti)}`)).status).toBe(200);
    const last = claimsOf(await checkpoint())['sequence'] as number;
    const first = claimsOf(old)['sequence'] as number;
    expect((await get(`/audit/consistency?from=${first}&to=${last}`)).status).toBe(200);
  });

  it('exports what is left behind the checkpoint at the cut, and it verifies offline', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'agentidp-retention-'));
    try {
      const { text } = await get('/audit/export');
      const [begin, event] = text.split('\n').map((line) => JSON.parse(line || '{}') as Record<string, unknown>);
      expect(claimsOf(begin?.['checkpoint'] as string)['sequence']).toBe(cutAt);
      expect(event?.['sequence']).toBe(cutAt + 1);
      const file = path.join(folder, 'export.ndjson');
      const jwks = path.join(folder, 'jwks.json');
      await writeFile(file, text);
      await writeFile(jwks, (await service.api.send('GET', '/.well-known/jwks.json')).text);
      const verdict = JSON.parse(
        execFileSync(process.execPath, [VERIFIER, file, '--jwks', jwks], { encoding: 'utf8' }),
      ) as object;
      expect(verdict).toMatchObject({ valid: true, firstSequence: cutAt + 1 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  describe('does not hide', () => {
    const fault = async () => {
      const { body } = await get('/audit/verify');
      return [body['valid'], body['brokenAt'], body['reason']];
    };
    const first = () => claimsOf(old)['sequence'] as number;
    const sql = (text: string, ...values: unknown[]) => service.database.query(text, [tenant, ...values]);
    const signCut = (more: object) =>
      service.app.get(CheckpointSigner).signCut({ ...(claimsOf(firstCut) as unknown as CutPayload), ...more });
    const setCut = (statement: string, through: number) =>
      sql('UPDATE audit_trees SET cut = $2, removed_through = $3 WHERE organization_id = $1', statement, through);

    beforeAll(() => saveEvidence(service.database));
    afterEach(() => restoreEvidence(service.database));

    it('a ledger that was set back before the cut', async () => {
      await sql('UPDATE organization_ledgers SET sequence = $2 WHERE organization_id = $1', cutAt - 1);
      expect(await fault()).toEqual([false, cutAt, 'tail_missing']);
      await sql('DELETE FROM audit_events WHERE organization_id = $1');
      expect(await fault()).toEqual([false, cutAt, 'tail_missing']);
      expect((await get(`/audit/verify?fromSequence=${cutAt}`)).body).toMatchObject({ valid: false });
    });

    it('an event that was put before the cut, and takes none for one that retention has yet to remove', async () => {
      const putBack = (condition: string) =>
        sql(`INSERT INTO audit_events SELECT * FROM removed_events WHERE organization_id = $1 AND ${condition}`);
      await putBack(`sequence BETWEEN ${cutAt - 2} AND ${cutAt}`);
      expect(await fault()).toEqual([true, null, undefined]);
      await sql(
        `UPDATE audit_events SET action = 'agent.created' WHERE organization_id = $1 AND sequence = $2`,
        cutAt - 1,
      );
      expect(await fault()).toEqual([false, cutAt - 1, 'event_altered']);
      await restoreEvidence(service.database);
      await putBack('sequence = 2');
      expect(await fault()).toEqual([false, 2, 'event_inserted']);
      await putBack(`sequence = ${cutAt}`);
      expect(await fault()).toEqual([false, 2, 'event_inserted']);
      await restoreEvidence(service.database);
      await putBack(`sequence BETWEEN ${cutAt - 1} AND ${cutAt}`);
      await sql(`UPDATE audit_events SET hash = sha256(hash) WHERE organization_id = $1 AND sequence = $2`, cutAt - 1);
      expect(await fault()).toEqual([false, cutAt - 1, 'link_broken']);
    });

    it('that the checkpoint at the cut was altered or removed', async () => {
      const at = 'organization_id = $1 AND sequence = $2';
      await sql(
        `UPDATE audit_checkpoints SET checkpoint = overlay(checkpoint PLACING 'XYZ' FROM 200) WHERE ${at}`,
        cutAt,
      );
      expect(await fault()).toEqual([false, cutAt, 'checkpoint_altered']);
      await restoreEvidence(service.database);
      await sql(`UPDATE audit_checkpoints SET issued_at = issued_at - interval '1 day' WHERE ${at}`, cutAt);
      expect(await fault()).toEqual([false, cutAt, 'checkpoint_altered']);
      await restoreEvidence(service.database);
      await sql(`DELETE FROM audit_checkpoints WHERE ${at}`, cutAt);
      expect(await fault()).toEqual([false, cutAt, 'checkpoint_missing']);
    });

    it('that a checkpoint from before the cut was altered or removed', async () => {
      const at = 'organization_id = $1 AND sequence = $2';
      await sql(`UPDATE audit_checkpoints SET checkpoint = left(checkpoint, -3) || 'XYZ' WHERE ${at}`, first());
      expect(await fault()).toEqual([false, first(), 'checkpoint_altered']);
      await sql(`DELETE FROM audit_checkpoints WHERE ${at}`, first());
      expect(await fault()).toEqual([false, cutAt, 'checkpoint_missing']);
    });

    it('that the tree before the cut was altered', async () => {
      await sql(`UPDATE audit_tree_tiles SET hashes = set_bit(hashes, 5, 1 - get_bit(hashes, 5))
        WHERE organization_id = $1 AND level = 0`);
      expect(await fault()).toEqual([false, cutAt, 'tree_altered']);
    });

    it('events that no cut covers: not under an older one, one of somebody else, or one of another chain', async () => {
      await setCut(firstCut, first());
      expect(await fault()).toEqual([false, first() + 1, 'event_missing']);
      await setCut(await signCut({ removedThrough: cutAt + 1 }), cutAt + 1);
      expect(await fault()).toEqual([false, cutAt + 1, 'checkpoint_missing']);
      await setCut(await signCut({ removedThrough: cutAt, organizationId: randomUUID() }), cutAt);
      expect(await fault()).toEqual([false, cutAt, 'cut_altered']);
      await setCut(await signCut({ removedThrough: cutAt }), cutAt);
      expect(await fault()).toEqual([false, cutAt, 'cut_altered']);
      await setCut(await checkpoint(), cutAt);
      expect(await fault()).toEqual([false, cutAt, 'cut_altered']);
    });

    it('young events: nothing is signed where only the row of a checkpoint says that it is old', async () => {
      await sql(`UPDATE audit_checkpoints SET issued_at = issued_at - interval '100 days'
        WHERE organization_id = $1 AND sequence = (SELECT max(sequence) FROM audit_checkpoints WHERE organization_id = $1)`);
      await sql(`UPDATE audit_events SET occurred_at = occurred_at - interval '300 days' WHERE organization_id = $1`);
      const before = await sequences();
      await service.app.get(RetentionService).sweep();
      expect(await sequences()).toEqual(before);
      expect(claimsOf(await cut())['removedThrough']).toBe(cutAt);
    });
  });

  it('is told from tampering: a prefix that was deleted, or a cut that nobody signed', async () => {
    await service.database.query('CREATE TABLE saved AS TABLE audit_trees');
    await service.database.query('DELETE FROM audit_events WHERE organization_id = $1 AND sequence = $2', [
      tenant,
      cutAt + 1,
    ]);
    expect((await get('/audit/verify')).body).toMatchObject({ brokenAt: cutAt + 1, reason: 'event_missing' });
    await service.database.query('UPDATE audit_trees SET removed_through = $2 WHERE organization_id = $1', [
      tenant,
      cutAt + 1,
    ]);
    expect((await get('/audit/verify')).body).toMatchObject({ valid: false, reason: 'cut_altered' });
    await service.database.query('UPDATE audit_trees SET cut = NULL WHERE organization_id = $1', [tenant]);
    expect((await get('/audit/verify')).body).toMatchObject({ brokenAt: 1, reason: 'event_missing' });
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DataSource } from 'typeorm';
import { auditColumns } from '../../src/audit/audit.repository.js';
import { exportPrivateKey, generateSigningKey } from '../../src/keys/signing-key.js';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { Webhooks1764000020000 } from '../../src/platform/database/migrations/1764000020000-webhooks.js';
import { AuditSearch1764000030001 } from '../../src/platform/database/migrations/1764000030001-audit-search.js';
import { renderEvent } from '../../src/platform/kernel/canonical-event.js';
import { NO_ORIGIN } from '../../src/platform/kernel/principal.js';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { claimsOf } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createEmptyDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';

const INDEPENDENT = join(import.meta.dirname, '../support/independent-verifier.mjs');
const BEFORE = MIGRATIONS.slice(0, MIGRATIONS.indexOf(Webhooks1764000020000) + 1);
const NEW = MIGRATIONS.slice(BEFORE.length).map(({ name }) => name);
/** More than two tiles of the tree. */
const EVENTS = 600;

describe('a database from before the evidence', () => {
  const organizationId = randomUUID();
  const webhookId = randomUUID();
  let kid: string;
  let database: TestDatabase;
  let service: TestApp;
  let operator: string;

  const get = (path: string) => service.api.call('GET', path, operator);

  beforeAll(async () => {
    database = await createEmptyDatabase();
    const older = new DataSource({ ...dataSourceOptions(database.owningUrl, 2), migrations: BEFORE });
    await older.initialize();
    await older.runMigrations({ transaction: 'each' });
    await older.destroy();
    await fill();
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual(NEW);
    service = await startTestApp({ database });
    operator = await service.api.token(service.operator);
  });
  afterAll(async () => {
    await service.close();
    await database.drop();
  });

  /** An organization with a long log, a key, and a webhook in the middle of the log. */
  async function fill(): Promise<void> {
    await database.query(
      `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
        VALUES ($1, 'Older', 'older', 'pro', 'active', now(), now())`,
      [organizationId],
    );
    await database.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
      organizationId,
      createHash('sha256').update(organizationId).digest(),
    ]);
    const events = Array.from({ length: EVENTS }, (_, index) =>
      renderEvent(
        {
          organizationId,
          action: index % 3 === 0 ? 'token.refused' : 'token.issued',
          outcome: index % 3 === 0 ? 'failure' : 'success',
          actor: null,
          target: { type: 'token', id: randomUUID() },
          origin: NO_ORIGIN,
          details: index % 3 === 0 ? { reason: 'invalid_scope' } : {},
        },
        randomUUID(),
        new Date(Date.UTC(2026, 0, 1) + index * 60_000).toISOString(),
      ),
    );
    await database.query(
      `SELECT append_audit_events($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::uuid[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::timestamptz[])`,
      auditColumns(events),
    );
    const key = await generateSigningKey('RS256');
    kid = key.kid;
    await database.query(
      `INSERT INTO signing_keys (kid, algorithm, phase, public_jwk, sealed_private_key, created_at)
        VALUES ($1, 'RS256', 'active', $2, $3, now())`,
      [kid, key.publicJwk, new Sealer(TEST_MASTER_KEY).seal(exportPrivateKey(key), `signing-key:${kid}`)],
    );
    await database.query(
      `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, disabled_reason, sealed_secret, created_at,
        updated_at) VALUES ($1, $2, 'https://receiver.example', '{*}', 'disabled', 'requested', '', now(), now())`,
      [organizationId, webhookId],
    );
    await database.query(
      'INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence) VALUES ($1, $2, false, 300)',
      [organizationId, webhookId],
    );
  }

  it('keeps its key for tokens, and gets one for checkpoints', async () => {
    const { body } = await service.api.send<{ keys: { kid: string; purpose?: string }[] }>(
      'GET',
      '/.well-known/jwks.json',
    );
    expect(body.keys.map((key) => [key.kid === kid, key.purpose])).toEqual([
      [true, undefined],
      // Published ahead.
      [false, undefined],
      [false, 'audit'],
      [false, 'audit'],
    ]);
    const [header = ''] = operator.split('.');
    expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ kid, alg: 'RS256' });
  });

  it('leaves webhooks where they were', async () => {
    expect(await database.query('SELECT webhook_id, sequence FROM webhook_lanes')).toEqual([
      { webhook_id: webhookId, sequence: '300' },
    ]);
  });

  it('takes the log from before into a tree, under a checkpoint that covers all of it', async () => {
    const { status, body } = await get(`/audit/checkpoint?organizationId=${organizationId}`);
    expect(status).toBe(200);
    expect(claimsOf(body['checkpoint'] as string)).toMatchObject({ organizationId, sequence: EVENTS });
    const tiles = await database.query(
      `SELECT tile, octet_length(hashes) / 32 AS hashes, oldest_at, newest_at FROM audit_tree_tiles
        WHERE organization_id = $1 AND level = 0 ORDER BY tile`,
      [organizationId],
    );
    const instant = (index: number) => new Date(Date.UTC(2026, 0, 1) + index * 60_000);
    expect(tiles).toEqual([
      { tile: '0', hashes: 256, oldest_at: instant(0), newest_at: instant(255) },
      { tile: '1', hashes: 256, oldest_at: instant(256), newest_at: instant(511) },
      { tile: '2', hashes: 88, oldest_at: instant(512), newest_at: instant(599) },
    ]);
    expect((await get(`/audit/verify?organizationId=${organizationId}`)).body).toMatchObject({
      valid: true,
      checked: EVENTS,
      brokenAt: null,
    });
  });

  it('searches, counts, proves and exports what is older than itself', async () => {
    const query = `organizationId=${organizationId}&from=2026-01-01T09:50:00Z&to=2026-01-01T09:53:00Z`;
    const found = (await get(`/audit?${query}`)).body['data'] as { eventId: string; sequence: number }[];
    expect(found.map(({ sequence }) => sequence)).toEqual([593, 592, 591]);
    expect((await get(`/audit/${found[0]?.eventId}/receipt`)).body).toMatchObject({ leafIndex: 592, treeSize: EVENTS });
    const usage = await get(`/organizations/${organizationId}/usage?from=2026-01-01&to=2026-01-01`);
    expect(usage.body['days']).toEqual([{ day: '2026-01-01', tokens: 400, refusals: { invalid_scope: 200 } }]);
    const folder = await mkdtemp(join(tmpdir(), 'agentidp-migrated-'));
    try {
      const files = [join(folder, 'export.ndjson'), join(folder, 'jwks.json')] as const;
      await writeFile(files[0], (await get(`/audit/export?organizationId=${organizationId}`)).text);
      await writeFile(files[1], (await service.api.send('GET', '/.well-known/jwks.json')).text);
      const { stdout } = await promisify(execFile)(process.execPath, [INDEPENDENT, ...files]);
      expect(stdout).toBe(`${EVENTS} events verify\n`);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('gets its indexes whole, also where an attempt to build them broke off', async () => {
    const indexes = () =>
      database.query<{ name: string; valid: boolean }>(
        `SELECT indexrelid::regclass::text AS name, indisvalid AS valid FROM pg_index
          WHERE indrelid = 'audit_events'::regclass ORDER BY 1`,
      );
    const whole = await indexes();
    expect(whole).toHaveLength(7);
    expect(whole.every(({ valid }) => valid)).toBe(true);
    await database.query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_events_actor'::regclass");
    await database.query('DROP INDEX audit_events_failures');
    await database.query('DELETE FROM schema_migrations WHERE name = $1', [AuditSearch1764000030001.name]);
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual([AuditSearch1764000030001.name]);
    expect(await indexes()).toEqual(whole);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { Webhook } from 'standardwebhooks';
import { v7 as uuidv7 } from 'uuid';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { deliverySlotOf } from '../../src/platform/database/delivery-slots.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { WebhookCheckpoints1764000110000 } from '../../src/platform/database/migrations/1764000110000-webhook-checkpoints.js';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { addOrganization } from '../support/organization.js';
import { Receiver } from '../support/receiver.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createEmptyDatabase, TEST_MASTER_KEY, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const BEFORE = MIGRATIONS.slice(0, MIGRATIONS.indexOf(WebhookCheckpoints1764000110000));
const HASH = 'a'.repeat(64);

/** The schema before webhooks knew checkpoints, with subscriptions, a queue, a history and a checkpoint in it. */
describe('webhooks from before the checkpoints', () => {
  let database: TestDatabase;
  let service: TestApp;
  let operator: string;
  let receiver: Receiver;
  let organizationId: string;
  const [all, agents] = [randomUUID(), randomUUID()];
  const key = randomBytes(32);
  const deliveryId = uuidv7();
  const slot = deliverySlotOf(Date.now());

  beforeAll(async () => {
    receiver = await Receiver.start();
    database = await createEmptyDatabase();
    const older = new DataSource({ ...dataSourceOptions(database.owningUrl, 2), migrations: BEFORE });
    await older.initialize();
    await older.runMigrations({ transaction: 'each' });
    await older.destroy();
    organizationId = await addOrganization(database, 'pro');
    await subscription(all, '/all', ['*']);
    await subscription(agents, '/agents', ['agent.*']);
    await waiting();
    await checkpoint();
  });
  afterAll(async () => {
    await service.close();
    await database.drop();
    await receiver.close();
  });

  async function subscription(webhookId: string, path: string, events: string[]): Promise<void> {
    const sealed = new Sealer(TEST_MASTER_KEY).seal(key, `webhook:${webhookId}`);
    await database.query(
      `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, sealed_secret, created_at, updated_at)
        VALUES ($1, $2, $3, $4, 'active', $5, now(), now())`,
      [organizationId, webhookId, new URL(path, receiver.url).href, events, sealed],
    );
    await database.query(
      'INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence) VALUES ($1, $2, true, 0)',
      [organizationId, webhookId],
    );
  }

  /** An event that failed once and is due again. */
  async function waiting(): Promise<void> {
    const body = '{"type":"agent.created","timestamp":"2026-01-01T00:00:00.000Z","data":{}}';
    const eventId = randomUUID();
    await database.query(
      `INSERT INTO webhook_deliveries (organization_id, webhook_id, slot, delivery_id, event_id, event, sequence, status,
          attempts, next_attempt_at, created_at)
        VALUES ($1, $2, $3, $4, $5, 'agent.created', 1, 'pending', $6, now(), now())`,
      [organizationId, agents, slot, deliveryId, eventId, JSON.stringify([{ at: 'before', statusCode: 500 }])],
    );
    await database.query(
      `INSERT INTO webhook_queue (organization_id, webhook_id, slot, delivery_id, event_id, event, body, failures, due_at)
        VALUES ($1, $2, $3, $4, $5, 'agent.created', $6, 1, now())`,
      [organizationId, agents, slot, deliveryId, eventId, body],
    );
    await database.query('UPDATE webhook_lanes SET next_due_at = now() WHERE webhook_id = $1', [agents]);
  }

  /** What the version before signed, and told nobody. */
  async function checkpoint(): Promise<void> {
    const stated = { organizationId, sequence: 7, hash: HASH, rootHash: HASH, issuedAt: '2026-01-01T00:00:00.000Z' };
    const payload = Buffer.from(JSON.stringify({ ...stated, previousCheckpointHash: null })).toString('base64url');
    await database.query(
      'INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at) VALUES ($1, 7, $2, now())',
      [organizationId, `e30.${payload}.`],
    );
    await database.query('INSERT INTO audit_trees (organization_id, checkpoint_sequence) VALUES ($1, 7)', [
      organizationId,
    ]);
  }

  it('go on in the version before while and after it is migrated', async () => {
    const claim = () =>
      database.query<{ webhook_id: string; sequence: string }>(
        `SELECT * FROM claim_webhook_lanes($1, now(), '10 s', 10, 10, '{}', 100)`,
        [randomUUID()],
      );
    const free = () => database.query('UPDATE webhook_lanes SET lease_owner = NULL, lease_until = NULL');
    expect(await claim()).toMatchObject([{ webhook_id: agents, sequence: '0' }]);
    await free();
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual(
      MIGRATIONS.slice(BEFORE.length).map(({ name }) => name),
    );
    expect(await claim()).toMatchObject([{ webhook_id: agents, sequence: '0' }]);
    const [lane] = await database.query<{ lease_owner: string }>(
      'SELECT lease_owner FROM webhook_lanes WHERE webhook_id = $1',
      [agents],
    );
    const [recorded] = await database.query(
      `SELECT record_webhook_events($1, $2, $3, 0, NULL, $4::smallint[], ARRAY[gen_random_uuid()],
          ARRAY[gen_random_uuid()], ARRAY['agent.updated'], ARRAY[2::bigint], ARRAY['delivered'], ARRAY['[]'::jsonb],
          ARRAY[NULL::timestamptz], ARRAY[now()], ARRAY[NULL::text]) AS recorded`,
      [organizationId, agents, lane?.lease_owner, [slot]],
    );
    expect(recorded).toEqual({ recorded: true });
    await database.query('SELECT release_webhook_lane($1, $2, $3, 0)', [organizationId, agents, lane?.lease_owner]);
  });

  it('are sent what was queued, and the checkpoints from the newest on', async () => {
    service = await startTestApp({ database, env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' } });
    operator = await service.api.token(service.operator);
    await until('what was queued arrives', () => receiver.received.length === 1);
    const [message] = receiver.received;
    const shown = new Webhook(`whsec_${key.toString('base64')}`);
    expect(shown.verify(message?.text ?? '', { ...message?.headers })).toMatchObject({ type: 'agent.created' });
    await until('the history has both attempts', async () => {
      const [row] = await database.query<{ status: string; attempts: unknown[] }>(
        'SELECT status, attempts FROM webhook_deliveries WHERE delivery_id = $1',
        [deliveryId],
      );
      return row?.status === 'delivered' && row.attempts.length === 2;
    });
    const places = await database.query<{ webhook_id: string; checkpoint_sequence: string | null }>(
      'SELECT webhook_id, checkpoint_sequence FROM webhook_lanes',
    );
    expect(Object.fromEntries(places.map((row) => [row.webhook_id, row.checkpoint_sequence]))).toEqual({
      [all]: '7',
      [agents]: null,
    });
    // The next checkpoint, as another organization's tree would have it: only its row counts here.
    const digest = createHash('sha256').update('next').digest('hex');
    const stated = { organizationId, sequence: 8, hash: digest, rootHash: digest, issuedAt: new Date().toISOString() };
    const payload = Buffer.from(JSON.stringify({ ...stated, previousCheckpointHash: HASH })).toString('base64url');
    for (let place = 1; place <= 8; place += 1) {
      const { status } = await service.api.call('PATCH', `/organizations/${organizationId}`, operator, {
        name: `renamed ${place}`,
      });
      expect(status).toBe(200);
    }
    await database.query(
      'INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at) VALUES ($1, 8, $2, now())',
      [organizationId, `e30.${payload}.`],
    );
    await database.query('UPDATE audit_trees SET checkpoint_sequence = 8 WHERE organization_id = $1', [organizationId]);
    const sent = () => receiver.received.filter(({ body }) => body.type === 'audit.checkpoint');
    await until('it arrives', () => sent().length > 0);
    expect(sent().map(({ body }) => body.data)).toEqual([expect.objectContaining(stated)]);
  });
});

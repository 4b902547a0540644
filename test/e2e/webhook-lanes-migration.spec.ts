import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';
import { dataSourceOptions } from '../../src/platform/database/data-source-options.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { MIGRATIONS } from '../../src/platform/database/migration-list.js';
import { WebhookLanesForward1764000150000 } from '../../src/platform/database/migrations/1764000150000-webhook-lanes-forward.js';
import { addOrganization } from '../support/organization.js';
import { createEmptyDatabase, type TestDatabase } from '../support/test-database.js';

const BEFORE = MIGRATIONS.slice(0, MIGRATIONS.indexOf(WebhookLanesForward1764000150000));

/** The schema before lanes only went forward, with subscriptions in it. */
describe('lanes', () => {
  let database: TestDatabase;
  let organizationId: string;
  const webhookId = randomUUID();

  beforeAll(async () => {
    database = await createEmptyDatabase();
    const older = new DataSource({ ...dataSourceOptions(database.owningUrl, 2), migrations: BEFORE });
    await older.initialize();
    await older.runMigrations({ transaction: 'each' });
    await older.destroy();
    organizationId = await addOrganization(database, 'pro');
    await subscribed(organizationId, webhookId);
  });
  afterAll(() => database.drop());

  async function subscribed(organization: string, id = randomUUID()): Promise<string> {
    await database.query(
      `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, sealed_secret, created_at, updated_at)
        VALUES ($1, $2, 'https://hooks.example.com/', '{*}', 'active', 'sealed', now(), now())`,
      [organization, id],
    );
    await database.query(
      'INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence) VALUES ($1, $2, true, 0)',
      [organization, id],
    );
    return id;
  }

  /** As the version before asks. */
  const lease = (held: readonly string[] = [], perOrganization = 10) =>
    database.query<{ webhook_id: string }>(
      "SELECT webhook_id FROM lease_webhook_lanes($1, now(), '10 s', 10, $2, $3, 100)",
      [randomUUID(), perOrganization, held],
    );
  const leaseFailing = (failing: number) =>
    database.query<{ webhook_id: string }>(
      "SELECT webhook_id FROM lease_webhook_lanes($1, now(), '10 s', 10, 10, '{}', 100, $2)",
      [randomUUID(), failing],
    );

  /** Has a replica look for work where a lane stands ahead of the head that it knows; gives where it stands then. */
  async function standsAfterwards(sequence: number): Promise<unknown> {
    await database.query('UPDATE webhook_lanes SET sequence = $1, checkpoint_sequence = NULL WHERE webhook_id = $2', [
      sequence,
      webhookId,
    ]);
    await lease();
    const stands = 'SELECT sequence, checkpoint_sequence, lease_owner FROM webhook_lanes WHERE webhook_id = $1';
    return (await database.query(stands, [webhookId]))[0];
  }

  it('were set back by a replica that knew an earlier head, and never are now', async () => {
    expect(await standsAfterwards(1000)).toEqual({ sequence: '0', checkpoint_sequence: '0', lease_owner: null });
    expect(await migrate(database.owningUrl, database.servingUrl)).toEqual(
      MIGRATIONS.slice(BEFORE.length).map(({ name }) => name),
    );
    expect(await standsAfterwards(1000)).toEqual({ sequence: '1000', checkpoint_sequence: '0', lease_owner: null });
  });

  it('of an organization that has as many as it may are in nobody’s way, however many wait and for how long', async () => {
    const crowd = await addOrganization(database, 'enterprise');
    for (let count = 0; count < 1001; count += 1) await subscribed(crowd);
    const quiet = await subscribed(organizationId);
    await database.query(
      "UPDATE webhook_lanes SET next_due_at = now() - interval '1 second', served_at = now() - interval '1 hour'",
    );
    await database.query('UPDATE webhook_lanes SET served_at = now() WHERE webhook_id = $1', [quiet]);
    await database.query('UPDATE webhook_lanes SET next_due_at = NULL WHERE webhook_id = $1', [webhookId]);
    expect((await lease([crowd, crowd, crowd], 3)).map(({ webhook_id }) => webhook_id)).toEqual([quiet]);
    // With room it gets what it may.
    expect(await lease([crowd, crowd], 3)).toHaveLength(1);
  });

  it('whose receivers fail are leased up to a number, and the others beside them', async () => {
    await database.query('DELETE FROM webhooks');
    const failing = [
      await subscribed(organizationId),
      await subscribed(organizationId),
      await subscribed(organizationId),
    ];
    await database.query("UPDATE webhook_lanes SET failing_since = now(), served_at = now() - interval '1 hour'");
    const well = await subscribed(organizationId);
    await database.query("UPDATE webhook_lanes SET next_due_at = now() - interval '1 second'");
    const leased = (await leaseFailing(1)).map(({ webhook_id }) => webhook_id);
    expect(leased).toHaveLength(2);
    expect(leased).toContain(well);
    expect(await leaseFailing(0)).toEqual([]);
    const rest = failing.filter((id) => !leased.includes(id));
    expect((await lease()).map(({ webhook_id }) => webhook_id).sort()).toEqual(rest.sort());
  });
});

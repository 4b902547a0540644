import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { addOrganization } from '../support/organizations.js';
import { Receiver } from '../support/receiver.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { TEST_MASTER_KEY } from '../support/test-database.js';
import { until } from '../support/until.js';

let service: TestApp;
let operator: string;
let hanging: Receiver;
let well: Receiver;
let underWay = 0;
let most = 0;

beforeAll(async () => {
  service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', RATE_LIMIT_ENTERPRISE: '0' } });
  operator = await service.api.token(service.operator);
  hanging = await Receiver.start((_message, response) => {
    underWay += 1;
    most = Math.max(most, underWay);
    response.on('close', () => (underWay -= 1));
  });
  well = await Receiver.start();
});
afterAll(async () => {
  await hanging.close();
  await well.close();
  await service.close();
});

/** Subscribes a receiver to all that happens in an organization, as one that has failed before where it is said so. */
async function subscribe(organizationId: string, url: string, hasFailed: boolean): Promise<void> {
  const webhookId = randomUUID();
  await service.database.query(
    `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, sealed_secret, created_at, updated_at)
      VALUES ($1, $2, $3, '{organization.updated}', 'active', $4, now(), now())`,
    [organizationId, webhookId, url, new Sealer(TEST_MASTER_KEY).seal(randomBytes(32), `webhook:${webhookId}`)],
  );
  await service.database.query(
    `INSERT INTO webhook_lanes (organization_id, webhook_id, active, sequence, failing_since)
      SELECT organization_id, $2, true, sequence, CASE WHEN $3 THEN now() END
        FROM organization_ledgers WHERE organization_id = $1`,
    [organizationId, webhookId, hasFailed],
  );
}

async function happensIn(organizationId: string): Promise<void> {
  const { status } = await service.api.call('PATCH', `/organizations/${organizationId}`, operator, { name: 'renamed' });
  expect(status).toBe(200);
}

it('receivers that hang take half of the places of a replica, and the others have theirs at once', async () => {
  const crowds: string[] = [];
  for (let count = 0; count < 9; count += 1) crowds.push(await addOrganization(service, operator));
  for (const crowd of crowds) {
    for (let count = 0; count < 32; count += 1) await subscribe(crowd, hanging.url, true);
  }
  const quiet = await addOrganization(service, operator);
  await subscribe(quiet, well.url, false);
  for (const crowd of crowds) await happensIn(crowd);
  await until('they hang', () => underWay === 128);
  await happensIn(quiet);
  await until('the other one has its event', () => well.received.length === 1, 4000);
  expect(most).toBe(128);
}, 60_000);

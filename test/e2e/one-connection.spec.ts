import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PoolClient } from 'pg';
import { DataSource } from 'typeorm';
import { poolOf } from '../../src/platform/database/statement-pool.js';
import { addOrganization } from '../support/organizations.js';
import { assertionKey } from '../support/partner-issuer.js';
import { Receiver } from '../support/receiver.js';
import { publishedLongAgo } from '../support/signing-keys.js';
import { deliveriesOf, subscribe } from '../support/subscriptions.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

/** Half of the pool may be in transactions: one that waited for a second connection could wait for its like. */
describe('where one connection of the pool is left, nothing waits for a second one while it holds it:', () => {
  let service: TestApp;
  let token: string;
  let receiver: Receiver;
  let held: PoolClient[];

  beforeAll(async () => {
    service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1' } });
    token = await service.api.token(service.operator);
    receiver = await Receiver.start();
    await publishedLongAgo(service.database);
    const pool = poolOf(service.app.get(DataSource));
    held = await Promise.all(Array.from({ length: pool.options.max - 1 }, () => pool.connect()));
  });
  afterAll(async () => {
    for (const client of held) client.release();
    await service.close();
    await receiver.close();
  });

  async function call(status: number, method: string, path: string, body?: Json): Promise<Json> {
    const answer = await service.api.call(method, path, token, body);
    expect([method, path, answer.status, answer.status === status ? '' : answer.text]).toEqual([
      method,
      path,
      status,
      '',
    ]);
    return answer.body;
  }

  it('webhooks', async () => {
    const { webhookId } = await subscribe(service.api, token, receiver.url, ['agent.created']);
    const path = `/webhooks/${webhookId}`;
    await service.api.agent(token);
    const history = () => deliveriesOf(service.api, token, webhookId);
    await until('it is delivered', async () => (await history())[0]?.status === 'delivered');
    const [delivery] = await history();
    await call(202, 'POST', `${path}/deliveries/${delivery?.deliveryId}/redeliver`);
    await until('it is delivered again', async () => (await history())[0]?.attempts.length === 2);
    await call(404, 'POST', `${path}/deliveries/${webhookId}/redeliver`);
    await call(202, 'POST', `${path}/test`);
    await call(200, 'POST', `${path}/rotate-secret`);
    await call(200, 'PATCH', path, { events: ['*'] });
    await call(200, 'PATCH', path, { status: 'disabled' });
    await call(200, 'PATCH', path, { status: 'active' });
    await call(204, 'DELETE', path);
  });

  it('federation, keys of agents, and revocations in bulk', async () => {
    const organizationId = await addOrganization(service, token);
    const agent = await service.api.agent(token, { organizationId });
    const fields = { organizationId, name: 'ours', issuer: 'https://one.example' };
    const { partnerId } = await call(201, 'POST', '/federation/partners', fields);
    const path = `/federation/partners/${String(partnerId)}`;
    await call(200, 'PATCH', path, { jwks: { keys: [assertionKey().jwk] } });
    const identities = `/agents/${agent.agentId}/federated-identities`;
    const identity = await call(201, 'POST', identities, { partnerId, subject: 'x' });
    const key = await call(201, 'POST', `/agents/${agent.agentId}/keys`, { jwk: assertionKey().jwk });
    for (const selector of [
      { credentialId: agent.credentialId },
      { keyId: key['credentialId'] },
      { partnerId },
      { agentId: agent.agentId },
      { organizationId },
    ]) {
      for (const dryRun of [true, false]) {
        expect(await call(200, 'POST', '/revocations', { selector, dryRun })).toMatchObject({ dryRun, tokens: 0 });
      }
    }
    await call(204, 'DELETE', `${identities}/${String(identity['credentialId'])}`);
    await call(204, 'DELETE', `/agents/${agent.agentId}/keys/${String(key['credentialId'])}`);
    await call(204, 'DELETE', path);
  });

  it('our own keys', async () => {
    const { kid } = await call(200, 'POST', '/keys/rotate');
    const { data } = await call(200, 'GET', '/keys');
    const retired = (data as { kid: string; phase: string }[]).find(({ phase }) => phase === 'retired');
    token = await service.api.token(service.operator);
    expect(retired?.kid).not.toBe(kid);
    await call(200, 'POST', `/keys/${String(retired?.kid)}/revoke`);
  });
});

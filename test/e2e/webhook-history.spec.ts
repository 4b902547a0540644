import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import pg from 'pg';
import { lockWaiters } from '../faults/conditions.js';
import { Receiver } from '../support/receiver.js';
import { deliveriesOf, subscribe, type DeliveryBody } from '../support/subscriptions.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

/** What the history says before the first attempt has ended. */
describe('deliveries that wait', () => {
  let service: TestApp;
  let token: string;
  let receiver: Receiver;
  /** Answers that the receiver holds back. */
  let held: ServerResponse[];
  let webhookId: string;

  beforeAll(async () => {
    service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' } });
  });
  afterAll(() => service.close());
  beforeEach(async () => {
    token = await service.api.token(service.operator);
    held = [];
    receiver = await Receiver.start((_message, response) => void held.push(response));
    ({ webhookId } = await subscribe(service.api, token, receiver.url, ['agent.created']));
  });
  afterEach(async () => {
    await service.database.query('DELETE FROM webhooks');
    await receiver.close();
  });

  const list = (query = '') => deliveriesOf(service.api, token, webhookId, query);
  const newAgents = async (count: number) => {
    for (let index = 0; index < count; index += 1) await service.api.agent(token);
  };
  const recorded = () =>
    service.database.query('SELECT delivery_id FROM webhook_deliveries WHERE webhook_id = $1', [webhookId]);
  const answerAll = () => {
    receiver.answering = (_message, response) => response.writeHead(204).end();
    for (const response of held.splice(0)) response.writeHead(204).end();
  };

  it('are pending while they are sent and while they wait, without being written down', async () => {
    await newAgents(3);
    await until('the first is under way', () => receiver.received.length === 1);
    const before = await list();
    const pending = { event: 'agent.created', status: 'pending', attempts: [], nextAttemptAt: null };
    expect(before).toMatchObject([pending, pending, pending]);
    expect(before.at(-1)?.eventId).toBe(receiver.received[0]?.id);
    const { body } = await service.api.call<{ data: { eventId: string; occurredAt: string }[] }>(
      'GET',
      '/audit?action=agent.created&limit=3',
      token,
    );
    expect(before.map(({ eventId, createdAt }) => [eventId, createdAt])).toEqual(
      body.data.map(({ eventId, occurredAt }) => [eventId, occurredAt]),
    );
    expect(await recorded()).toEqual([]);
    answerAll();
    await until('all are delivered', async () => (await list('?status=delivered')).length === 3);
    const after = await list();
    expect(after.map(({ deliveryId }) => deliveryId)).toEqual(before.map(({ deliveryId }) => deliveryId));
    expect(after).toMatchObject([
      { attempts: [{ statusCode: 204 }] },
      { status: 'delivered' },
      { status: 'delivered' },
    ]);
    expect(await recorded()).toHaveLength(3);
  });

  it('are paged through with those that are done, each once, also where they are done meanwhile', async () => {
    answerAll();
    await newAgents(2);
    await until('two are done', async () => (await list('?status=delivered')).length === 2);
    receiver.answering = (_message, response) => void held.push(response);
    await newAgents(3);
    await until('the next is under way', () => receiver.received.length === 3);
    const path = `/webhooks/${webhookId}/deliveries?limit=2`;
    const page = async (cursor: string | null) =>
      (
        await service.api.call<{ data: DeliveryBody[]; nextCursor: string | null }>(
          'GET',
          cursor === null ? path : `${path}&cursor=${cursor}`,
          token,
        )
      ).body;
    const first = await page(null);
    answerAll();
    await until('all are done', async () => (await list('?status=delivered')).length === 5);
    const second = await page(first.nextCursor);
    const third = await page(second.nextCursor);
    expect(third.nextCursor).toBeNull();
    const seen = [...first.data, ...second.data, ...third.data];
    expect(seen.map(({ status }) => status)).toEqual(['pending', 'pending', 'delivered', 'delivered', 'delivered']);
    expect(seen.map(({ deliveryId }) => deliveryId)).toEqual((await list()).map(({ deliveryId }) => deliveryId));
  });

  it('are found by status, and not where the webhook is disabled', async () => {
    await newAgents(1);
    await until('it is under way', () => receiver.received.length === 1);
    expect(await list('?status=pending')).toHaveLength(1);
    expect(await list('?status=delivered')).toEqual([]);
    expect(await list('?status=failed')).toEqual([]);
    await service.api.call('PATCH', `/webhooks/${webhookId}`, token, { status: 'disabled' });
    expect(await list()).toEqual([]);
  });

  it('are sent in their turn, not by hand', async () => {
    await newAgents(2);
    await until('the first is under way', () => receiver.received.length === 1);
    for (const { deliveryId } of await list()) {
      const again = `/webhooks/${webhookId}/deliveries/${deliveryId}/redeliver`;
      const { status, body } = await service.api.call('POST', again, token);
      expect([status, body['detail']]).toEqual([409, 'The event waits for its first attempt.']);
    }
    const unknown = `/webhooks/${webhookId}/deliveries/${randomUUID()}/redeliver`;
    expect((await service.api.call('POST', unknown, token)).status).toBe(404);
  });

  it('are searched by status two at a time for an organization, so that nobody takes all connections', async () => {
    const holder = new pg.Client({ connectionString: service.database.superuserUrl });
    // A test that fails drops its database with the lock in place.
    holder.on('error', () => undefined);
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE');
    const path = `/webhooks/${webhookId}/deliveries?status=failed`;
    const searches = [service.api.call('GET', path, token), service.api.call('GET', path, token)];
    await lockWaiters(service.database, 'webhook_deliveries', 2);
    const third = await service.api.call('GET', path, token);
    await holder.query('COMMIT');
    await holder.end();
    expect([third.status, third.body['code']]).toEqual([429, 'rate_limited']);
    for (const { status } of await Promise.all(searches)) expect(status).toBe(200);
    expect(await list('?status=failed')).toEqual([]);
  });

  it('are a hundred at most, those whose turn comes next', async () => {
    // Nobody sends meanwhile, however long it takes: the lane is leased to somebody else.
    await service.database.query("UPDATE webhook_lanes SET lease_owner = gen_random_uuid(), lease_until = 'infinity'");
    await Promise.all(Array.from({ length: 5 }, () => newAgents(24)));
    const waiting = await list('?limit=200');
    expect(waiting).toHaveLength(100);
    const path = '/audit?action=agent.created&limit=120';
    const { body } = await service.api.call<{ data: { eventId: string }[] }>('GET', path, token);
    expect(waiting.map(({ eventId }) => eventId)).toEqual(body.data.slice(20).map(({ eventId }) => eventId));
  });
});

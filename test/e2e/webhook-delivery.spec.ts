import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import { AUDIT_ACTIONS } from '../../src/platform/kernel/audit-event.js';
import { DeliveryRetention } from '../../src/webhooks/delivery-retention.js';
import { Receiver } from '../support/receiver.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

const LOOPBACK = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };

interface Subscription {
  readonly webhookId: string;
  readonly signingSecret: string;
}

interface DeliveryBody {
  readonly deliveryId: string;
  readonly event: string;
  readonly eventId: string;
  readonly status: string;
  readonly attempts: {
    at: string;
    statusCode: number | null;
    error: string | null;
    durationMs: number;
    answer: string;
  }[];
  readonly nextAttemptAt: string | null;
}

describe('delivery of webhooks', () => {
  let service: TestApp;
  let token: string;
  let receiver: Receiver;

  beforeAll(async () => {
    service = await startTestApp({ env: LOOPBACK });
  });
  afterAll(() => service.close());
  beforeEach(async () => {
    service.clock.set(new Date().toISOString());
    token = await service.api.token(service.operator);
    receiver = await Receiver.start();
  });
  afterEach(async () => {
    token = await service.api.token(service.operator);
    const { body } = await service.api.call<{ data: { webhookId: string }[] }>('GET', '/webhooks', token);
    for (const { webhookId } of body.data) await service.api.call('DELETE', `/webhooks/${webhookId}`, token);
    await receiver.close();
  });

  async function subscribe(events: string[], url = receiver.url): Promise<Subscription> {
    const { status, body, text } = await service.api.call('POST', '/webhooks', token, { url, events });
    if (status !== 201) throw new Error(`no subscription: ${status} ${text}`);
    return body as unknown as Subscription;
  }

  async function deliveries(webhookId: string): Promise<DeliveryBody[]> {
    const { body } = await service.api.call<{ data: DeliveryBody[] }>(
      'GET',
      `/webhooks/${webhookId}/deliveries`,
      token,
    );
    return body.data;
  }

  /** How many attempts the history knows. */
  async function attempts(webhookId: string): Promise<number> {
    return (await deliveries(webhookId)).reduce((sum, { attempts: made }) => sum + made.length, 0);
  }

  async function newAgents(count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let index = 0; index < count; index += 1) ids.push((await service.api.agent(token)).agentId);
    return ids;
  }

  it('sends an event that a standard receiver verifies, and its audit event as data', async () => {
    const { webhookId, signingSecret } = await subscribe(['agent.*']);
    const [agentId] = await newAgents(1);
    await until('the event arrives', () => receiver.received.length === 1);
    const [message] = receiver.received;
    const verified = new Webhook(signingSecret).verify(message?.text ?? '', { ...message?.headers });
    const { body } = await service.api.call<{ data: unknown[] }>('GET', '/audit?action=agent.created&limit=1', token);
    expect(verified).toEqual({ type: 'agent.created', timestamp: expect.any(String), data: body.data[0] });
    expect(message?.body.data['target']).toEqual({ type: 'agent', id: agentId });
    expect(message?.headers['content-type']).toBe('application/json');
    await until('it is in the history', async () => (await attempts(webhookId)) === 1);
    expect((await deliveries(webhookId))[0]).toMatchObject({
      event: 'agent.created',
      eventId: message?.id,
      status: 'delivered',
      nextAttemptAt: null,
      attempts: [{ statusCode: 204, error: null, answer: '', durationMs: expect.any(Number), at: expect.any(String) }],
    });
  });

  it('starts at the head of the chain and sends nothing that went before', async () => {
    await newAgents(2);
    await subscribe(['*']);
    const [agentId] = await newAgents(1);
    await until('events arrive', () => receiver.received.length >= 2);
    expect(receiver.once.map(({ body }) => body.type)).toEqual(['agent.created', 'credential.created']);
    expect(receiver.received[0]?.body.data['target']).toEqual({ type: 'agent', id: agentId });
  });

  it('sends only what the patterns name, and token.issued only where it is named outright', async () => {
    const all = await Receiver.start();
    const family = await Receiver.start();
    const outright = await Receiver.start();
    await subscribe(['*'], all.url);
    await subscribe(['token.*'], family.url);
    await subscribe(['token.issued'], outright.url);
    const own = await service.api.token(service.operator);
    await service.api.revoke(own, own);
    const types = (one: Receiver) => one.received.map(({ body }) => body.type);
    await until('all have theirs', () => types(outright).length >= 1 && types(family).length >= 1);
    await until('all has it too', () => types(all).includes('token.revoked'));
    expect(types(family)).toEqual(['token.revoked']);
    expect(types(all).filter((type) => type.startsWith('token.'))).toEqual(['token.revoked']);
    expect(types(outright)).toEqual(['token.issued']);
    await Promise.all([all.close(), family.close(), outright.close()]);
  });

  it('can deliver every act that the audit log knows, by its name, its family and all', async () => {
    const matching = async (pattern: string): Promise<string[]> => {
      const rows = await service.database.query<{ action: string }>(
        'SELECT action FROM unnest($1::text[]) AS action WHERE audit_action_matches(action, ARRAY[$2])',
        [[...AUDIT_ACTIONS], pattern],
      );
      return rows.map(({ action }) => action);
    };
    const { webhookId } = await subscribe([...AUDIT_ACTIONS]);
    expect((await service.api.call('GET', `/webhooks/${webhookId}`, token)).body['events']).toEqual(AUDIT_ACTIONS);
    const byPattern = AUDIT_ACTIONS.filter((action) => action !== 'token.issued');
    expect(await matching('*')).toEqual(byPattern);
    for (const action of AUDIT_ACTIONS) {
      expect(await matching(action)).toEqual([action]);
      const family = `${action.split('.')[0]}.`;
      expect(await matching(`${family}*`)).toEqual(byPattern.filter((each) => each.startsWith(family)));
    }
  });

  it('sends nothing of an act that was rolled back', async () => {
    await subscribe(['agent.*']);
    await service.database.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'refused'; END $$`);
    await service.database.query(`CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON agents DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW WHEN (NEW.name = 'rolled back') EXECUTE FUNCTION refuse()`);
    const refused = await service.api.call('POST', '/agents', token, { name: 'rolled back' });
    expect(refused.status).toBe(500);
    await newAgents(1);
    await until('what was committed arrives', () => receiver.received.length === 1);
    expect(receiver.received[0]?.body.data['details']).toMatchObject({ name: 'test agent' });
  });

  it('sends events in order and each once', async () => {
    await subscribe(['agent.created']);
    const ids = await newAgents(20);
    await until('all arrive', () => receiver.received.length >= 20);
    expect(receiver.received.map(({ body }) => (body.data['target'] as { id: string }).id)).toEqual(ids);
    expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(20);
  });

  it('has one event and two retries at a time under way at one receiver', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response) => response.writeHead(500).end();
    await newAgents(8);
    await until('all have failed', async () => (await attempts(webhookId)) === 8);
    let underWay = 0;
    let most = 0;
    const held: (() => void)[] = [];
    receiver.answering = (_message, response) => {
      underWay += 1;
      most = Math.max(most, underWay);
      held.push(() => {
        underWay -= 1;
        response.writeHead(204).end();
      });
    };
    service.clock.advance(6);
    token = await service.api.token(service.operator);
    await newAgents(4);
    await until('it has as much as it ever gets', () => underWay === 3);
    await until('the rest arrives as room is made', () => {
      held.shift()?.();
      return receiver.once.length === 12 && receiver.received.length === 20 && held.length === 0;
    });
    expect(most).toBe(3);
  });

  it('goes on after an event that fails, and tries it again about 5 s, 5 min, … later until it is given up', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (message, response) => {
      const isFirst = message.id === receiver.received[0]?.id;
      response.writeHead(isFirst ? 500 : 200, { 'content-type': 'text/plain' }).end(isFirst ? 'no\0' : 'yes');
    };
    await newAgents(3);
    await until('the others are not held back', () => receiver.once.length === 3);
    const first = async () => (await deliveries(webhookId)).find(({ eventId }) => eventId === receiver.received[0]?.id);
    for (const [index, seconds] of [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400].entries()) {
      await until('the failure is recorded', async () => (await first())?.attempts.length === index + 1);
      const delivery = await first();
      const last = delivery?.attempts.at(-1);
      expect(delivery?.status).toBe('pending');
      expect(last).toMatchObject({ statusCode: 500, error: 'the receiver answered 500', answer: 'no\ufffd' });
      const wait = (Date.parse(delivery?.nextAttemptAt ?? '') - Date.parse(last?.at ?? '')) / 1000;
      expect(wait).toBeGreaterThanOrEqual(seconds * 0.9);
      expect(wait).toBeLessThanOrEqual(seconds * 1.1 + 2);
      service.clock.advance(wait);
      token = await service.api.token(service.operator);
    }
    await until('it is given up', async () => (await first())?.status === 'failed');
    expect((await first())?.attempts).toHaveLength(10);
    expect((await first())?.nextAttemptAt).toBeNull();
    expect(receiver.received).toHaveLength(12);
  });

  it('signs with both secrets while a rotation overlaps, and then with the new one only', async () => {
    const { webhookId, signingSecret } = await subscribe(['agent.created']);
    const path = `/webhooks/${webhookId}/rotate-secret`;
    const { body } = await service.api.call('POST', path, token, { overlapSeconds: 600 });
    await newAgents(1);
    await until('it arrives', () => receiver.received.length === 1);
    const [both] = receiver.received;
    expect(both?.headers['webhook-signature']?.split(' ')).toHaveLength(2);
    for (const secret of [signingSecret, String(body['signingSecret'])]) {
      expect(new Webhook(secret).verify(both?.text ?? '', { ...both?.headers })).toEqual(both?.body);
    }
    service.clock.advance(601);
    await newAgents(1);
    await until('the next arrives', () => receiver.received.length === 2);
    const one = receiver.received[1];
    expect(one?.headers['webhook-signature']?.split(' ')).toHaveLength(1);
    expect(() => new Webhook(signingSecret).verify(one?.text ?? '', { ...one?.headers })).toThrow();
  });

  it('sends a test event, whatever the subscription names, and sends events again by hand', async () => {
    const { webhookId, signingSecret } = await subscribe(['quota.threshold']);
    const sent = await service.api.call<DeliveryBody>('POST', `/webhooks/${webhookId}/test`, token);
    expect([sent.status, sent.body.event, sent.body.status]).toEqual([202, 'webhook.test', 'pending']);
    await until('it arrives', () => receiver.received.length === 1);
    const [message] = receiver.received;
    expect(new Webhook(signingSecret).verify(message?.text ?? '', { ...message?.headers })).toMatchObject({
      type: 'webhook.test',
      data: { webhookId },
    });
    await until('it is recorded', async () => (await deliveries(webhookId))[0]?.status === 'delivered');
    const again = `/webhooks/${webhookId}/deliveries/${sent.body.deliveryId}/redeliver`;
    expect((await service.api.call('POST', again, token)).status).toBe(202);
    await until('it arrives again', () => receiver.received.length === 2);
    expect(receiver.received[1]?.id).toBe(message?.id);
    await until('both are recorded', async () => (await deliveries(webhookId))[0]?.attempts.length === 2);
  });

  it('sends an event of the chain again by hand, under the same id and with the same body', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    const [delivery] = await deliveries(webhookId);
    await service.api.call('POST', `/webhooks/${webhookId}/deliveries/${delivery?.deliveryId}/redeliver`, token);
    await until('it arrives again', () => receiver.received.length === 2);
    expect(receiver.received[1]?.text).toBe(receiver.received[0]?.text);
    expect(receiver.received[1]?.id).toBe(receiver.received[0]?.id);
  });

  it('sends an event a hundred times at most, those by hand included', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    const [delivery] = await deliveries(webhookId);
    await service.database.query(
      `UPDATE webhook_deliveries SET attempts = (SELECT jsonb_agg(attempts -> (n * 0)) FROM generate_series(1, 99) AS n)
        WHERE webhook_id = $1`,
      [webhookId],
    );
    const again = () =>
      service.api.call('POST', `/webhooks/${webhookId}/deliveries/${delivery?.deliveryId}/redeliver`, token);
    expect((await again()).status).toBe(202);
    await until('it is recorded', async () => (await attempts(webhookId)) === 100);
    const refused = await again();
    expect([refused.status, refused.body['detail']]).toEqual([409, 'There were 100 attempts at this delivery.']);
    expect(receiver.received).toHaveLength(2);
  });

  it('leaves a receiver that changes the protocol in place of an answer, and goes on', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response, count) => {
      if (count > 1 || receiver.received.length > 1) response.writeHead(204).end();
      else response.socket?.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    };
    await newAgents(2);
    await until('both were tried', async () => (await attempts(webhookId)) === 2);
    const error = 'the connection failed';
    expect((await deliveries(webhookId)).map(({ attempts: [attempt] }) => attempt?.error)).toEqual([null, error]);
  });

  it('waits as long as Retry-After asks', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response) => response.writeHead(503, { 'retry-after': '3600' }).end();
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    const [delivery] = await deliveries(webhookId);
    const wait = Date.parse(delivery?.nextAttemptAt ?? '') - Date.parse(delivery?.attempts[0]?.at ?? '');
    expect(Math.round(wait / 10_000)).toBe(360);
  });

  it.each([
    ['gone', 410, 0],
    ['failing', 500, 7 * 86_400],
  ])('disables a receiver that is %s and tells the other subscriptions', async (reason, status, seconds) => {
    const other = await Receiver.start();
    await subscribe(['webhook.disabled'], other.url);
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response) => response.writeHead(status).end();
    await newAgents(1);
    await until('it fails', async () => (await attempts(webhookId)) === 1);
    if (seconds > 0) {
      service.clock.advance(seconds);
      token = await service.api.token(service.operator);
      await newAgents(1);
    }
    await until('the other is told', () => other.received.length === 1);
    expect(other.received[0]?.body.data).toMatchObject({
      action: 'webhook.disabled',
      actor: null,
      target: { type: 'webhook', id: webhookId },
      details: { reason },
    });
    const { body } = await service.api.call('GET', `/webhooks/${webhookId}`, token);
    expect(body).toMatchObject({ status: 'disabled', disabledReason: reason });
    expect((await deliveries(webhookId)).every((one) => one.status === 'failed')).toBe(true);
    const before = receiver.received.length;
    await newAgents(1);
    await service.api.call('PATCH', `/webhooks/${webhookId}`, token, { status: 'active' });
    receiver.answering = (_message, response) => response.end();
    const [agentId] = await newAgents(1);
    await until('it starts anew', () => receiver.received.length > before);
    expect(receiver.received.at(-1)?.body.data['target']).toEqual({ type: 'agent', id: agentId });
    expect(receiver.received).toHaveLength(before + 1);
    await other.close();
  });

  it('starts anew, too, where it was disabled and made active again in mid-delivery', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    let letGo = (): void => undefined;
    receiver.answering = (_message, response) => (letGo = () => response.writeHead(204).end());
    const [first] = await newAgents(3);
    await until('the first is under way', () => receiver.received.length === 1);
    receiver.answering = (_message, response) => response.writeHead(204).end();
    for (const status of ['disabled', 'active']) {
      expect((await service.api.call('PATCH', `/webhooks/${webhookId}`, token, { status })).status).toBe(200);
    }
    const [next] = await newAgents(1);
    await until('what happened from then on arrives', () => receiver.received.length >= 2);
    // The receiver lets go of the first: nothing that waited behind it is sent any more.
    letGo();
    const [last] = await newAgents(1);
    const delivered = async () => (await deliveries(webhookId)).filter(({ status }) => status === 'delivered');
    await until('both are delivered', async () => (await delivered()).length === 2);
    const subjects = receiver.received.map(({ body }) => (body.data['target'] as { id: string }).id);
    expect(subjects).toEqual([first, next, last]);
    expect(await deliveries(webhookId)).toEqual(await delivered());
  });

  it('drops nothing, and keeps nobody waiting, while somebody reads the history of a day that has passed', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    const rows = () => service.database.query('SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1', [webhookId]);
    service.clock.advance(31 * 86_400);
    token = await service.api.token(service.operator);
    const reader = new pg.Client({ connectionString: service.database.superuserUrl });
    // A test that fails drops its database with the lock in place.
    reader.on('error', () => undefined);
    await reader.connect();
    await reader.query('BEGIN');
    await reader.query('LOCK TABLE webhook_deliveries IN ACCESS SHARE MODE');
    const began = performance.now();
    await service.app.get(DeliveryRetention).emptyPassedDays();
    // The ordinary limit on waiting for a lock is two seconds.
    expect(performance.now() - began).toBeLessThan(1500);
    await reader.query('COMMIT');
    await reader.end();
    expect(await rows()).toHaveLength(1);
    await service.app.get(DeliveryRetention).emptyPassedDays();
    expect(await rows()).toHaveLength(0);
  });

  it('takes a redirect as a failure and does not follow it', async () => {
    const target = await Receiver.start();
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response) => response.writeHead(307, { location: target.url }).end();
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    expect((await deliveries(webhookId))[0]).toMatchObject({ status: 'pending', attempts: [{ statusCode: 307 }] });
    expect(target.received).toHaveLength(0);
    await target.close();
  });

  it('keeps the first KiB of an answer, of one without end too', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    receiver.answering = (_message, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more);
      more();
    };
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    expect((await deliveries(webhookId))[0]?.attempts[0]?.answer).toBe('x'.repeat(1024));
  });

  it('sends no secret and no token', async () => {
    const { signingSecret } = await subscribe(['*', 'token.issued']);
    const agent = await service.api.agent(token);
    const issued = await service.api.token(agent);
    await service.api.revoke(issued, issued);
    const created = await service.api.call('POST', '/webhooks', token, {
      url: receiver.url,
      events: ['token.revoked'],
    });
    await service.api.call('POST', `/webhooks/${String(created.body['webhookId'])}/rotate-secret`, token);
    await until('the last arrives', () => receiver.received.some(({ body }) => body.type === 'webhook.secret_rotated'));
    const all = receiver.received.map(({ text }) => text).join('\n');
    for (const secret of [signingSecret, agent.clientSecret, issued, String(created.body['signingSecret'])]) {
      expect(all).not.toContain(secret);
    }
    expect(all).not.toMatch(/whsec_|eyJ/);
  });

  it('drops the history of days that have passed, and nothing younger', async () => {
    const { webhookId } = await subscribe(['agent.created']);
    await newAgents(1);
    await until('it is recorded', async () => (await attempts(webhookId)) === 1);
    const retention = service.app.get(DeliveryRetention);
    for (const [days, left] of [
      [29, 1],
      [1, 1],
      [1, 0],
    ] as const) {
      service.clock.advance(days * 86_400);
      await retention.emptyPassedDays();
      expect(
        await service.database.query('SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1', [webhookId]),
      ).toHaveLength(left);
    }
  });
});

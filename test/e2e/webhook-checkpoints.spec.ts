import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import { RetentionService } from '../../src/evidence/retention.service.js';
import { restoreEvidence, saveEvidence } from '../support/chain-forgery.js';
import { addOrganization } from '../support/organizations.js';
import { Receiver } from '../support/receiver.js';
import { deliveriesOf, subscribe } from '../support/subscriptions.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

const LOOPBACK = { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' };

interface Checkpoint {
  readonly checkpoint: string;
  readonly sequence: number;
  readonly issuedAt: string;
}

describe('audit.checkpoint', () => {
  let service: TestApp;
  let token: string;
  let receiver: Receiver;
  const others: Receiver[] = [];

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
    await service.database.query('DELETE FROM webhooks');
    for (const each of [receiver, ...others.splice(0)]) await each.close();
  });

  async function another(): Promise<Receiver> {
    const made = await Receiver.start();
    others.push(made);
    return made;
  }

  /** Has something happen, and a checkpoint signed over it; as `GET /audit/checkpoints` shows it. */
  async function sign(as = token): Promise<Checkpoint> {
    await service.api.agent(token);
    const { body } = await service.api.call('GET', '/audit/checkpoint', as);
    const listed = await service.api.call<{ data: Checkpoint[] }>('GET', '/audit/checkpoints?limit=200', as);
    const found = listed.body.data.find(({ checkpoint }) => checkpoint === body['checkpoint']);
    if (found === undefined) throw new Error('the checkpoint is not listed');
    return found;
  }

  const checkpointsAt = (one: Receiver) => one.received.filter(({ body }) => body.type === 'audit.checkpoint');
  const dataAt = (one: Receiver) => checkpointsAt(one).map(({ body }) => body.data);

  it('is sent to who names it, its family or all, with the members of the list and under one id', async () => {
    const [family, all, none] = [await another(), await another(), await another()];
    const { signingSecret } = await subscribe(service.api, token, receiver.url, ['audit.checkpoint']);
    await subscribe(service.api, token, family.url, ['audit.*', 'token.revoked']);
    await subscribe(service.api, token, all.url, ['*']);
    await subscribe(service.api, token, none.url, ['agent.*', 'token.issued']);
    const signed = await sign();
    for (const one of [receiver, family, all]) {
      await until('it arrives', () => checkpointsAt(one).length === 1);
    }
    expect(dataAt(receiver)).toEqual([signed]);
    const [message] = receiver.received;
    expect(message?.body).toMatchObject({ type: 'audit.checkpoint', timestamp: signed.issuedAt });
    expect(new Webhook(signingSecret).verify(message?.text ?? '', { ...message?.headers })).toEqual(message?.body);
    for (const one of [family, all])
      expect(checkpointsAt(one)[0]).toMatchObject({ id: message?.id, text: message?.text });
    expect(family.received).toHaveLength(1);
    await service.api.agent(token);
    await until('what came after it arrives', () => none.once.length >= 2);
    expect(none.received.map(({ body }) => body.type)).not.toContain('audit.checkpoint');
  });

  it('begins behind the newest, when it is subscribed, named, or active again', async () => {
    await sign();
    const { webhookId } = await subscribe(service.api, token, receiver.url, ['audit.checkpoint']);
    const later = await another();
    const second = await subscribe(service.api, token, later.url, ['quota.threshold']);
    const first = await sign();
    await until('the first arrives', () => receiver.received.length === 1);
    const change = (id: string, fields: object) => service.api.call('PATCH', `/webhooks/${id}`, token, fields);
    expect((await change(second.webhookId, { events: ['audit.*'] })).status).toBe(200);
    await change(webhookId, { status: 'disabled' });
    const missed = await sign();
    await until('the other, which names it now, has it', () => later.received.length === 1);
    await change(webhookId, { status: 'active' });
    const last = await sign();
    await until('the last arrives', () => receiver.received.length === 2 && later.received.length === 2);
    expect(dataAt(receiver)).toEqual([first, last]);
    expect(dataAt(later)).toEqual([missed, last]);
  });

  it('comes behind the events that it covers, and before those that came after it', async () => {
    await subscribe(service.api, token, receiver.url, ['agent.created', 'credential.created', 'audit.checkpoint']);
    const signed: Checkpoint[] = [];
    for (let round = 0; round < 4; round += 1) signed.push(await sign());
    await until('all arrive', () => checkpointsAt(receiver).length === 4);
    const places = receiver.received.map(({ body }) => body.data['sequence'] as number);
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(dataAt(receiver)).toEqual(signed);
    expect(receiver.once).toHaveLength(receiver.received.length);
  });

  it('is kept by a receiver, and finds a log that was rewritten', async () => {
    await subscribe(service.api, token, receiver.url, ['audit.checkpoint']);
    await sign();
    await until('it arrives', () => receiver.received.length === 1);
    const kept = receiver.received[0]?.body.data['checkpoint'];
    const verdict = async () => (await service.api.call('POST', '/audit/verify', token, { checkpoint: kept })).body;
    expect(await verdict()).toMatchObject({ valid: true, brokenAt: null });
    await saveEvidence(service.database);
    try {
      await service.database.query(`UPDATE audit_events SET details = '{"name":"somebody else"}' WHERE sequence = 2`);
      expect(await verdict()).toMatchObject({ valid: false, brokenAt: 2 });
    } finally {
      await restoreEvidence(service.database);
    }
    expect(await verdict()).toMatchObject({ valid: true });
  });

  it('is sent after it is committed, not before', async () => {
    await subscribe(service.api, token, receiver.url, ['audit.checkpoint']);
    const { sequence, ...rest } = await sign();
    await until('what was committed arrives', () => receiver.received.length === 1);
    const payload = Buffer.from(JSON.stringify({ ...rest, sequence: sequence + 1 })).toString('base64url');
    const client = new pg.Client({ connectionString: service.database.superuserUrl });
    await client.connect();
    try {
      await service.api.agent(token);
      await client.query('BEGIN');
      const organization = await client.query<{ organization_id: string }>(
        'UPDATE audit_trees SET checkpoint_sequence = checkpoint_sequence + 1 RETURNING organization_id',
      );
      await client.query(
        'INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at) VALUES ($1, $2, $3, now())',
        [organization.rows[0]?.organization_id, sequence + 1, `e30.${payload}.`],
      );
      const other = await another();
      await subscribe(service.api, token, other.url, ['agent.created']);
      await service.api.agent(token);
      await until('events arrive meanwhile', () => other.received.length === 1);
      expect(receiver.received).toHaveLength(1);
      await client.query('ROLLBACK');
    } finally {
      await client.end();
    }
    const next = await sign();
    await until('the next arrives', () => receiver.received.length === 2);
    expect(dataAt(receiver)[1]).toEqual(next);
  });

  it('arrives when a receiver that was down is back, under its id, and by hand again', async () => {
    const { webhookId } = await subscribe(service.api, token, receiver.url, ['audit.checkpoint']);
    await receiver.close();
    const signed = [await sign(), await sign()];
    const history = () => deliveriesOf(service.api, token, webhookId);
    const failed = async () => (await history()).filter(({ attempts }) => attempts.length === 1);
    await until('both were refused', async () => (await failed()).length === 2);
    const before = await history();
    expect(before).toMatchObject([
      { event: 'audit.checkpoint', status: 'pending', attempts: [{ error: 'the connection was refused' }] },
      { event: 'audit.checkpoint', status: 'pending', attempts: [{ error: 'the connection was refused' }] },
    ]);
    await receiver.listen();
    service.clock.advance(6);
    await until('both arrive', () => receiver.received.length === 2);
    expect(new Set(dataAt(receiver).map(({ sequence }) => sequence))).toEqual(
      new Set(signed.map(({ sequence }) => sequence)),
    );
    expect(new Set(receiver.received.map(({ id }) => id))).toEqual(new Set(before.map(({ eventId }) => eventId)));
    await until('both are recorded', async () => (await history()).every(({ status }) => status === 'delivered'));
    const [newest] = await history();
    const again = `/webhooks/${webhookId}/deliveries/${newest?.deliveryId}/redeliver`;
    expect((await service.api.call('POST', again, token)).status).toBe(202);
    await until('it arrives again', () => receiver.received.length === 3);
    const repeated = receiver.received[2];
    expect(repeated?.id).toBe(newest?.eventId);
    expect(repeated?.text).toBe(receiver.received.find(({ id }) => id === repeated?.id)?.text);
  });

  it('is sent once by two replicas that share the work', async () => {
    const replica = await startTestApp({ database: service.database, env: { ...LOOPBACK, ISSUER: service.issuer } });
    try {
      const receivers = [receiver, await another(), await another()];
      for (const one of receivers) await subscribe(service.api, token, one.url, ['*']);
      const signed: Checkpoint[] = [];
      for (let round = 0; round < 6; round += 1) signed.push(await sign());
      for (const one of receivers) {
        await until('all arrive', () => checkpointsAt(one).length >= signed.length);
        expect(dataAt(one)).toEqual(signed);
        expect(one.once).toHaveLength(one.received.length);
      }
    } finally {
      await replica.close();
    }
  });

  it('is not overtaken by retention, which removes the events that it covers', async () => {
    const operator = token;
    const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
    service.clock.set(daysAgo(200));
    const organizationId = await addOrganization(service, operator, { tier: 'free' });
    const scopes = ['audit:read', 'webhooks:read', 'webhooks:write'];
    const agent = await service.api.agent(await service.api.token(service.operator), { organizationId, scopes });
    const tenant = async () => service.api.token(agent);
    const { webhookId } = await subscribe(service.api, await tenant(), receiver.url, ['audit.checkpoint']);
    const lease = (until: string) =>
      service.database.query(
        'UPDATE webhook_lanes SET lease_owner = gen_random_uuid(), lease_until = $2 WHERE webhook_id = $1',
        [webhookId, until],
      );
    // Nobody serves it: what is signed meanwhile waits.
    await lease('infinity');
    const signed = (await service.api.call('GET', '/audit/checkpoint', await tenant())).body['checkpoint'];
    service.clock.set(new Date().toISOString());
    await service.database.query(
      `UPDATE webhook_lanes SET sequence = (SELECT max(sequence) FROM audit_events WHERE organization_id = $2)
        WHERE webhook_id = $1`,
      [webhookId, organizationId],
    );
    await service.app.get(RetentionService).sweep();
    const left = 'SELECT 1 FROM audit_events WHERE organization_id = $1';
    expect(await service.database.query(left, [organizationId])).toEqual([]);
    expect(receiver.received).toHaveLength(0);
    await lease('-infinity');
    await until('it arrives', () => receiver.received.length >= 1);
    expect(dataAt(receiver)[0]?.['checkpoint']).toBe(signed);
  });
});

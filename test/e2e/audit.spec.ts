import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash, randomUUID } from 'node:crypto';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** An event as the API shows it. */
interface Event {
  eventId: string;
  sequence: number;
  organizationId: string;
  action: string;
  outcome: string;
  actor: string | null;
  target: { type: string; id: string };
  ip: string | null;
  userAgent: string | null;
  details: Record<string, unknown>;
  occurredAt: string;
  previousHash: string;
  hash: string;
}

/** JSON Canonicalization Scheme, RFC 8785, written for this test alone. */
function jcs(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(jcs).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${jcs(member)}`).join(',')}}`;
}

const sha256 = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');
const hashOf = ({ hash: _hash, ...event }: Event): string => sha256(jcs(event));

/** What is wrong with a chain, oldest first; the test's own verification. */
function faultOf(events: readonly Event[]): string | null {
  let previous = sha256(events[0]?.organizationId ?? '');
  for (const [index, event] of events.entries()) {
    if (event.sequence !== index + 1) return `a gap before ${event.sequence}`;
    if (event.previousHash !== previous) return `a broken link at ${event.sequence}`;
    if (hashOf(event) !== event.hash) return `a wrong hash at ${event.sequence}`;
    previous = event.hash;
  }
  return null;
}

async function list(service: TestApp, token: string, query = ''): Promise<Event[]> {
  const events: Event[] = [];
  let cursor = '';
  do {
    const { status, body, text } = await service.api.call('GET', `/audit?limit=200&${query}${cursor}`, token);
    if (status !== 200) throw new Error(`no list: ${status} ${text}`);
    events.push(...(body['data'] as Event[]));
    cursor = typeof body['nextCursor'] === 'string' ? `&cursor=${body['nextCursor']}` : '';
  } while (cursor !== '');
  return events;
}

describe('the audit log', () => {
  let service: TestApp;
  let operator: string;
  let operatorId: string;
  let organizationId: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    operatorId = service.operator.clientId;
    organizationId = claimsOf(operator)['org'] as string;
  });
  afterAll(() => service.close());

  const call = (method: string, path: string, body?: unknown): Promise<Answer> =>
    service.api.call(method, path, operator, body);
  const head = async (): Promise<number> => {
    const [row] = await service.database.query<{ sequence: string }>('SELECT sequence FROM organization_ledgers');
    return Number(row?.sequence);
  };

  /** The events that `work` leaves, oldest first. */
  async function eventsOf(work: () => Promise<unknown>): Promise<Event[]> {
    const before = await head();
    await work();
    const count = (await head()) - before;
    const { body } = await call('GET', `/audit?limit=${Math.max(1, count)}`);
    return count === 0 ? [] : (body['data'] as Event[]).reverse();
  }

  describe('one event for each act', () => {
    let agent: TestAgent;
    beforeAll(async () => {
      agent = await service.api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
    });

    const byOperator = (action: string, type: string, id: string, details: unknown): unknown => ({
      eventId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      sequence: expect.any(Number),
      organizationId,
      action,
      outcome: 'success',
      actor: operatorId,
      target: { type, id },
      ip: '127.0.0.1',
      userAgent: 'node',
      details,
      occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      previousHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });

    it('agent.created', async () => {
      let agentId = '';
      const events = await eventsOf(async () => {
        const { body } = await call('POST', '/agents', { name: 'n – "ü" \u2028 😀', scopes: ['agents:read'] });
        agentId = body['agentId'] as string;
      });
      const details = { name: 'n – "ü" \u2028 😀', scopes: ['agents:read'] };
      expect(events).toEqual([byOperator('agent.created', 'agent', agentId, details)]);
    });

    it('agent.updated', async () => {
      const { agentId } = await service.api.agent(operator, { scopes: ['agents:read', 'tokens:read'] });
      const change = { owner: 'me', scopes: ['tokens:read', 'audit:read'] };
      expect(await eventsOf(() => call('PATCH', `/agents/${agentId}`, change))).toEqual([
        byOperator('agent.updated', 'agent', agentId, {
          changed: ['owner', 'scopes'],
          scopesAdded: ['audit:read'],
          scopesRemoved: ['agents:read'],
        }),
      ]);
    });

    it('agent.suspended, agent.reactivated, agent.tokens_revoked, agent.decommissioned', async () => {
      const { agentId } = await service.api.agent(operator);
      const acts: [string, string, string][] = [
        ['agent.tokens_revoked', 'POST', '/revoke-tokens'],
        ['agent.suspended', 'POST', '/suspend'],
        ['agent.reactivated', 'POST', '/reactivate'],
        ['agent.decommissioned', 'DELETE', ''],
      ];
      for (const [action, method, path] of acts) {
        const events = await eventsOf(() => call(method, `/agents/${agentId}${path}`));
        expect(events).toEqual([byOperator(action, 'agent', agentId, {})]);
      }
      expect(await eventsOf(() => call('DELETE', `/agents/${agentId}`))).toEqual([]);
    });

    it('credential.created, credential.rotated, credential.revoked', async () => {
      const path = `/agents/${agent.agentId}/credentials`;
      const made: Record<string, string>[] = [];
      const keep = async (answer: Promise<Answer>): Promise<void> => {
        made.push((await answer).body as Record<string, string>);
      };
      const created = await eventsOf(() => keep(call('POST', path, { expiresAt: '2031-01-01T00:00:00Z' })));
      const first = made[0] ?? {};
      const agentId = agent.agentId;
      expect(created).toEqual([
        byOperator('credential.created', 'credential', first['credentialId'] ?? '', {
          agentId,
          prefix: first['prefix'],
          expiresAt: '2031-01-01T00:00:00.000Z',
        }),
      ]);
      const rotated = await eventsOf(() =>
        keep(call('POST', `${path}/${first['credentialId']}/rotate`, { overlapSeconds: 60 })),
      );
      const second = made[1] ?? {};
      expect(rotated).toEqual([
        byOperator('credential.rotated', 'credential', first['credentialId'] ?? '', {
          agentId,
          prefix: first['prefix'],
          newCredentialId: second['credentialId'],
          overlapSeconds: 60,
        }),
      ]);
      const revoked = await eventsOf(() => call('DELETE', `${path}/${second['credentialId']}?keepTokens=true`));
      expect(revoked).toEqual([
        byOperator('credential.revoked', 'credential', second['credentialId'] ?? '', {
          agentId,
          prefix: second['prefix'],
          keepTokens: true,
        }),
      ]);
    });

    it('credential.rotated by the client itself, which is the actor', async () => {
      const own = await service.api.agent(operator);
      const events = await eventsOf(() =>
        service.api.send('POST', `/api/v1/agents/${own.agentId}/credentials/${own.credentialId}/rotate`, {
          headers: { ...basic(own), 'User-Agent': 'rotator/1.0' },
        }),
      );
      expect(events).toMatchObject([
        {
          action: 'credential.rotated',
          actor: own.agentId,
          userAgent: 'rotator/1.0',
          target: { id: own.credentialId },
        },
      ]);
    });

    it('token.issued, with the jti and never the token', async () => {
      let token = '';
      const events = await eventsOf(async () => {
        token = await service.api.token(agent, { scope: 'tokens:read' });
      });
      const { jti, exp } = claimsOf(token);
      expect(events).toEqual([
        {
          ...(byOperator('token.issued', 'token', String(jti), {
            audience: service.issuer,
            credentialId: agent.credentialId,
            expiresAt: exp,
            scope: 'tokens:read',
          }) as Event),
          actor: agent.agentId,
        },
      ]);
    });

    it('token.revoked, once, however often it is asked for', async () => {
      const token = await service.api.token(agent);
      const events = await eventsOf(async () => {
        await Promise.all([1, 2, 3].map(() => service.api.revoke(operator, token)));
        await service.api.revoke(operator, token);
      });
      expect(events).toEqual([
        byOperator('token.revoked', 'token', String(claimsOf(token)['jti']), {
          agentId: agent.agentId,
          credentialId: agent.credentialId,
        }),
      ]);
    });

    it('token.refused, with its reason, for every refusal of a known client', async () => {
      const refused = async (work: () => Promise<unknown>): Promise<Event> => {
        const events = await eventsOf(work);
        expect(events).toMatchObject([
          {
            action: 'token.refused',
            outcome: 'failure',
            target: { type: 'agent', id: agent.agentId },
            ip: '127.0.0.1',
          },
        ]);
        return events[0] as Event;
      };
      const wrong = await refused(() => service.api.requestToken({ ...agent, clientSecret: 'wrong' }));
      expect(wrong).toMatchObject({
        actor: null,
        details: { reason: 'invalid_client', cause: 'secret_mismatch', method: 'client_secret_post' },
      });
      expect(await refused(() => service.api.requestToken(agent, { scope: 'admin:orgs' }))).toMatchObject({
        actor: agent.agentId,
        details: { reason: 'invalid_scope', credentialId: agent.credentialId },
      });
      expect(await refused(() => service.api.requestToken(agent, { resource: 'urn:nobody' }))).toMatchObject({
        details: { reason: 'invalid_target' },
      });
      await call('POST', `/agents/${agent.agentId}/suspend`);
      expect(await refused(() => service.api.requestToken(agent))).toMatchObject({
        details: { reason: 'agent_suspended' },
      });
      await call('POST', `/agents/${agent.agentId}/reactivate`);
      await service.database.query('UPDATE organizations SET limit_tokens_per_month = 0');
      const quota = await refused(() => service.api.requestToken(agent));
      await service.database.query('UPDATE organizations SET limit_tokens_per_month = NULL');
      expect(quota).toMatchObject({ actor: agent.agentId, details: { reason: 'quota_reached' } });
      const revoked = await service.api.secret(operator, agent.agentId);
      await call('DELETE', `/agents/${agent.agentId}/credentials/${revoked.credentialId}`);
      expect(await refused(() => service.api.requestToken({ ...agent, ...revoked }))).toMatchObject({
        actor: null,
        details: { reason: 'invalid_client', cause: 'credential_not_usable', credentialId: revoked.credentialId },
      });
    });

    it('organization.created is the first of the chain, and nobody its actor', async () => {
      const events = (await list(service, operator)).reverse();
      expect(events.slice(0, 3)).toMatchObject([
        {
          sequence: 1,
          action: 'organization.created',
          actor: null,
          target: { type: 'organization', id: organizationId },
          ip: null,
          userAgent: null,
          previousHash: sha256(organizationId),
        },
        { sequence: 2, action: 'agent.created', actor: null, target: { id: operatorId } },
        { sequence: 3, action: 'credential.created', actor: null, details: { agentId: operatorId } },
      ]);
    });

    it('none for what is only read, refused for its shape, or asked by unknown clients', async () => {
      const events = await eventsOf(async () => {
        await call('GET', '/agents');
        await call('GET', '/quota');
        await call('GET', '/audit/verify');
        await service.api.introspect(operator, operator);
        await service.api.revoke(operator, 'garbage');
        await service.api.requestToken({ clientId: randomUUID(), clientSecret: 'x' });
        await service.api.requestToken(agent, { grant_type: 'password' });
        await call('POST', '/agents', { name: '' });
        await call('POST', `/agents/${randomUUID()}/suspend`);
      });
      expect(events).toEqual([]);
    });

    it('none for an act that is refused', async () => {
      const [credential] = (await call('GET', `/agents/${operatorId}/credentials`)).body['data'] as {
        credentialId: string;
      }[];
      const revokedTwice = await service.api.agent(operator);
      const path = `/agents/${revokedTwice.agentId}/credentials/${revokedTwice.credentialId}`;
      await call('DELETE', path);
      const statuses: number[] = [];
      const events = await eventsOf(async () => {
        for (const [method, refused, body] of [
          // Refused after the event was written: there would be no usable operator left.
          ['POST', `/agents/${operatorId}/suspend`],
          ['DELETE', `/agents/${operatorId}`],
          ['PATCH', `/agents/${operatorId}`, { scopes: [] }],
          ['DELETE', `/agents/${operatorId}/credentials/${credential?.credentialId}`],
          ['POST', `/agents/${operatorId}/reactivate`],
          ['POST', `${path}/rotate`],
        ] as [string, string, unknown][]) {
          statuses.push((await call(method, refused, body)).status);
        }
      });
      expect(statuses).toEqual([409, 409, 409, 409, 409, 409]);
      expect(events).toEqual([]);
    });

    it('cuts a long User-Agent to 256 characters and keeps one that is not ASCII', async () => {
      const agentOf = async (userAgent: string): Promise<unknown> => {
        const [event] = await eventsOf(() =>
          service.api.form(
            '/api/v1/token',
            { grant_type: 'client_credentials', client_id: agent.clientId, client_secret: agent.clientSecret },
            { 'User-Agent': userAgent },
          ),
        );
        return event?.userAgent;
      };
      expect(await agentOf('u'.repeat(300))).toBe('u'.repeat(256));
      expect(await agentOf('"curl\\8" \t é')).toBe('"curl\\8" \t é');
    });
  });

  it('verifies by twenty lines of one’s own, from the first event to the last', async () => {
    const events = (await list(service, operator)).reverse();
    expect(events.length).toBeGreaterThan(30);
    expect(faultOf(events)).toBeNull();
    const { body } = await call('GET', '/audit/verify');
    expect(body).toEqual({
      valid: true,
      checked: events.length,
      firstSequence: 1,
      lastSequence: events.length,
      headHash: events.at(-1)?.hash,
      brokenAt: null,
    });
  });

  it('has no gaps when acts and issuances come at once', async () => {
    const agent = await service.api.agent(operator);
    const before = await head();
    await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        index % 3 === 0 ? call('POST', '/agents', { name: `n${index}` }) : service.api.token(agent),
      ),
    );
    expect(await head()).toBe(before + 24);
    expect(faultOf((await list(service, operator)).reverse())).toBeNull();
  });

  it('holds neither secrets nor tokens', async () => {
    const agent = await service.api.agent(operator, { name: 'secretive' });
    const token = await service.api.token(agent);
    await service.api.requestToken({ ...agent, clientSecret: `${agent.clientSecret}x` });
    await service.api.revoke(operator, token);
    const text = JSON.stringify(await list(service, operator));
    expect(text).not.toMatch(/sas_[0-9A-Za-z]{9,}/);
    expect(text).not.toMatch(/eyJ/);
    expect(text).not.toContain(token.split('.')[2]);
  });

  describe('searched', () => {
    it('by agent: what it did, what was done to it and to what it has, and nothing else', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:write', 'agents:read'] });
      const other = await service.api.agent(operator);
      const token = await service.api.token(agent);
      await service.api.call('POST', `/agents/${other.agentId}/suspend`, token);
      await service.api.revoke(operator, token);
      await service.api.requestToken({ ...agent, clientSecret: 'x' });
      const found = await list(service, operator, `agentId=${agent.agentId}`);
      expect(found.map(({ action }) => action)).toEqual([
        'token.refused',
        'token.revoked',
        'agent.suspended',
        'token.issued',
        'credential.created',
        'agent.created',
      ]);
      expect(await list(service, operator, `agentId=${agent.agentId.toUpperCase()}`)).toEqual(found);
      expect(await list(service, operator, `agentId=${randomUUID()}`)).toEqual([]);
    });

    it('by action and by outcome', async () => {
      const agent = await service.api.agent(operator);
      await service.api.requestToken({ ...agent, clientSecret: 'x' });
      const all = await list(service, operator);
      const refused = await list(service, operator, 'action=token.refused');
      expect(refused.length).toBeGreaterThan(0);
      expect(refused).toEqual(all.filter(({ action }) => action === 'token.refused'));
      expect(await list(service, operator, 'outcome=failure')).toEqual(
        all.filter(({ outcome }) => outcome === 'failure'),
      );
      expect(await list(service, operator, 'outcome=success')).toEqual(
        all.filter(({ outcome }) => outcome === 'success'),
      );
      expect(await list(service, operator, `action=agent.created&agentId=${agent.agentId}`)).toHaveLength(1);
    });

    it('by time: from counts its instant, to does not', async () => {
      const [first, second, third] = [100, 200, 300].map((seconds) =>
        new Date(service.clock.nowMs() + seconds * 1000).toISOString(),
      ) as [string, string, string];
      const ids: string[] = [];
      try {
        for (const instant of [first, second, third]) {
          service.clock.freeze(instant);
          ids.push((await call('POST', '/agents', { name: 'timed' })).body['agentId'] as string);
        }
        const found = async (query: string): Promise<number[]> =>
          (await list(service, operator, `action=agent.created&${query}`))
            .map(({ target }) => ids.indexOf(target.id))
            .filter((index) => index !== -1);
        expect(await found(`from=${first}`)).toEqual([2, 1, 0]);
        expect(await found(`from=${second}`)).toEqual([2, 1]);
        expect(await found(`to=${third}`)).toEqual([1, 0]);
        expect(await found(`from=${second}&to=${third}`)).toEqual([1]);
        expect(await found(`from=${second}&to=${second}`)).toEqual([]);
        const offset = new Date(Date.parse(second) + 7_200_000).toISOString().replace('Z', '+02:00');
        expect(await found(`from=${encodeURIComponent(offset)}`)).toEqual([2, 1]);
        expect(await found(`from=${first.slice(0, 10)}`)).toEqual([2, 1, 0]);
        expect(await found('to=2020-01-01')).toEqual([]);
      } finally {
        service.clock.advance(0);
        service.clock.set(new Date(Date.parse(third)).toISOString());
      }
    });

    it.each([
      ['agentId=me', '/agentId'],
      ['action=agent.imagined', '/action'],
      ['outcome=maybe', '/outcome'],
      ['from=yesterday', '/from'],
      ['from=1700000000', '/from'],
      ['from=2026-02-30T00:00:00Z', '/from'],
      ['from=2026-11-22T10:00:00', '/from'],
      ['from=2026-W47-1', '/from'],
      ['from=0000-01-01T00:00:00Z', '/from'],
      ['to=2026-13-01', '/to'],
      ['to=2026-11-22T25:00:00Z', '/to'],
      ['from=2026-11-02&to=2026-11-01', '/to'],
      ['limit=0', '/limit'],
      ['limit=201', '/limit'],
      ['cursor=x', '/cursor'],
      ['colour=red', '/colour'],
    ])('not by the query %s', async (query, pointer) => {
      const { status, headers, body } = await call('GET', `/audit?${query}`);
      expect([status, body['code'], headers.get('content-type')]).toEqual([
        400,
        'validation_failed',
        'application/problem+json',
      ]);
      expect((body['errors'] as { pointer: string }[]).map((each) => each.pointer)).toContain(pointer);
    });

    it('in pages, newest first, without gaps, while events are added', async () => {
      const whole = await list(service, operator);
      const seen: Event[] = [];
      let cursor = '';
      for (let page = 0; page < 3; page += 1) {
        const { body } = await call('GET', `/audit?limit=7${cursor}`);
        seen.push(...(body['data'] as Event[]));
        cursor = `&cursor=${String(body['nextCursor'])}`;
        await call('POST', '/agents', { name: 'in between' });
      }
      expect(seen).toEqual(whole.slice(0, 21));
    });

    it('not with the cursor of another list', async () => {
      const page = await call('GET', '/agents?limit=1');
      expect((await call('GET', `/audit?cursor=${String(page.body['nextCursor'])}`)).status).toBe(400);
      const forged = Buffer.from(JSON.stringify([`audit:${randomUUID()}`, '1'])).toString('base64url');
      expect((await call('GET', `/audit?cursor=${forged}`)).status).toBe(400);
    });
  });

  describe('one event', () => {
    it('reads as in the list', async () => {
      const [event] = (await call('GET', '/audit?limit=1')).body['data'] as Event[];
      expect((await call('GET', `/audit/${event?.eventId}`)).body).toEqual(event);
    });

    it('is not found where its id is unknown, malformed or another organization’s', async () => {
      const foreign = randomUUID();
      const auditor = await service.api.token(await service.api.agent(operator, { scopes: ['audit:read'] }));
      const organization = randomUUID();
      await service.database.query(
        `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
          VALUES ($1, 'Other', 'other', 'free', 'active', now(), now())`,
        [organization],
      );
      await service.database.query(
        `INSERT INTO audit_events SELECT $1, 1, $2, action, outcome, actor, target_type, target_id, ip, user_agent, details,
          occurred_at, previous_hash, hash FROM audit_events WHERE sequence = 1 AND organization_id = $3`,
        [organization, foreign, organizationId],
      );
      for (const id of [foreign, randomUUID(), 'first', '%27']) {
        const { status, body } = await service.api.call('GET', `/audit/${id}`, auditor);
        expect([status, body['code']]).toEqual([404, 'not_found']);
      }
      expect((await call('GET', `/audit/${foreign}`)).status).toBe(200);
    });
  });
});

describe('an audit log that somebody tampered with', () => {
  let service: TestApp;
  let operator: string;
  let last: number;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    for (let index = 0; index < 8; index += 1) await service.api.agent(operator);
    last = (await list(service, operator)).length;
    await service.database.query('CREATE TABLE untouched AS SELECT * FROM audit_events');
  });
  afterAll(() => service.close());

  const verify = async (query = ''): Promise<Record<string, unknown>> =>
    (await service.api.call('GET', `/audit/verify?${query}`, operator)).body;

  /** What verification says after `sql`; then everything is put back. */
  async function after(sql: string, values: unknown[] = [], query = ''): Promise<Record<string, unknown>> {
    try {
      await service.database.query(sql, values);
      return await verify(query);
    } finally {
      await service.database.query('DELETE FROM audit_events');
      await service.database.query('INSERT INTO audit_events SELECT * FROM untouched');
    }
  }

  it('is right before, and right again once all is put back', async () => {
    expect(await verify()).toMatchObject({ valid: true, checked: last });
    await after('DELETE FROM audit_events');
    expect(await verify()).toMatchObject({ valid: true, checked: last });
  });

  it('is found whichever column of an event is changed', async () => {
    const changes: Record<string, string> = {
      organization_id: 'gen_random_uuid()',
      sequence: '1000000',
      event_id: 'gen_random_uuid()',
      action: "'agent.updated'",
      outcome: "'failure'",
      actor: 'NULL',
      target_type: "'token'",
      target_id: "target_id || ' '",
      ip: "'127.0.0.2'",
      user_agent: "user_agent || '!'",
      details: `details || '{"x":1}'`,
      occurred_at: "occurred_at + interval '1 millisecond'",
      previous_hash: "sha256('x')",
      hash: "sha256('x')",
    };
    const columns = await service.database.query<{ name: string }>(
      "SELECT attname AS name FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0 AND NOT attisdropped",
    );
    for (const { name } of columns) {
      const verdict = await after(`UPDATE audit_events SET ${name} = ${changes[name]} WHERE sequence = 7`);
      expect([name, verdict['valid'], verdict['brokenAt'], verdict['checked']]).toEqual([name, false, 7, 6]);
      const missing = name === 'sequence' || name === 'organization_id';
      const reason = missing ? 'event_missing' : name === 'previous_hash' ? 'link_broken' : 'event_altered';
      expect([name, verdict['reason']]).toEqual([name, reason]);
    }
  });

  it('is found where the hash was made to fit the change', async () => {
    const event = (await list(service, operator)).find(({ sequence }) => sequence === 7) as Event;
    const forged = { ...event, outcome: 'failure' };
    const values = [Buffer.from(hashOf(forged), 'hex')];
    const update = "UPDATE audit_events SET outcome = 'failure', hash = $1 WHERE sequence = 7";
    expect(await after(update, values)).toMatchObject({ valid: false, brokenAt: 8, reason: 'link_broken' });
    const newest = (await list(service, operator)).find(({ sequence }) => sequence === last) as Event;
    const forgedNewest = Buffer.from(hashOf({ ...newest, outcome: 'failure' }), 'hex');
    expect(
      await after("UPDATE audit_events SET outcome = 'failure', hash = $1 WHERE sequence = $2", [forgedNewest, last]),
    ).toMatchObject({ valid: false, brokenAt: last, reason: 'head_mismatch' });
  });

  it.each([
    ['the first event', 'sequence = 1', 1],
    ['one in the middle', 'sequence = 7', 7],
    ['several', 'sequence IN (5, 6, 9)', 5],
    ['all', 'true', 1],
  ])('is found where %s is deleted', async (_what, condition, brokenAt) => {
    expect(await after(`DELETE FROM audit_events WHERE ${condition}`)).toMatchObject({
      valid: false,
      brokenAt,
      reason: 'event_missing',
      checked: brokenAt - 1,
    });
  });

  it('is found where its tail is cut', async () => {
    expect(await after('DELETE FROM audit_events WHERE sequence = $1', [last])).toMatchObject({
      valid: false,
      brokenAt: last,
      reason: 'event_missing',
    });
    expect(await after('DELETE FROM audit_events WHERE sequence > $1', [last - 3])).toMatchObject({
      brokenAt: last - 2,
      reason: 'event_missing',
    });
  });

  it('is found where two events change places', async () => {
    const swap = `UPDATE audit_events SET sequence = -CASE sequence WHEN 6 THEN 7 ELSE 6 END WHERE sequence IN (6, 7)`;
    await service.database.query(swap);
    const verdict = await after('UPDATE audit_events SET sequence = -sequence WHERE sequence < 0');
    expect(verdict).toMatchObject({ valid: false, brokenAt: 6 });
  });

  it.each([
    ['in the middle, the rest moved on', 7],
    ['after the newest', null],
    ['before the first', 0],
  ])('is found where an event is inserted %s', async (_what, at) => {
    const place = at ?? last + 1;
    // From behind, so that no place is taken twice.
    await service.database.query('UPDATE audit_events SET sequence = -sequence WHERE sequence >= $1 AND $1 > 0', [
      place,
    ]);
    await service.database.query('UPDATE audit_events SET sequence = 1 - sequence WHERE sequence < 0');
    const verdict = await after(
      `INSERT INTO audit_events SELECT organization_id, $1, gen_random_uuid(), action, outcome, actor, target_type,
        target_id, ip, user_agent, details, occurred_at, previous_hash, hash FROM untouched WHERE sequence = 7`,
      [place],
    );
    expect([verdict['valid'], verdict['brokenAt']]).toEqual([false, place]);
  });

  it('is found in the range that is asked for, and only there', async () => {
    const change = "UPDATE audit_events SET ip = '10.0.0.1' WHERE sequence = 7";
    expect(await after(change, [], 'toSequence=6')).toMatchObject({ valid: true, checked: 6, lastSequence: 6 });
    expect(await after(change, [], 'fromSequence=8')).toMatchObject({
      valid: true,
      checked: last - 7,
      firstSequence: 8,
    });
    expect(await after(change, [], 'fromSequence=7&toSequence=7')).toMatchObject({
      valid: false,
      brokenAt: 7,
      checked: 0,
    });
    expect(await after(change, [], 'fromSequence=5&toSequence=9')).toMatchObject({
      valid: false,
      brokenAt: 7,
      checked: 2,
      firstSequence: 5,
      lastSequence: 6,
    });
    const removed = 'DELETE FROM audit_events WHERE sequence = 7';
    expect(await after(removed, [], 'fromSequence=8')).toMatchObject({
      valid: false,
      brokenAt: 7,
      reason: 'event_missing',
    });
  });

  it('verifies ranges: of one event, up to the head, and none beyond it', async () => {
    const events = await list(service, operator);
    expect(await verify('fromSequence=3&toSequence=3')).toEqual({
      valid: true,
      checked: 1,
      firstSequence: 3,
      lastSequence: 3,
      headHash: events.find(({ sequence }) => sequence === 3)?.hash,
      brokenAt: null,
    });
    expect(await verify('fromSequence=2&toSequence=999999')).toMatchObject({ valid: true, lastSequence: last });
    expect(await verify(`fromSequence=${last + 1}`)).toEqual({
      valid: true,
      checked: 0,
      firstSequence: null,
      lastSequence: null,
      headHash: null,
      brokenAt: null,
    });
  });

  it.each([
    ['fromSequence=0', '/fromSequence'],
    ['fromSequence=-1', '/fromSequence'],
    ['toSequence=x', '/toSequence'],
    ['toSequence=1.5', '/toSequence'],
    ['fromSequence=9007199254740993', '/fromSequence'],
    ['fromSequence=5&toSequence=4', '/toSequence'],
    ['from=1', '/from'],
  ])('refuses to verify %s', async (query, pointer) => {
    const { status, body } = await service.api.call('GET', `/audit/verify?${query}`, operator);
    expect([status, body['code']]).toEqual([400, 'validation_failed']);
    expect((body['errors'] as { pointer: string }[]).map((each) => each.pointer)).toContain(pointer);
  });

  it('cannot be changed by the role that serves', async () => {
    const rows = await service.database.query<{ privilege: string }>(
      `SELECT privilege_type AS privilege FROM information_schema.role_table_grants
        WHERE table_name = 'audit_events' AND grantee = 'agentidp_test_serving' ORDER BY 1`,
    );
    expect(rows.map(({ privilege }) => privilege)).toEqual(['INSERT', 'SELECT']);
  });
});

describe('an act whose event cannot be written', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator);
    await service.database.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'the disk of the audit log is full'; END $$`);
    await service.database.query('CREATE TRIGGER refuse BEFORE INSERT ON audit_events EXECUTE FUNCTION refuse()');
  });
  afterAll(() => service.close());

  const state = async (): Promise<unknown> =>
    Promise.all(
      ['agents', 'credentials', 'token_revocations', 'organization_ledgers', 'audit_events'].map((table) =>
        service.database.query(`SELECT * FROM ${table} ORDER BY 1, 2`),
      ),
    );

  it('does not happen, and tells nobody why', async () => {
    const token = operator;
    const before = await state();
    const answers = await Promise.all([
      service.api.call('POST', '/agents', operator, { name: 'x' }),
      service.api.call('PATCH', `/agents/${agent.agentId}`, operator, { name: 'y' }),
      service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator),
      service.api.call('POST', `/agents/${agent.agentId}/revoke-tokens`, operator),
      service.api.call('DELETE', `/agents/${agent.agentId}`, operator),
      service.api.call('POST', `/agents/${agent.agentId}/credentials`, operator, {}),
      service.api.call('DELETE', `/agents/${agent.agentId}/credentials/${agent.credentialId}`, operator),
      service.api.revoke(operator, token),
      service.api.requestToken(agent),
    ]);
    for (const { status, text } of answers) {
      expect(status).toBe(500);
      expect(text).not.toContain('disk');
      expect(text).not.toContain('audit');
    }
    // When a secret was last used is no act.
    const withoutUse = (rows: unknown): unknown =>
      JSON.parse(JSON.stringify(rows, (key, value: unknown) => (key === 'last_used_at' ? undefined : value)));
    expect(withoutUse(await state())).toEqual(withoutUse(before));
  });
});

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { AppModule } from '../../src/app.module.js';
import { loggingModule } from '../../src/platform/http/request-logging.js';
import { basic, type Answer, type TestAgent, type ClientCredentials } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The number that base62 digits stand for; independent of the product's code. */
function fromBase62(digits: string): bigint {
  return [...digits].reduce((value, digit) => value * 62n + BigInt(BASE62.indexOf(digit)), 0n);
}

describe('client secrets', () => {
  let service: TestApp;
  let operator: string;
  /** Everything that the service has answered and logged. */
  const answers: string[] = [];
  const log: string[] = [];

  beforeAll(async () => {
    // The application as it is, but for where its log goes.
    const build = AppModule.forRoot.bind(AppModule);
    const wired = jest.spyOn(AppModule, 'forRoot').mockImplementation((parts) => {
      const logging = loggingModule('trace', { write: (line: string) => void log.push(line) });
      const { imports = [], ...rest } = build(parts);
      return {
        ...rest,
        imports: imports.map((each) => ('module' in each && each.module === logging.module ? logging : each)),
      };
    });
    service = await startTestApp({ env: { LOG_LEVEL: 'trace' } });
    wired.mockRestore();
    const send = service.api.send.bind(service.api);
    jest.spyOn(service.api, 'send').mockImplementation(async (method, path, init) => {
      const answer = await send<never>(method, path, init);
      answers.push(answer.text + JSON.stringify([...answer.headers]));
      return answer;
    });
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  const call = (method: string, path: string, body?: unknown, token = operator): Promise<Answer> =>
    service.api.call(method, path, token, body);
  const create = (agentId: string, body?: unknown): Promise<Answer> =>
    call('POST', `/agents/${agentId}/credentials`, body);
  const rotate = (agent: TestAgent, body?: unknown): Promise<Answer> =>
    call('POST', `/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`, body);
  const remove = (agent: TestAgent, query = ''): Promise<Answer> =>
    call('DELETE', `/agents/${agent.agentId}/credentials/${agent.credentialId}${query}`);
  /** Puts more credentials beside those that the agent has, in SQL. */
  const fill = (agentId: string, count: number, status: string, retiresAt: string | null): Promise<unknown> =>
    service.database.query(
      `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, created_at,
          retires_at)
        SELECT organization_id, agent_id, gen_random_uuid(), 'secret', $2, 'sas_filler00', '\\x00', now(), $3
          FROM agents, generate_series(1, $4::integer) WHERE agent_id = $1`,
      [agentId, status, retiresAt, count],
    );
  const isActive = async (token: string): Promise<unknown> => (await service.api.introspect(operator, token))['active'];
  const works = async (client: ClientCredentials): Promise<boolean> =>
    (await service.api.requestToken(client)).status === 200;

  async function list(agentId: string): Promise<Json[]> {
    return (await call('GET', `/agents/${agentId}/credentials`)).body['data'] as Json[];
  }
  async function one(agent: TestAgent): Promise<Json> {
    const found = (await list(agent.agentId)).find((each) => each['credentialId'] === agent.credentialId);
    if (found === undefined) throw new Error('the list lacks the credential');
    return found;
  }
  /** The answer to making or rotating a secret, as a client. */
  function clientOf({ body }: Answer): TestAgent {
    const { clientId, clientSecret, credentialId } = body as Record<string, string>;
    return {
      agentId: clientId ?? '',
      clientId: clientId ?? '',
      clientSecret: clientSecret ?? '',
      credentialId: credentialId ?? '',
    };
  }
  /** Rotates as the client itself does: with a secret, not a token. */
  function rotateAs(client: ClientCredentials, agentId: string, credentialId: string, body?: Json): Promise<Answer> {
    return service.api.send('POST', `/api/v1/agents/${agentId}/credentials/${credentialId}/rotate`, {
      headers: { ...basic(client), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  describe('made', () => {
    it('answers 201 with the secret and what belongs to it', async () => {
      const { agentId } = await service.api.agent(operator);
      const expiresAt = '2031-01-01T00:00:00.000Z';
      const { status, headers, body } = await create(agentId, { name: 'production', expiresAt });
      expect(status).toBe(201);
      expect(headers.get('cache-control')).toBe('no-store');
      expect(body).toEqual({
        credentialId: expect.stringMatching(/^[0-9a-f-]{36}$/),
        clientId: agentId,
        clientSecret: expect.stringMatching(/^sas_[0-9A-Za-z]{49}$/),
        name: 'production',
        prefix: String(body['clientSecret']).slice(0, 12),
        status: 'active',
        createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        expiresAt,
      });
      expect(await works(clientOf({ body } as Answer))).toBe(true);
    });

    it('needs no body, and neither name nor expiry', async () => {
      const { agentId } = await service.api.agent(operator);
      for (const body of [undefined, {}, { name: null, expiresAt: null }]) {
        const answer = await create(agentId, body);
        expect([answer.status, answer.body['name'], answer.body['expiresAt']]).toEqual([201, null, null]);
      }
    });

    it('has 256 random bits and ends in the CRC-32 of all before', async () => {
      const { agentId } = await service.api.agent(operator);
      const secrets = await Promise.all(
        Array.from({ length: 8 }, async () => String((await create(agentId)).body['clientSecret'])),
      );
      for (const secret of secrets) {
        const [, random = '', checksum = ''] = /^sas_([0-9A-Za-z]{43})([0-9A-Za-z]{6})$/.exec(secret) ?? [];
        expect(fromBase62(random) < 2n ** 256n).toBe(true);
        expect(fromBase62(checksum)).toBe(BigInt(crc32(secret.slice(0, -6))));
      }
      expect(new Set(secrets.map((secret) => secret.slice(4, 47))).size).toBe(8);
    });

    it.each<[string, Json, string]>([
      ['an empty name', { name: '' }, '/name'],
      ['a name of 129 characters', { name: 'n'.repeat(129) }, '/name'],
      ['an expiry that is no instant', { expiresAt: 'tomorrow' }, '/expiresAt'],
      ['an expiry of a day that there is not', { expiresAt: '2031-02-30T00:00:00Z' }, '/expiresAt'],
      ['an expiry that has passed', { expiresAt: '2020-01-01T00:00:00Z' }, '/expiresAt'],
      ['an expiry in seconds', { expiresAt: 1_900_000_000 }, '/expiresAt'],
      ['a secret of the caller’s choice', { clientSecret: 'x'.repeat(40) }, '/clientSecret'],
    ])('refuses %s', async (_what, body, pointer) => {
      const { agentId } = await service.api.agent(operator);
      const answer = await create(agentId, body);
      expect([answer.status, answer.body['code']]).toEqual([400, 'validation_failed']);
      expect((answer.body['errors'] as { pointer: string }[]).map((each) => each.pointer)).toContain(pointer);
      expect(await list(agentId)).toHaveLength(1);
    });

    it('may be given to a suspended agent, who gets nothing for it', async () => {
      const agent = await service.api.agent(operator);
      await call('POST', `/agents/${agent.agentId}/suspend`);
      const made = await create(agent.agentId);
      expect(made.status).toBe(201);
      expect((await service.api.requestToken(clientOf(made))).body['error']).toBe('unauthorized_client');
    });

    it('is one of at most 100 that are not revoked', async () => {
      const agent = await service.api.agent(operator);
      await fill(agent.agentId, 98, 'active', null);
      const last = await create(agent.agentId);
      expect(last.status).toBe(201);
      const refused = await create(agent.agentId);
      expect([refused.status, refused.body['code']]).toEqual([403, 'limit_reached']);
      expect(refused.body).toMatchObject({ limit: 100, used: 100 });
      expect((await rotate(agent, { overlapSeconds: 60 })).body).toMatchObject({ code: 'limit_reached' });
      expect(await works(agent)).toBe(true);
      await remove(clientOf(last));
      expect((await create(agent.agentId)).status).toBe(201);
    });

    it('can be rotated without overlap where there are 100: it makes none more', async () => {
      const agent = await service.api.agent(operator);
      await fill(agent.agentId, 99, 'active', null);
      expect((await create(agent.agentId)).status).toBe(403);
      expect((await rotate(agent)).status).toBe(201);
    });

    it('finds room where others have ended their overlap', async () => {
      const agent = await service.api.agent(operator);
      await fill(agent.agentId, 99, 'retiring', '2020-01-01T00:00:00Z');
      expect((await create(agent.agentId)).status).toBe(201);
      expect((await rotate(agent, { overlapSeconds: 60 })).status).toBe(201);
    });

    it('is exactly one of 100 when many are made at once', async () => {
      const agent = await service.api.agent(operator);
      await fill(agent.agentId, 96, 'active', null);
      const statuses = (await Promise.all(Array.from({ length: 8 }, () => create(agent.agentId)))).map((a) => a.status);
      expect(statuses.filter((status) => status === 201)).toHaveLength(3);
      expect(statuses.filter((status) => status === 403)).toHaveLength(5);
    });
  });

  describe('expired', () => {
    it('is refused from its expiry on; tokens that it earned live on', async () => {
      const { agentId } = await service.api.agent(operator);
      const expiresAt = new Date(service.clock.nowMs() + 30_000).toISOString();
      const client = clientOf(await create(agentId, { expiresAt }));
      const token = await service.api.token(client);
      service.clock.advance(31);
      expect((await service.api.requestToken(client)).body).toEqual({
        error: 'invalid_client',
        error_description: 'Client authentication failed. Invalid client_id or client_secret.',
      });
      expect(await isActive(token)).toBe(true);
      expect((await rotate(client)).status).toBe(409);
    });
  });

  describe('listed', () => {
    it('shows all but the secret, newest first', async () => {
      const agent = await service.api.agent(operator);
      const second = await create(agent.agentId, { name: 'second', expiresAt: '2031-01-01T00:00:00Z' });
      const data = await list(agent.agentId);
      expect(data.map((each) => each['credentialId'])).toEqual([second.body['credentialId'], agent.credentialId]);
      expect(data[0]).toEqual({
        credentialId: second.body['credentialId'],
        clientId: agent.agentId,
        name: 'second',
        prefix: second.body['prefix'],
        status: 'active',
        createdAt: second.body['createdAt'],
        expiresAt: '2031-01-01T00:00:00.000Z',
        retiresAt: null,
        revokedAt: null,
        lastUsedAt: null,
      });
    });

    it('pages through them, each once', async () => {
      const { agentId } = await service.api.agent(operator);
      const made = [];
      for (let index = 0; index < 4; index += 1) made.unshift((await create(agentId)).body['credentialId']);
      const seen: unknown[] = [];
      let cursor = '';
      do {
        const { body } = await call('GET', `/agents/${agentId}/credentials?limit=2${cursor}`);
        seen.push(...(body['data'] as Json[]).map((each) => each['credentialId']));
        cursor = typeof body['nextCursor'] === 'string' ? `&cursor=${body['nextCursor']}` : '';
      } while (cursor !== '');
      expect(seen.slice(0, 4)).toEqual(made);
      expect(new Set(seen).size).toBe(5);
    });

    it('takes no cursor of another agent’s list, nor a garbled one', async () => {
      const [one, other] = await Promise.all([service.api.agent(operator), service.api.agent(operator)]);
      await create(one.agentId);
      const page = await call('GET', `/agents/${one.agentId}/credentials?limit=1`);
      for (const cursor of [String(page.body['nextCursor']), 'x']) {
        const answer = await call('GET', `/agents/${other.agentId}/credentials?cursor=${cursor}`);
        expect(answer.body).toMatchObject({ code: 'validation_failed', errors: [{ pointer: '/cursor' }] });
      }
    });

    it('answers 404 for what there is not, on every path', async () => {
      const [agent, other] = await Promise.all([service.api.agent(operator), service.api.agent(operator)]);
      const nobody = randomUUID();
      const paths: [string, string][] = [
        ['GET', `/agents/${nobody}/credentials`],
        ['POST', `/agents/${nobody}/credentials`],
        ['POST', `/agents/nobody/credentials`],
        ['DELETE', `/agents/${agent.agentId}/credentials/${nobody}`],
        ['DELETE', `/agents/${agent.agentId}/credentials/nothing`],
        ['POST', `/agents/${agent.agentId}/credentials/${nobody}/rotate`],
        // The credential is there, but another agent's.
        ['DELETE', `/agents/${agent.agentId}/credentials/${other.credentialId}`],
        ['POST', `/agents/${agent.agentId}/credentials/${other.credentialId}/rotate`],
      ];
      for (const [method, path] of paths) {
        const { status, body } = await call(method, path);
        expect([method, path, status, body['code']]).toEqual([method, path, 404, 'not_found']);
      }
      expect(await works(other)).toBe(true);
    });
  });

  describe('rotated', () => {
    it('without overlap is refused at once; its tokens live on, and the new one has its name and expiry', async () => {
      const { agentId } = await service.api.agent(operator);
      const fields = { name: 'production', expiresAt: '2031-01-01T00:00:00.000Z' };
      const old = clientOf(await create(agentId, fields));
      const token = await service.api.token(old);
      const rotated = await rotate(old);
      expect(rotated.status).toBe(201);
      expect(rotated.body).toMatchObject({ ...fields, clientId: agentId, status: 'active' });
      expect(rotated.body['credentialId']).not.toBe(old.credentialId);
      expect(await works(old)).toBe(false);
      expect(await works(clientOf(rotated))).toBe(true);
      expect(await isActive(token)).toBe(true);
      expect(await one(old)).toMatchObject({ status: 'revoked', revokedAt: expect.any(String), retiresAt: null });
    });

    it('with overlap retires: both work until it ends, then the new one alone; tokens live on', async () => {
      const old = await service.api.agent(operator);
      const rotated = clientOf(await rotate(old, { overlapSeconds: 60 }));
      const { status, retiresAt, revokedAt } = await one(old);
      expect([status, revokedAt]).toEqual(['retiring', null]);
      expect(Math.abs(Date.parse(String(retiresAt)) - service.clock.nowMs() - 60_000)).toBeLessThan(5000);
      service.clock.advance(50);
      expect(await Promise.all([works(old), works(rotated)])).toEqual([true, true]);
      const token = await service.api.token(old);
      service.clock.advance(11);
      expect(await Promise.all([works(old), works(rotated)])).toEqual([false, true]);
      expect(await one(old)).toMatchObject({ status: 'revoked', revokedAt: retiresAt });
      expect(await isActive(token)).toBe(true);
    });

    it('is refused once more: while it retires, when it is revoked, and for a decommissioned agent', async () => {
      const old = await service.api.agent(operator);
      await rotate(old, { overlapSeconds: 60 });
      expect((await rotate(old)).body).toMatchObject({ status: 409, code: 'conflict' });
      const revoked = await service.api.agent(operator);
      await remove(revoked);
      expect((await rotate(revoked)).body).toMatchObject({ status: 409, code: 'conflict' });
      const gone = await service.api.agent(operator);
      await call('DELETE', `/agents/${gone.agentId}`);
      expect((await rotate(gone)).body).toMatchObject({ status: 409, code: 'conflict' });
    });

    it.each([-1, 604_801, 1.5, '60'])('refuses an overlap of %j seconds', async (overlapSeconds) => {
      const agent = await service.api.agent(operator);
      const { status, body } = await rotate(agent, { overlapSeconds });
      expect([status, body['code']]).toEqual([400, 'validation_failed']);
      expect(body['errors']).toEqual(expect.arrayContaining([expect.objectContaining({ pointer: '/overlapSeconds' })]));
      expect(await one(agent)).toMatchObject({ status: 'active' });
    });

    it.each([0, 604_800, null])('takes an overlap of %j', async (overlapSeconds) => {
      expect((await rotate(await service.api.agent(operator), { overlapSeconds })).status).toBe(201);
    });

    it('lets one of several rotations at once through', async () => {
      const agent = await service.api.agent(operator);
      const statuses = (await Promise.all([rotate(agent), rotate(agent), rotate(agent)])).map(({ status }) => status);
      expect(statuses.sort((a, b) => a - b)).toEqual([201, 409, 409]);
      expect(await list(agent.agentId)).toHaveLength(2);
    });

    it('may be by the client itself, with the very secret, whatever scopes it has', async () => {
      const agent = await service.api.agent(operator);
      const rotated = await rotateAs(agent, agent.agentId, agent.credentialId, { overlapSeconds: 0 });
      expect(rotated.status).toBe(201);
      expect(await Promise.all([works(agent), works(clientOf(rotated))])).toEqual([false, true]);
      const next = clientOf(rotated);
      expect((await rotateAs(next, next.agentId, next.credentialId)).status).toBe(201);
    });

    it('may not be by the client with another secret, nor by another client', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read', 'agents:write'] });
      const second = clientOf(await create(agent.agentId));
      const stranger = await service.api.agent(operator, { scopes: ['agents:read', 'agents:write'] });
      for (const client of [second, stranger]) {
        const { status, headers, body } = await rotateAs(client, agent.agentId, agent.credentialId);
        expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
        expect(headers.get('content-type')).toBe('application/problem+json');
      }
      expect(await works(agent)).toBe(true);
    });

    it('may not be by a client that is wrong, suspended, expired or retired', async () => {
      const agent = await service.api.agent(operator);
      const wrong = await rotateAs({ ...agent, clientSecret: 'wrong' }, agent.agentId, agent.credentialId);
      expect([wrong.status, wrong.body['code']]).toEqual([401, 'invalid_token']);
      expect(wrong.headers.get('www-authenticate')).toMatch(/^Basic /);
      await call('POST', `/agents/${agent.agentId}/suspend`);
      expect((await rotateAs(agent, agent.agentId, agent.credentialId)).status).toBe(401);
      await call('POST', `/agents/${agent.agentId}/reactivate`);
      await rotate(agent);
      expect((await rotateAs(agent, agent.agentId, agent.credentialId)).status).toBe(401);
    });

    it('may not be by the agent’s Bearer token without agents:write', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read', 'agents:write'] });
      const token = await service.api.token(agent, { scope: 'agents:read' });
      const path = `/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`;
      const { status, headers, body } = await call('POST', path, {}, token);
      expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
      expect(headers.get('www-authenticate')).toBe('Bearer error="insufficient_scope", scope="agents:write"');
      expect((await call('POST', path, {}, await service.api.token(agent))).status).toBe(201);
    });
  });

  describe('revoked', () => {
    it('is refused at once, and the tokens that it earned die with it, no others', async () => {
      const agent = await service.api.agent(operator);
      const other = clientOf(await create(agent.agentId));
      const [earned, others] = await Promise.all([service.api.token(agent), service.api.token(other)]);
      const { status, text } = await remove(agent);
      expect([status, text]).toEqual([204, '']);
      expect((await service.api.requestToken(agent)).body['error']).toBe('invalid_client');
      expect(await Promise.all([earned, others].map(isActive))).toEqual([false, true]);
      expect(await works(other)).toBe(true);
      expect(await one(agent)).toMatchObject({ status: 'revoked', revokedAt: expect.any(String) });
    });

    it('leaves its tokens alive with keepTokens=true; a later revocation kills them', async () => {
      const agent = await service.api.agent(operator);
      const token = await service.api.token(agent);
      expect((await remove(agent, '?keepTokens=true')).status).toBe(204);
      expect(await works(agent)).toBe(false);
      expect(await isActive(token)).toBe(true);
      const { revokedAt } = await one(agent);
      expect((await remove(agent, '?keepTokens=true')).status).toBe(204);
      expect(await isActive(token)).toBe(true);
      expect((await remove(agent)).status).toBe(204);
      expect(await isActive(token)).toBe(false);
      expect((await one(agent))['revokedAt']).toBe(revokedAt);
    });

    it('kills its tokens with keepTokens=false, and refuses any other value', async () => {
      const agent = await service.api.agent(operator);
      const token = await service.api.token(agent);
      const refused = await remove(agent, '?keepTokens=1');
      expect(refused.body).toMatchObject({ status: 400, errors: [{ pointer: '/keepTokens' }] });
      expect(await isActive(token)).toBe(true);
      expect((await remove(agent, '?keepTokens=false')).status).toBe(204);
      expect(await isActive(token)).toBe(false);
    });

    it('may be while it retires', async () => {
      const agent = await service.api.agent(operator);
      const token = await service.api.token(agent);
      await rotate(agent, { overlapSeconds: 600 });
      expect((await remove(agent)).status).toBe(204);
      expect([await works(agent), await isActive(token)]).toEqual([false, false]);
    });
  });

  describe('the last use', () => {
    const until = async <T>(look: () => Promise<T>, holds: (value: T) => boolean): Promise<T> => {
      for (;;) {
        const value = await look();
        if (holds(value)) return value;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const lastUse = async (agent: TestAgent): Promise<unknown> => (await one(agent))['lastUsedAt'];
    const rowVersion = async (agent: TestAgent): Promise<unknown> =>
      (
        await service.database.query('SELECT xmin::text FROM credentials WHERE credential_id = $1', [
          agent.credentialId,
        ])
      )[0];

    it('appears, to the minute, without a write for every request', async () => {
      const [agent, marker] = await Promise.all([service.api.agent(operator), service.api.agent(operator)]);
      expect(await lastUse(agent)).toBeNull();
      const usedAt = service.clock.nowMs();
      await service.api.token(agent);
      const first = await until(
        () => lastUse(agent),
        (value) => value !== null,
      );
      expect(Math.abs(Date.parse(String(first)) - usedAt)).toBeLessThan(10_000);

      const version = await rowVersion(agent);
      await Promise.all(Array.from({ length: 10 }, () => service.api.token(agent)));
      // Used later: once this one is written, whatever was noted of the other is written too.
      await service.api.token(marker);
      await until(
        () => lastUse(marker),
        (value) => value !== null,
      );
      expect(await rowVersion(agent)).toEqual(version);

      service.clock.advance(61);
      await service.api.token(agent);
      const second = await until(
        () => lastUse(agent),
        (value) => value !== first,
      );
      expect(Date.parse(String(second))).toBeGreaterThanOrEqual(Date.parse(String(first)) + 60_000);
    });

    it('is not moved by a wrong secret', async () => {
      const [agent, marker] = await Promise.all([service.api.agent(operator), service.api.agent(operator)]);
      await service.api.requestToken({ ...agent, clientSecret: `${agent.clientSecret.slice(0, -1)}_` });
      await service.api.token(marker);
      await until(
        () => lastUse(marker),
        (value) => value !== null,
      );
      expect(await lastUse(agent)).toBeNull();
    });
  });

  describe('shown once', () => {
    it('never stands in any other answer, in the log, or in any table of the database', async () => {
      const agent = await service.api.agent(operator, { scopes: ['agents:read'] });
      const token = await service.api.token(agent);
      // Requests that carry the secret wherever a client may put it, rightly or wrongly.
      await service.api.form('/api/v1/token', { grant_type: 'client_credentials' }, basic(agent));
      await service.api.form(`/api/v1/token?client_secret=${agent.clientSecret}`, { grant_type: 'client_credentials' });
      await service.api.form('/api/v1/token', { grant_type: 'x', client_secret: agent.clientSecret });
      await service.api.send('GET', `/api/v1/agents?token=${token}`, {
        headers: { Authorization: `Bearer ${agent.clientSecret}` },
      });
      await call('GET', `/agents/${agent.agentId}`);
      await list(agent.agentId);
      await call('GET', '/audit?limit=200');

      const secrets = answers.flatMap((text) =>
        [...text.matchAll(/"clientSecret":"([^"]+)"/g)].map((match) => match[1] ?? ''),
      );
      expect(secrets.length).toBeGreaterThan(30);
      const said = answers.join('\n');
      const logged = log.join('');
      const stored = await everyTable(service);
      expect(logged).toContain('/api/v1/token');
      expect(stored).toContain(agent.credentialId);
      expect(logged).not.toContain(token);
      expect(stored).not.toContain(token);
      for (const secret of [...secrets, service.operator.clientSecret]) {
        // Beyond the prefix nothing of it is told, except in the one answer that made it.
        const told = secret.slice(0, 16);
        expect(said.split(told)).toHaveLength(secret === service.operator.clientSecret ? 1 : 2);
        for (const form of [told, Buffer.from(secret).toString('hex'), Buffer.from(secret).toString('base64')]) {
          expect(logged).not.toContain(form);
          expect(stored).not.toContain(form);
        }
      }
      expect(logged).not.toContain((basic(agent)['Authorization'] ?? '').slice(6));
    });
  });
});

/** The rows of every table, as text. */
async function everyTable({ database }: TestApp): Promise<string> {
  const tables = await database.query<{ name: string }>(
    "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
  );
  expect(tables.length).toBeGreaterThan(8);
  const texts: string[] = [];
  for (const { name } of tables) {
    const rows = await database.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
    texts.push(...rows.map(({ row }) => row));
  }
  return texts.join('\n');
}

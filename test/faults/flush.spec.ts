import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { AuditService } from '../../src/audit/audit.service.js';
import { RefusalsService } from '../../src/audit/refusals.service.js';
import { ClientAuthenticator } from '../../src/credentials/client-authenticator.js';
import { poolOf } from '../../src/platform/database/statement-pool.js';
import type { NewAuditEvent } from '../../src/platform/kernel/audit-event.js';
import type { Client } from '../../src/platform/kernel/client.js';
import { NO_ORIGIN } from '../../src/platform/kernel/principal.js';
import { TokenIssuer } from '../../src/tokens/token-issuer.js';
import type { Answer } from '../support/api.js';
import { DatabaseLine } from '../support/database-line.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { holdLedgers, ledgerOf, lockWaiters, queueDepth, until, withPatientStatements } from './conditions.js';

const NUL = '\u0000';

/** The client behind a secret, as the token endpoint has it after authentication. */
function clientOf({ app, operator }: TestApp): Promise<Client> {
  const { clientId, clientSecret: secret } = operator;
  return app.get(ClientAuthenticator).authenticate({ clientId, secret, method: 'client_secret_post' }, NO_ORIGIN);
}

function refusalOf(client: Client, details: NewAuditEvent['details']): NewAuditEvent {
  return {
    organizationId: client.organizationId,
    action: 'token.refused',
    outcome: 'failure',
    actor: null,
    target: { type: 'agent', id: client.agentId },
    origin: NO_ORIGIN,
    details,
  };
}

async function expectValidChain({ api, operator, database }: TestApp): Promise<void> {
  const { body } = await api.call('GET', '/audit/verify', await api.token(operator));
  const { used, issued, sequence } = await ledgerOf(database);
  expect(body).toMatchObject({ valid: true, brokenAt: null, checked: sequence });
  expect(used).toBe(issued);
}

function expectUnavailable(answer: Answer | undefined): void {
  expect(answer?.status).toBe(503);
  expect(answer?.body).toEqual({ error: 'temporarily_unavailable', error_description: expect.any(String) });
  expect(Number(answer?.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(answer?.headers.get('cache-control')).toBe('no-store');
}

const grant = { scopes: [], audience: 'https://api.example', ttlSeconds: null };

describe('a flush of the token path', () => {
  let service: TestApp;

  beforeAll(async () => {
    service = await withPatientStatements(await startTestApp());
  });
  afterAll(() => service.close());

  it('fails a poisoned issuance alone among 40 neighbours', async () => {
    const { app, api, database, operator } = service;
    const client = await clientOf(service);
    const hold = await holdLedgers(database);
    // One flush waits for the ledger; what follows gathers for the next.
    const first = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');
    const poison = app.get(TokenIssuer).issue(client, grant, { ip: null, userAgent: `bad${NUL}` });
    const refused = expect(poison).rejects.toMatchObject({ code: '22021' });
    const neighbours = Array.from({ length: 40 }, () => api.requestToken(operator));
    await queueDepth(service, 'tokens', 41);
    const before = await ledgerOf(database);
    await hold.release();
    await refused;
    expect((await first).status).toBe(200);
    for (const { status } of await Promise.all(neighbours)) expect(status).toBe(200);
    expect((await ledgerOf(database)).issued).toBe(before.issued + 41);
    await expectValidChain(service);
  });

  it('fails a poisoned refusal alone among 40 neighbours', async () => {
    const { app, database } = service;
    const refusals = app.get(RefusalsService);
    const client = await clientOf(service);
    const before = await ledgerOf(database);
    const records = Array.from({ length: 41 }, (_, index) =>
      refusals.record(refusalOf(client, { index, text: index === 20 ? NUL : 'fine' }), `neighbour ${index}`),
    );
    // Its organization does not exist: the function itself refuses it.
    const stranger = refusals.record(
      { ...refusalOf(client, {}), organizationId: '00000000-0000-4000-8000-000000000000' },
      'stranger',
    );
    await expect(stranger).rejects.toMatchObject({ code: '23503' });
    const settled = await Promise.allSettled(records);
    expect(settled.flatMap(({ status }, index) => (status === 'rejected' ? [index] : []))).toEqual([20]);
    expect((await ledgerOf(database)).sequence).toBe(before.sequence + 40);
    await expectValidChain(service);
  });

  it('answers 503 to exactly the callers whose connection was killed, and issues nothing to them', async () => {
    const { api, database, operator } = service;
    const before = await ledgerOf(database);
    const kill = (pid: number | undefined) => database.query('SELECT pg_terminate_backend($1)', [pid]);
    const hold = await holdLedgers(database);
    const first = api.requestToken(operator);
    const [flushOfOne] = await lockWaiters(database, 'issue_tokens');
    const together = Array.from({ length: 19 }, () => api.requestToken(operator));
    await queueDepth(service, 'tokens', 19);

    await kill(flushOfOne);
    expectUnavailable(await first);
    // The 19 make up the next flush, which waits in its turn; what follows gathers behind it.
    await queueDepth(service, 'tokens', 0);
    const [flushOfMany] = await lockWaiters(database, 'issue_tokens');
    const behind = Array.from({ length: 5 }, () => api.requestToken(operator));
    await queueDepth(service, 'tokens', 5);

    await kill(flushOfMany);
    for (const answer of await Promise.all(together)) expectUnavailable(answer);
    await hold.release();
    for (const { status } of await Promise.all(behind)) expect(status).toBe(200);
    expect((await ledgerOf(database)).issued).toBe(before.issued + 5);
    await expectValidChain(service);
  });

  it('lives on where a connection breaks while nobody listens to it, between the pool and who asked for it', async () => {
    const pool = poolOf(service.app.get(DataSource));
    const connection = await pool.connect();
    // As PostgreSQL's last words, behind an answer in one packet: the pool has handed the connection out, and the promise
    // that tells of it is not yet settled. Without a listener this throws, out of a socket's event.
    expect(connection.emit('error', new Error('terminating connection'))).toBe(true);
    connection.release(true);
    expect((await service.api.requestToken(service.operator)).status).toBe(200);
  });

  it('survives the end of every connection that it has', async () => {
    const { api, database, operator } = service;
    await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'agentidp_test_serving'`,
    );
    await until('a token again', async () => {
      const answer = await api.requestToken(operator);
      if (answer.status !== 200) expectUnavailable(answer);
      return answer.status === 200;
    });
    expect((await api.send('GET', '/health/ready')).status).toBe(200);
    await expectValidChain(service);
  });

  it('goes on with what waits where only the connection of the watch is ended', async () => {
    const { api, database, operator } = service;
    const watchedBy = async (): Promise<number | undefined> => {
      const rows = await database.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'agentidp watch' AND state = 'idle'`,
      );
      return rows[0]?.pid;
    };
    const before = await until('the connection of the watch', watchedBy);
    const hold = await holdLedgers(database);
    const waiting = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');

    await database.query('SELECT pg_terminate_backend($1)', [before]);
    await until('another connection of the watch', async () => {
      const now = await watchedBy();
      return now !== undefined && now !== before;
    });
    await hold.release();
    expect((await waiting).status).toBe(200);
    await expectValidChain(service);
  });

  it('has a connection however many ask for the published keys', async () => {
    const { api, database, operator } = service;
    const holder = new pg.Client({ connectionString: database.superuserUrl });
    // A test that fails drops its database with the lock in place.
    holder.on('error', () => undefined);
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE signing_keys IN ACCESS EXCLUSIVE MODE');
    const asked = Promise.all(Array.from({ length: 100 }, () => api.send('GET', '/.well-known/jwks.json')));
    await until('one that waits for the keys', async () => {
      const rows = await database.query(
        `SELECT 1 FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%signing_keys%'`,
      );
      return rows.length > 0;
    });
    expect((await api.requestToken(operator)).status).toBe(200);
    await holder.query('COMMIT');
    await holder.end();
    for (const { status } of await asked) expect(status).toBe(200);
  });

  it('answers 503 where the lock is not to be had in two seconds, and goes on with those that wait', async () => {
    const own = await startTestApp();
    const { api, database, operator } = own;
    const hold = await holdLedgers(database);
    const first = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');
    const second = api.requestToken(operator);
    await queueDepth(own, 'tokens', 1);
    expectUnavailable(await first);
    await hold.release();
    expect((await second).status).toBe(200);
    expect((await ledgerOf(database)).issued).toBe(1);
    await own.close();
  });

  it('answers 503 where the queue of issuances is full, and issues what was taken', async () => {
    const { app, api, database, operator } = service;
    const issuer = app.get(TokenIssuer);
    const audit = app.get(AuditService);
    const client = await clientOf(service);
    const before = await ledgerOf(database);
    const hold = await holdLedgers(database);
    const first = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');
    // Without signatures, which would only take time.
    const pending = Array.from({ length: 4000 }, (_, index) => {
      const jti = audit.newEventId();
      const issuance = { action: 'token.issued', outcome: 'success', target: { type: 'token', id: jti } } as const;
      return issuer['commits'].commit({
        event: audit.render({ ...refusalOf(client, { index }), ...issuance, actor: client.agentId }, jti),
        agentId: client.agentId,
        credentialId: client.credentialId,
        generation: client.generation,
        month: 1,
      });
    });
    await queueDepth(service, 'tokens', 4000);
    expectUnavailable(await api.requestToken(operator));
    // What needs no place in the queue is answered meanwhile.
    expect((await api.send('GET', '/health/ready')).status).toBe(200);
    await hold.release();
    expect((await first).status).toBe(200);
    for (const { result } of await Promise.all(pending)) expect(result.outcome).toBe('issued');
    expect((await ledgerOf(database)).issued).toBe(before.issued + 4001);
    await expectValidChain(service);
  });

  it('answers 503 where the queue of refusals is full', async () => {
    const { app, api, database, operator } = service;
    const refusals = app.get(RefusalsService);
    const client = await clientOf(service);
    const hold = await holdLedgers(database);
    const first = refusals.record(refusalOf(client, {}), 'first');
    await lockWaiters(database, 'record_refusals');
    const pending = Array.from({ length: 2000 }, (_, index) =>
      refusals.record(refusalOf(client, { index }), `cause ${index}`),
    );
    await queueDepth(service, 'refusals', 2000);
    expectUnavailable(await api.requestToken({ ...operator, clientSecret: 'wrong' }));
    await hold.release();
    await Promise.all([first, ...pending]);
    await expectValidChain(service);
  });

  it.each([
    ['a NUL', 'a\u0000b'],
    ['half a character', 'a\ud800b'],
  ])('refuses %s in a request, which no column can hold', async (_name, name) => {
    const { api, operator } = service;
    const token = await api.token(operator);
    const { status, body } = await api.call('POST', '/agents', token, { name });
    expect([status, body['code']]).toEqual([400, 'validation_failed']);
  });

  it.each([
    ['client_id', { client_id: `x${NUL}`, client_secret: 'x' }],
    ['client_secret', { client_id: '00000000-0000-4000-8000-000000000000', client_secret: `sas_${NUL}` }],
  ])('refuses a %s with a NUL', async (_name, parameters) => {
    const form = { grant_type: 'client_credentials', ...parameters };
    const { status, body } = await service.api.form('/api/v1/token', form);
    expect([status, body['error']]).toEqual([400, 'invalid_request']);
  });

  it('keeps headers with every byte that HTTP allows in a chain that verifies', async () => {
    const { api, operator } = service;
    const bytes = Array.from({ length: 256 }, (_, code) => code).filter((code) => code > 31 && code !== 127);
    const userAgent = `"\\${String.fromCharCode(...bytes)}`.trim();
    const headers = { 'User-Agent': userAgent };
    const { clientId: client_id, clientSecret: client_secret } = operator;
    const form = { grant_type: 'client_credentials', client_id, client_secret };
    expect((await api.form('/api/v1/token', form, headers)).status).toBe(200);
    expect((await api.form('/api/v1/token', { ...form, client_secret: 'wrong' }, headers)).status).toBe(401);
    await expectValidChain(service);
  });
});

// Everything else of the pool goes on: whoever tried again would reach the database at once.
describe('what was committed, and the answer was lost on the way', () => {
  let real: TestDatabase;
  let line: DatabaseLine;
  let service: TestApp;

  beforeAll(async () => {
    real = await createTestDatabase();
    const over = await DatabaseLine.to(real);
    line = over.line;
    service = await withPatientStatements(await startTestApp({ database: over.database }));
  });
  afterAll(async () => {
    await service.close();
    await line.close();
    await real.drop();
  });

  it('is tokens: answered 503, in the chain and in the quota once, not issued again', async () => {
    const { api, operator, database } = service;
    const before = await ledgerOf(database);
    const hold = await holdLedgers(database);
    const first = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');
    // What gathers behind the first is one flush.
    const together = Array.from({ length: 19 }, () => api.requestToken(operator));
    await queueDepth(service, 'tokens', 19);

    line.loseAnswersTo('issue_tokens');
    await hold.release();
    expect((await first).status).toBe(200);
    await until('the commit of the others', async () => (await ledgerOf(database)).issued === before.issued + 20);
    line.cutUnanswered();
    for (const answer of await Promise.all(together)) expectUnavailable(answer);
    expect(await ledgerOf(database)).toEqual({
      used: before.used + 20,
      issued: before.issued + 20,
      sequence: before.sequence + 20,
    });
    await expectValidChain(service);
  });

  it('is an agent: answered 503, there once with its event, not made again', async () => {
    const { api, operator, database } = service;
    const token = await api.token(operator);
    const made = async (): Promise<{ agents: number; events: number } | undefined> => {
      const [row] = await database.query<{ agents: number; events: number }>(
        `SELECT (SELECT count(*)::int FROM agents WHERE name = 'made once') AS agents,
          (SELECT count(*)::int FROM audit_events WHERE details::jsonb->>'name' = 'made once') AS events`,
      );
      return row;
    };
    expect(await made()).toEqual({ agents: 0, events: 0 });
    // Not the COMMITTED of how a transaction begins.
    line.loseAnswersTo('COMMIT\0');
    const asked = api.call('POST', '/agents', token, { name: 'made once' });
    await until('a commit', async () => (await made())?.agents === 1);
    line.cutUnanswered();
    expect((await asked).status).toBe(503);
    expect(await made()).toEqual({ agents: 1, events: 1 });
    await expectValidChain(service);
  });
});

describe('the shutdown of the application', () => {
  it('answers what is in flight, commits it, and writes when secrets were last used', async () => {
    const service = await startTestApp();
    const { app, api, database, operator } = service;
    const hold = await holdLedgers(database);
    const request = api.requestToken(operator);
    await lockWaiters(database, 'issue_tokens');
    const closing = app.close();
    await until('no new connections', () =>
      api.send('GET', '/health/live').then(
        ({ status }) => status === 503,
        () => true,
      ),
    );
    await hold.release();
    expect((await request).status).toBe(200);
    await closing;
    expect((await ledgerOf(database)).issued).toBe(1);
    const rows = await database.query('SELECT 1 FROM credentials WHERE last_used_at IS NOT NULL');
    expect(rows).toHaveLength(1);
    await database.drop();
  });

  it('answers 503 to what comes to a queue that is closed', async () => {
    const service = await startTestApp();
    await service.app.get(TokenIssuer).onApplicationShutdown();
    expectUnavailable(await service.api.requestToken(service.operator));
    await service.close();
  });
});

describe('the connections of the application', () => {
  it('have a limit each for what a statement takes, waits and pauses', async () => {
    const service = await startTestApp();
    const { rows } = await poolOf(service.app.get(DataSource)).query(
      `SELECT current_setting('statement_timeout') AS takes, current_setting('lock_timeout') AS waits,
        current_setting('idle_in_transaction_session_timeout') AS pauses`,
    );
    expect(rows).toEqual([{ takes: '5s', waits: '2s', pauses: '3s' }]);
    await service.close();
  });

  it('are told of where one breaks, but not while they are being ended', async () => {
    const service = await startTestApp();
    const pool = poolOf(service.app.get(DataSource));
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    try {
      pool.emit('error', new Error('cut'), new pg.Client());
      expect(warn.mock.calls).toEqual([['a pooled connection broke: cut']]);
      await service.close();
      // An embedded PostgreSQL that is stopped next may be quicker than the end of a connection.
      pool.emit('error', new Error('terminating connection due to administrator command'), new pg.Client());
      expect(warn).toHaveBeenCalledTimes(1);
    } finally {
      warn.mockRestore();
    }
  });
});

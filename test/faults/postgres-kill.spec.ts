import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
} from '../../src/platform/database/embedded/embedded-postgres.js';
import { migrate } from '../../src/platform/database/migrate.js';
import { claimsOf } from '../support/api.js';
import { cleanUpProcesses, dataFolder, postmasterPid } from '../support/service-process.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import type { TestDatabase } from '../support/test-database.js';
import { underLoad } from '../support/under-load.js';
import { ledgerOf, until } from './conditions.js';

/** A PostgreSQL of this test's own, so that it can be killed. */
describe('kill -9 of PostgreSQL in the middle of 16 parallel issuers', () => {
  let postgres: EmbeddedPostgres;
  let database: TestDatabase;
  let service: TestApp;

  beforeAll(async () => {
    postgres = await startEmbeddedPostgres({ dataDirectory: await dataFolder(), announce: () => undefined });
    const { servingUrl, owningUrl } = postgres;
    await migrate(owningUrl, servingUrl);
    const superuserUrl = postgres.superuserUrl.replace('/postgres?', '/agentidp?');
    database = {
      name: 'agentidp',
      servingUrl,
      owningUrl,
      superuserUrl,
      query: async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) => {
        const client = new pg.Client(superuserUrl);
        client.on('error', () => undefined);
        await client.connect();
        try {
          return (await client.query<Row>(text, values)).rows;
        } finally {
          await client.end();
        }
      },
      drop: () => Promise.resolve(),
    };
    service = await startTestApp({ database });
  });
  afterAll(async () => {
    await service.close();
    await postgres.stop();
    await cleanUpProcesses();
  });

  /** Issues with 16 issuers until `over` says so; every answer is a token or 503. */
  async function issueUntil(over: () => boolean, received: string[]): Promise<void> {
    const issuer = async (): Promise<void> => {
      while (!over()) {
        const { status, body } = await service.api.requestToken(service.operator);
        expect([200, 503]).toContain(status);
        if (status === 200) received.push(body['access_token'] as string);
        else expect(body['error']).toBe('temporarily_unavailable');
      }
    };
    await Promise.all(Array.from({ length: 16 }, issuer));
  }

  it.each([
    ['the server', () => until('the server', () => postmasterPid(postgres.dataDirectory))],
    [
      'one of its sessions, after which it recovers',
      () =>
        // Not 0 where there is none at the moment: that is this process and all of its group.
        until('a session', async () => {
          const [row] = await database.query<{ pid: number }>(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'agentidp_service' AND query LIKE '%issue_tokens%'",
          );
          return row?.pid;
        }),
    ],
  ])('loses nothing that was answered, and goes on: %s', async (_name, victim) => {
    const received: string[] = [];
    await underLoad(
      (isOver) => issueUntil(isOver, received),
      async () => {
        await until('some tokens', () => received.length > 40);
        process.kill(await victim(), 'SIGKILL');
        const killedAt = received.length;
        await until('tokens again', () => received.length > killedAt + 40);
      },
    );

    const rows = await database.query<{ target_id: string }>(
      "SELECT target_id FROM audit_events WHERE action = 'token.issued'",
    );
    const issued = new Set(rows.map(({ target_id: id }) => id));
    for (const token of received) expect(issued).toContain(claimsOf(token)['jti']);
    const ledger = await ledgerOf(database);
    expect(ledger.used).toBe(ledger.issued);
    const { body } = await service.api.call('GET', '/audit/verify', received.at(-1) ?? '');
    expect(body).toMatchObject({ valid: true, checked: ledger.sequence });
  });
});

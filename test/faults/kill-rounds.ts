import { expect } from '@jest/globals';
import { randomInt, randomUUID } from 'node:crypto';
import { claimsOf } from '../support/api.js';
import { environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { ledgerOf } from './conditions.js';

const ISSUERS = 16;

const operator = { clientId: randomUUID(), clientSecret: 'a-secret-for-the-operator-of-the-kill-tests' };

/** Asks for tokens with 16 issuers, and revokes some, until the process no longer answers. */
async function issueUntilDead(service: ServiceProcess, killAfter: number) {
  const { api } = service;
  const caller = await api.token(operator);
  const received: string[] = [caller];
  const revoked: string[] = [];
  const issuer = async (number: number): Promise<void> => {
    for (;;) {
      const token = await api.token(operator, { scope: 'tokens:read' });
      received.push(token);
      if (received.length === killAfter) service.kill('SIGKILL');
      if (number % 4 !== 0) continue;
      const { status } = await api.revoke(caller, token);
      if (status === 200) revoked.push(token);
    }
  };
  const endings = await Promise.allSettled(Array.from({ length: ISSUERS }, (_, number) => issuer(number)));
  // Nobody got an answer that is none: each ended with a broken connection.
  for (const ending of endings) {
    expect(ending).toMatchObject({ reason: { message: expect.stringMatching(/^(fetch failed|terminated)$/) } });
  }
  expect(await service.ended).toMatchObject({ signal: 'SIGKILL' });
  return { received, revoked };
}

async function issuedIds(database: TestDatabase): Promise<Set<string>> {
  const rows = await database.query<{ target_id: string }>(
    "SELECT target_id FROM audit_events WHERE action = 'token.issued'",
  );
  return new Set(rows.map(({ target_id: id }) => id));
}

/**
 * Kills the service in the middle of 16 parallel issuers, looks at what is left, and starts it again; some rounds at
 * random instants.
 */
export async function killInTheMiddle(rounds: number): Promise<void> {
  const database = await createTestDatabase();
  const env = {
    ...environmentOf(database),
    BOOTSTRAP_CLIENT_ID: operator.clientId,
    BOOTSTRAP_CLIENT_SECRET: operator.clientSecret,
  };
  const revoked: string[] = [];
  let service = await startService(env);
  for (let round = 1; round <= rounds; round += 1) {
    const last = await issueUntilDead(service, randomInt(40, 300));
    revoked.push(...last.revoked);

    const issued = await issuedIds(database);
    for (const token of last.received) expect(issued).toContain(claimsOf(token)['jti']);
    const ledger = await ledgerOf(database);
    expect(ledger.used).toBe(ledger.issued);

    service = await startService(env);
    const caller = await service.api.token(operator);
    const { body: verdict } = await service.api.call('GET', '/audit/verify', caller);
    expect(verdict).toMatchObject({ valid: true, brokenAt: null });
    expect(verdict['checked']).toBeGreaterThanOrEqual(issued.size);
    for (const token of revoked) expect(await service.api.introspect(caller, token)).toEqual({ active: false });
    // The first one was not revoked.
    expect(await service.api.introspect(caller, last.received[0] ?? '')).toMatchObject({ active: true });
  }
  expect(revoked.length).toBeGreaterThan(0);
  expect(await service.stop()).toMatchObject({ code: 0 });
  await database.drop();
}

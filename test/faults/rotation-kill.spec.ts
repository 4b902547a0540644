import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { cleanUpProcesses, environmentOf, startService } from '../support/service-process.js';
import { advance, jwksKids, kidsOf, publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from './conditions.js';

const LOCK = 4712;
const ISSUER = 'https://issuer.example';

/** Where a rotation is stopped: a write, and what tells it from others. */
const STEPS: [string, string, string, string][] = [
  ['the old key is retired', 'UPDATE', 'signing_keys', "NEW.phase = 'retired'"],
  ['the next key is made active', 'UPDATE', 'signing_keys', "NEW.phase = 'active'"],
  ['the event is appended', 'INSERT', 'audit_events', "NEW.action = 'key.rotated'"],
  ['another key is published', 'INSERT', 'signing_keys', "NEW.phase = 'next'"],
];

/** The service is killed in a process of its own at each step of a rotation; another replica lives on. */
describe('a rotation whose process is killed while', () => {
  let survivor: TestApp;
  const operator = { clientId: randomUUID(), clientSecret: 'a-secret-for-the-operator-of-the-rotation-tests' };

  beforeAll(async () => {
    const env = {
      ISSUER,
      BOOTSTRAP_CLIENT_ID: operator.clientId,
      BOOTSTRAP_CLIENT_SECRET: operator.clientSecret,
    };
    survivor = await startTestApp({ env });
    await survivor.database.query(
      `CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(${LOCK}); RETURN coalesce(NEW, OLD); END $$`,
    );
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await survivor.close();
  });

  const phases = async (): Promise<unknown[]> =>
    survivor.database.query('SELECT kid, phase FROM signing_keys ORDER BY kid');
  const waiting = async (): Promise<boolean> =>
    (await survivor.database.query(`SELECT 1 FROM pg_locks WHERE NOT granted AND objid = ${LOCK}`)).length > 0;

  /** Stops whoever writes at this place until it is released. */
  async function stopAt(event: string, table: string, condition: string): Promise<() => Promise<void>> {
    const { database } = survivor;
    await database.query(
      `CREATE TRIGGER held BEFORE ${event} ON ${table} FOR EACH ROW WHEN (${condition})
        EXECUTE FUNCTION wait_for_the_test()`,
    );
    const client = new pg.Client({ connectionString: database.superuserUrl });
    // A test that fails drops its database with the lock in place.
    client.on('error', () => undefined);
    await client.connect();
    await client.query('SELECT pg_advisory_lock($1)', [LOCK]);
    return async () => {
      await client.query('SELECT pg_advisory_unlock($1)', [LOCK]);
      await client.end();
      await database.query(`DROP TRIGGER held ON ${table}`);
    };
  }

  it.each(STEPS)(
    '%s leaves the keys as they were, and another replica rotates them',
    async (_name, event, table, when) => {
      const { database, api } = survivor;
      await publishedLongAgo(database);
      const before = { phases: await phases(), jwks: await jwksKids(survivor) };
      const victim = await startService({ ...environmentOf(database), ISSUER });
      const token = await victim.api.token(operator);
      const release = await stopAt(event, table, when);
      const asked = victim.api.call('POST', '/keys/rotate', token).catch((error: unknown) => error);
      await until('the rotation is under way', waiting);
      victim.kill('SIGKILL');
      await victim.ended;
      expect(await asked).toMatchObject({ message: expect.stringMatching(/^(fetch failed|terminated)$/) });
      await release();
      await until('its transaction is gone', async () => {
        const sessions = await database.query(
          `SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
          WHERE a.datname = current_database() AND l.locktype = 'advisory'`,
        );
        return sessions.length === 0;
      });
      expect({ phases: await phases(), jwks: await jwksKids(survivor) }).toEqual(before);
      expect(await api.introspect(token, token)).toMatchObject({ active: true });

      const [next] = await kidsOf(database, 'next');
      const rotated = await api.call('POST', '/keys/rotate', token);
      expect([rotated.status, rotated.body['kid']]).toEqual([200, next]);
      const renewed = await api.token(operator);
      for (const each of [token, renewed]) expect(await api.introspect(renewed, each)).toMatchObject({ active: true });
      expect((await api.call('GET', '/audit/verify', renewed)).body).toMatchObject({ valid: true });
    },
  );

  it('an old key is removed leaves it, and another replica removes it', async () => {
    const { database } = survivor;
    const [old = ''] = await kidsOf(database, 'retired');
    const victim = await startService({ ...environmentOf(database), ISSUER });
    const release = await stopAt('DELETE', 'signing_keys', 'true');
    await database.query("UPDATE signing_keys SET retired_at = now() - interval '2 days' WHERE kid = $1", [old]);
    // By the schedule of whichever replica looks first.
    await until('the removal is under way', waiting);
    victim.kill('SIGKILL');
    await victim.ended;
    await release();
    await advance(survivor);
    await until('it is removed', async () => !(await jwksKids(survivor)).includes(old));
    expect(await kidsOf(database, 'active')).toHaveLength(1);
  });

  it('it has committed and not answered yet is done: every replica goes by it', async () => {
    const { database, api } = survivor;
    await publishedLongAgo(database);
    const [next = ''] = await kidsOf(database, 'next');
    const victim = await startService({ ...environmentOf(database), ISSUER });
    const token = await victim.api.token(operator);
    const answered = victim.api.call('POST', '/keys/rotate', token).catch(() => null);
    await until('it is committed', async () => (await kidsOf(database, 'active')).includes(next));
    victim.kill('SIGKILL');
    await victim.ended;
    await answered;
    const renewed = await api.token(operator);
    expect(JSON.parse(Buffer.from(renewed.split('.')[0] ?? '', 'base64url').toString())).toMatchObject({ kid: next });
    expect(await api.introspect(renewed, token)).toMatchObject({ active: true });
  });
});

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { KeyRotationService } from '../../src/keys/key-rotation.service.js';
import { MOST_RETIRED } from '../../src/keys/key-life.js';
import { KeysRepository } from '../../src/keys/keys.repository.js';
import { lockWaiters } from '../faults/conditions.js';
import { headerOf } from '../support/forge.js';
import { advance, jwksKids, kidsOf, publishedLongAgo, TwoReplicas } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

let replicas: TwoReplicas;
let one: TestApp;
let other: TestApp;

async function start(env?: Readonly<Record<string, string>>): Promise<void> {
  replicas = await TwoReplicas.start(env);
  ({ one, other } = replicas);
}

describe('the JWKS', () => {
  // Keys that are made in no time, since this makes dozens.
  beforeAll(() => start({ SIGNING_ALG: 'ES256' }));
  afterAll(() => replicas.stop());

  it('never grows without bound, however often keys are rotated; keys leave it with their last token', async () => {
    for (let time = 1; time <= MOST_RETIRED.access_token; time += 1) {
      await publishedLongAgo(one.database);
      expect((await replicas.rotate()).status).toBe(200);
    }
    await publishedLongAgo(one.database);
    const full = await replicas.rotate();
    expect([full.status, full.body['detail']]).toEqual([409, expect.stringContaining('takes no more')]);
    const tokens = MOST_RETIRED.access_token + 2;
    expect(await jwksKids(other)).toHaveLength(tokens + 2);

    // The schedule does not go beyond it either.
    await one.database.query(
      "UPDATE signing_keys SET activated_at = activated_at - interval '1 year' WHERE purpose = 'access_token'",
    );
    await advance(other);
    expect(await jwksKids(other)).toHaveLength(tokens + 2);

    const [oldest = ''] = await kidsOf(one.database, 'retired');
    const age = (seconds: number): Promise<unknown> =>
      one.database.query(
        'UPDATE signing_keys SET retired_at = clock_timestamp() - make_interval(secs => $2) WHERE kid = $1',
        [oldest, seconds],
      );
    await age(3600 + 119);
    await advance(one);
    expect(await jwksKids(one)).toContain(oldest);
    await age(3600 + 121);
    await advance(one);
    expect(await jwksKids(other)).not.toContain(oldest);
    expect(await kidsOf(one.database, 'retired')).not.toContain(oldest);
  });
});

describe('the schedule', () => {
  beforeEach(() => start());
  afterEach(() => replicas.stop());

  const grow = (days: number): Promise<unknown> =>
    one.database.query('UPDATE signing_keys SET activated_at = activated_at - make_interval(days => $1)', [days]);

  it('rotates the keys of both purposes every 90 days, once, whichever replica looks', async () => {
    await publishedLongAgo(one.database);
    await grow(89);
    await advance(one);
    expect(await kidsOf(one.database, 'retired')).toEqual([]);
    await grow(1);
    const [next] = await kidsOf(one.database, 'next');
    await Promise.all([advance(one), advance(other), advance(one)]);
    expect(await kidsOf(one.database, 'active')).toEqual([next]);
    expect(await kidsOf(one.database, 'retired')).toHaveLength(1);
    expect(await kidsOf(one.database, 'retired', 'audit')).toHaveLength(1);
    expect(await replicas.events('key.rotated')).toEqual([
      expect.objectContaining({ actor: null }),
      expect.objectContaining({ actor: null }),
    ]);
  });

  it('rotates nothing where SIGNING_KEY_ROTATION_DAYS is 0', async () => {
    const never = await startTestApp({ database: one.database, env: { SIGNING_KEY_ROTATION_DAYS: '0' } });
    await publishedLongAgo(one.database);
    await grow(9000);
    await advance(never);
    expect(await kidsOf(one.database, 'retired')).toEqual([]);
    await never.close();
  });

  it('remembers the longest lifetime and max-age that any replica gave, also when less is configured later', async () => {
    const promised = async (phase: string): Promise<unknown[]> =>
      one.database.query(
        `SELECT token_ttl_seconds, jwks_max_age_seconds FROM signing_keys
          WHERE phase = $1 AND purpose = 'access_token'`,
        [phase],
      );
    const long = { TOKEN_TTL_SECONDS: '7200', JWKS_MAX_AGE_SECONDS: '900' };
    const generous = await startTestApp({ database: one.database, env: long });
    const most = [{ token_ttl_seconds: 7200, jwks_max_age_seconds: 900 }];
    expect([await promised('active'), await promised('next')]).toEqual([most, most]);
    await publishedLongAgo(one.database);
    // A replica with less rotates; the new next key gets to know what the other one promises.
    expect((await replicas.rotate()).status).toBe(200);
    await generous.app.get(KeyRotationService).advance();
    expect([await promised('retired'), await promised('next')]).toEqual([most, most]);
    await generous.close();
  });
});

describe('what a replica promises when it starts', () => {
  beforeAll(() => start());
  afterAll(() => replicas.stop());

  it('is noted with the keys locked in one order, so that replicas that start together never wait for each other', async () => {
    const { database, app } = one;
    const signing = "FROM signing_keys WHERE phase IN ('next', 'active') ORDER BY kid";
    const kids = (await database.query<{ kid: string }>(`SELECT kid ${signing}`)).map(({ kid }) => kid);
    const [first, ...others] = kids;
    // Written anew, it stands last in the table.
    await database.query('UPDATE signing_keys SET created_at = created_at WHERE kid = $1', [first]);
    const holder = new pg.Client({ connectionString: database.superuserUrl });
    // A test that fails drops its database with the lock in place.
    holder.on('error', () => undefined);
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM signing_keys WHERE kid = $1 FOR UPDATE', [first]);
    const noted = app.get(KeysRepository).promise(7200, 900);
    await lockWaiters(database, 'jwks_max_age_seconds');
    const free = await database.query<{ kid: string }>(`SELECT kid ${signing} FOR UPDATE SKIP LOCKED`);
    expect(free.map(({ kid }) => kid)).toEqual(others);
    await holder.query('COMMIT');
    await holder.end();
    await noted;
    const promised = await database.query(`SELECT token_ttl_seconds, jwks_max_age_seconds ${signing}`);
    expect(promised).toEqual(kids.map(() => ({ token_ttl_seconds: 7200, jwks_max_age_seconds: 900 })));
  });
});

describe('a change of SIGNING_ALG', () => {
  beforeEach(() => start());
  afterEach(() => replicas.stop());

  it('publishes the key first, and signs with it once everybody has it, on every replica', async () => {
    const [first] = await kidsOf(one.database, 'next');
    const elliptic = await startTestApp({
      database: one.database,
      clock: one.clock,
      env: { SIGNING_ALG: 'ES256', ISSUER: one.issuer },
    });
    expect(headerOf(await elliptic.api.token(one.operator))['alg']).toBe('RS256');
    const algorithms = async (): Promise<unknown[]> =>
      one.database.query("SELECT phase, algorithm FROM signing_keys WHERE purpose = 'access_token' ORDER BY phase");
    const ahead = [
      { phase: 'active', algorithm: 'RS256' },
      { phase: 'next', algorithm: 'ES256' },
    ];
    expect(await algorithms()).toEqual(ahead);
    const [elected] = await kidsOf(one.database, 'next');
    expect((await replicas.events('key.created'))[0]).toMatchObject({
      actor: null,
      target: { type: 'key', id: elected },
      details: { algorithm: 'ES256', purpose: 'access_token', phase: 'next', replacedKid: first },
    });
    // A replica with the setting from before has nothing against it.
    await advance(one);
    expect(await algorithms()).toEqual(ahead);
    await publishedLongAgo(one.database);
    await advance(one);
    for (const { api } of [one, other, elliptic]) expect(headerOf(await api.token(one.operator))['alg']).toBe('ES256');
    for (const { api } of [one, other, elliptic]) {
      expect(await api.introspect(replicas.operator, await one.api.token(one.operator))).toMatchObject({
        active: true,
      });
    }
    await elliptic.close();
  });

  it('goes by the replica that was started last, and leaves no keys behind that signed nothing', async () => {
    const before = (await jwksKids(one)).length;
    for (const SIGNING_ALG of ['ES256', 'EdDSA', 'ES256', 'RS256', 'PS256', 'RS256']) {
      await (await startTestApp({ database: one.database, env: { SIGNING_ALG } })).close();
    }
    expect(await jwksKids(one)).toHaveLength(before);
    const rows = await one.database.query("SELECT algorithm FROM signing_keys WHERE purpose = 'access_token'");
    expect(rows).toEqual([{ algorithm: 'RS256' }, { algorithm: 'RS256' }]);
  });
});

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { FailedAuthentications } from '../../src/credentials/failed-authentications.js';
import { SecretHasher } from '../../src/credentials/secret-hasher.js';
import { basic, type Answer, type ClientCredentials, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const INVALID = {
  error: 'invalid_client',
  error_description: 'Client authentication failed. Invalid client_id or client_secret.',
};
const WAITS = {
  error: 'temporarily_unavailable',
  error_description: 'Too many failed authentications. Try again later.',
};

const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** An address that no other test calls from. */
let lastAddress = 0;
function freshAddress(): string {
  lastAddress += 1;
  return `198.51.${Math.floor(lastAddress / 250)}.${(lastAddress % 250) + 1}`;
}

describe('guessing secrets', () => {
  let replicas: [TestApp, TestApp];
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    const env = { TRUSTED_PROXIES: '127.0.0.1' };
    const first = await startTestApp({ env });
    replicas = [first, await startTestApp({ env, database: first.database, clock: first.clock })];
    operator = await first.api.token(first.operator);
  });
  beforeEach(async () => {
    agent = await replicas[0].api.agent(operator, { scopes: ['tokens:read'] });
  });
  afterEach(() => {
    jest.restoreAllMocks();
  });
  afterAll(async () => {
    await replicas[1].close();
    await replicas[0].close();
  });

  /** A token request from an address, at a replica. */
  function ask(client: ClientCredentials, from: string, replica = 0): Promise<Answer> {
    return (replicas[replica] as TestApp).api.form(
      '/api/v1/token',
      { grant_type: 'client_credentials', client_id: client.clientId, client_secret: client.clientSecret },
      { 'X-Forwarded-For': from },
    );
  }

  /** The agent with another secret that has the prefix of its own: one that is compared with it. */
  function guess(of: ClientCredentials, number = 0): ClientCredentials {
    const tail = String(number).padStart(8, '0');
    return { clientId: of.clientId, clientSecret: of.clientSecret.slice(0, -8) + tail };
  }

  async function fail(times: number, client: ClientCredentials, from: string, replica = 0): Promise<number[]> {
    const statuses: number[] = [];
    for (let time = 0; time < times; time += 1) statuses.push((await ask(guess(client, time), from, replica)).status);
    return statuses;
  }

  /** Makes a network wait: a hundred failures of clients that are unknown. */
  async function fillNetwork(from: string): Promise<void> {
    for (let client = 0; client < 10; client += 1) {
      await fail(10, { clientId: randomUUID(), clientSecret: 'x'.repeat(53) }, from);
    }
  }

  it('makes client and address wait after ten failures, even with the right secret', async () => {
    const from = freshAddress();
    expect(await fail(10, agent, from)).toEqual(Array(10).fill(401));
    const right = await ask(agent, from);
    expect([right.status, right.body]).toEqual([429, WAITS]);
    expect(Number(right.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(Number(right.headers.get('retry-after'))).toBeLessThanOrEqual(60);
    expect(right.headers.get('cache-control')).toBe('no-store');
    expect(right.headers.get('www-authenticate')).toBeNull();
    expect((await ask(guess(agent), from)).body).toEqual(WAITS);
  });

  it('does not count nine failures for a limit, nor failures that are a minute apart', async () => {
    const from = freshAddress();
    expect(await fail(9, agent, from)).toEqual(Array(9).fill(401));
    expect((await ask(agent, from)).status).toBe(200);
    replicas[0].clock.advance(61);
    expect(await fail(9, agent, from)).toEqual(Array(9).fill(401));
    expect((await ask(agent, from)).status).toBe(200);
  });

  it('holds on every replica with the next request, wherever the failures were', async () => {
    const from = freshAddress();
    await fail(5, agent, from, 0);
    await fail(5, agent, from, 1);
    for (const replica of [0, 1]) expect((await ask(agent, from, replica)).status).toBe(429);
    const other = await replicas[0].api.agent(operator);
    await fail(10, other, from, 1);
    expect((await ask(other, from, 0)).status).toBe(429);
  });

  it('lets the right secret in from elsewhere, and other clients from there', async () => {
    const [from, elsewhere] = [freshAddress(), freshAddress()];
    const neighbour = await replicas[0].api.agent(operator);
    await fail(11, agent, from);
    expect((await ask(agent, elsewhere)).status).toBe(200);
    expect((await ask(neighbour, from)).status).toBe(200);
  });

  it('is over after the seconds of Retry-After, which asking again does not prolong', async () => {
    const from = freshAddress();
    await fail(10, agent, from);
    replicas[0].clock.advance(20);
    const waits = await ask(agent, from);
    await fail(20, agent, from);
    const seconds = Number(waits.headers.get('retry-after'));
    replicas[0].clock.advance(seconds - 5);
    expect((await ask(agent, from)).status).toBe(429);
    replicas[0].clock.advance(5);
    for (const replica of [0, 1]) expect((await ask(agent, from, replica)).status).toBe(200);
  });

  it('tries no more of 1,000 guesses at once over two replicas than the limit of each, and answers ten', async () => {
    const from = freshAddress();
    const compared = jest.spyOn(SecretHasher.prototype, 'equal');
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, number) => ask(guess(agent, number), from, number % 2)),
    );
    const statuses = answers.map(({ status }) => status);
    expect(compared.mock.calls.length).toBeLessThanOrEqual(20);
    expect(statuses.filter((status) => status === 401)).toHaveLength(10);
    // A queue that is full answers 503: that guess was not tried either.
    expect(statuses.filter((status) => ![401, 429, 503].includes(status))).toEqual([]);
    expect((await ask(agent, from)).status).toBe(429);
  });

  it('answers for an unknown client as for a known one, all the way', async () => {
    const [known, unknown] = [freshAddress(), freshAddress()];
    const stranger = { clientId: randomUUID(), clientSecret: agent.clientSecret };
    for (let time = 0; time < 12; time += 1) {
      const one = await ask(guess(agent, time), known);
      const other = await ask(guess(stranger, time), unknown);
      expect([one.status, one.text]).toEqual([other.status, other.text]);
      expect([one.status, one.body]).toEqual(time < 10 ? [401, INVALID] : [429, WAITS]);
    }
  });

  it('counts every way of failing: names that are no UUID, upper case, revoked secrets, decommissioned agents', async () => {
    const from = freshAddress();
    await fail(5, { ...agent, clientId: agent.clientId.toUpperCase() }, from);
    await fail(5, agent, from);
    expect((await ask(agent, from)).status).toBe(429);

    const nobody = freshAddress();
    const names = Array.from({ length: 11 }, (_, number) => `client ${number}`);
    const statuses: number[] = [];
    for (const clientId of names) statuses.push((await ask({ ...agent, clientId }, nobody)).status);
    expect(statuses).toEqual([...Array<number>(10).fill(401), 429]);

    const decommissioned = await replicas[0].api.agent(operator);
    await replicas[0].api.call('DELETE', `/agents/${decommissioned.agentId}`, operator);
    const late: number[] = [];
    for (let time = 0; time < 11; time += 1) late.push((await ask(decommissioned, nobody)).status);
    expect(late).toEqual([...Array<number>(10).fill(401), 429]);
  });

  it('does not count what is no guess: no authentication, a suspended agent, a scope that it lacks', async () => {
    const from = freshAddress();
    const headers = { 'X-Forwarded-For': from };
    const { api } = replicas[0];
    const suspended = await api.agent(operator);
    await api.call('POST', `/agents/${suspended.agentId}/suspend`, operator);
    const { clientId: client_id, clientSecret: client_secret } = agent;
    for (let time = 0; time < 11; time += 1) {
      expect((await api.form('/api/v1/token', { grant_type: 'client_credentials', client_id }, headers)).status).toBe(
        401,
      );
      expect((await ask(suspended, from)).status).toBe(403);
      const scope = { grant_type: 'client_credentials', client_id, client_secret, scope: 'audit:read' };
      expect((await api.form('/api/v1/token', scope, headers)).status).toBe(400);
    }
    expect((await ask(agent, from)).status).toBe(200);
  });

  it.each([
    ['introspection', '/api/v1/token/introspect'],
    ['revocation', '/api/v1/token/revoke'],
  ])('counts at %s, and waits there', async (_endpoint, path) => {
    const headers = { 'X-Forwarded-For': freshAddress() };
    const at = ({ clientId, clientSecret }: ClientCredentials) =>
      replicas[0].api.form(path, { token: 'x', client_id: clientId, client_secret: clientSecret }, headers);
    for (let time = 0; time < 10; time += 1) expect((await at(guess(agent, time))).status).toBe(401);
    const answer = await at(agent);
    expect([answer.status, answer.body]).toEqual([429, WAITS]);
    expect((await ask(agent, headers['X-Forwarded-For'])).status).toBe(429);
  });

  it('counts together what is tried by form, by Basic and with an assertion, at every endpoint', async () => {
    const from = { 'X-Forwarded-For': freshAddress() };
    const { api } = replicas[0];
    const { clientId: client_id } = agent;
    const tries = [
      (path: string, clientSecret: string) =>
        api.form(path, { token: 'x', client_id, client_secret: clientSecret }, from),
      (path: string, clientSecret: string) =>
        api.form(path, { token: 'x' }, { ...from, ...basic({ ...agent, clientSecret }) }),
      (path: string, clientSecret: string) =>
        api.form(
          path,
          { token: 'x', client_id, client_assertion: clientSecret, client_assertion_type: JWT_BEARER },
          from,
        ),
    ];
    const statuses: number[] = [];
    for (let time = 0; time < 12; time += 1) {
      const path = ['/api/v1/token/introspect', '/api/v1/token/revoke'][time % 2] ?? '';
      const answer = await tries[time % tries.length]?.(path, guess(agent, time).clientSecret);
      statuses.push(answer?.status ?? 0);
    }
    expect(statuses).toEqual([...Array<number>(10).fill(401), 429, 429]);
    expect((await ask(agent, from['X-Forwarded-For'])).status).toBe(429);
  });

  it.each([
    [
      'digits of another script',
      (id: string) => id.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit))),
    ],
    ['braces', (id: string) => `{${id}}`],
    ['a URN', (id: string) => `urn:uuid:${id}`],
    ['white space', (id: string) => ` ${id}\t`],
    ['no hyphens', (id: string) => id.replaceAll('-', '')],
    ['a zero-width character', (id: string) => `\u200b${id}`],
  ])('is no way in with a client_id in %s: it is nobody’s, whatever the secret', async (_, spelled) => {
    const from = freshAddress();
    const answer = await ask({ ...agent, clientId: spelled(agent.clientId) }, from);
    expect([answer.status, answer.body]).toEqual([401, INVALID]);
  });

  it('counts at the rotation of a secret, and waits there in the shape of that endpoint', async () => {
    const from = freshAddress();
    const path = `/api/v1/agents/${agent.agentId}/credentials/${agent.credentialId}/rotate`;
    const rotate = (client: ClientCredentials) =>
      replicas[0].api.send('POST', path, { headers: { ...basic(client), 'X-Forwarded-For': from } });
    for (let time = 0; time < 10; time += 1) expect((await rotate(guess(agent, time))).status).toBe(401);
    const answer = await rotate(agent);
    expect([answer.status, answer.body['code']]).toEqual([429, 'rate_limited']);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('over many clients makes unknown clients and clients that failed wait, and nobody else', async () => {
    const from = freshAddress();
    const [failed, good, fresh] = [agent, await replicas[0].api.agent(operator), await replicas[0].api.agent(operator)];
    await fail(1, failed, from);
    await fillNetwork(from);
    for (const replica of [0, 1]) {
      expect((await ask({ clientId: randomUUID(), clientSecret: 'x' }, from, replica)).body).toEqual(WAITS);
      expect((await ask(failed, from, replica)).body).toEqual(WAITS);
      for (let time = 0; time < 5; time += 1) expect((await ask(good, from, replica)).status).toBe(200);
    }
    // Its first failure is counted, and answered as an unknown client's: nobody learns that it exists.
    const first = await ask(guess(fresh), from);
    expect([first.status, first.body]).toEqual([429, WAITS]);
    expect((await ask(good, freshAddress())).status).toBe(200);
    replicas[0].clock.advance(61);
    expect((await ask(failed, from)).status).toBe(200);
    expect((await ask({ clientId: randomUUID(), clientSecret: 'x' }, from)).status).toBe(401);
  });

  it('counts the /64 of an IPv6 address, and an IPv4 address in either spelling', async () => {
    await fail(5, agent, '2001:db8:77:1::1');
    await fail(5, agent, '2001:db8:77:1:ffff::2');
    expect((await ask(agent, '2001:DB8:77:1::3')).status).toBe(429);
    expect((await ask(agent, '2001:db8:77:2::1')).status).toBe(200);
    const from = freshAddress();
    await fail(10, agent, `::ffff:${from}`);
    expect((await ask(agent, from)).status).toBe(429);
  });

  it('counts the address that the proxy saw, whatever its client claims to forward', async () => {
    const [attacker, victim] = [freshAddress(), freshAddress()];
    for (const claimed of [victim, `${victim}, ${victim}`, 'garbage', `127.0.0.1, ${victim}`, '']) {
      await fail(2, agent, `${claimed}, ${attacker}`);
    }
    expect((await ask(agent, `${victim}, ${attacker}`)).status).toBe(429);
    expect((await ask(agent, victim)).status).toBe(200);
  });

  it('takes an address with a port, as some proxies write it', async () => {
    const from = freshAddress();
    await fail(5, agent, `${from}:4711`);
    await fail(5, agent, from);
    expect((await ask(agent, `${from}:4712`)).status).toBe(429);
    await fail(10, agent, '[2001:db8:78:1::1]:443');
    expect((await ask(agent, '2001:db8:78:1::2')).status).toBe(429);
    expect((await ask(agent, freshAddress())).status).toBe(200);
  });

  it('does not believe X-Forwarded-For where no proxy is trusted', async () => {
    const direct = await startTestApp({ database: replicas[0].database, clock: replicas[0].clock });
    try {
      for (let time = 0; time < 10; time += 1) {
        const { clientId: client_id, clientSecret: client_secret } = guess(agent, time);
        await direct.api.form(
          '/api/v1/token',
          { grant_type: 'client_credentials', client_id, client_secret },
          { 'X-Forwarded-For': freshAddress(), Forwarded: `for=${freshAddress()}`, 'X-Real-IP': freshAddress() },
        );
      }
      expect((await direct.api.requestToken(agent)).status).toBe(429);
      expect((await ask(agent, freshAddress())).status).toBe(200);
    } finally {
      await direct.close();
    }
  });

  it('is in the audit log as far as it was tried, and in the metrics', async () => {
    const from = freshAddress();
    await fail(15, agent, from);
    const { body } = await replicas[0].api.call<{ data: { details: Record<string, unknown>; ip: string }[] }>(
      'GET',
      `/audit?agentId=${agent.agentId}&action=token.refused`,
      operator,
    );
    expect(body.data.length).toBeGreaterThan(0);
    expect(body.data.length).toBeLessThanOrEqual(10);
    expect(body.data[0]).toMatchObject({ ip: from, details: { reason: 'invalid_client', cause: 'secret_mismatch' } });
    const { text } = await replicas[0].api.send('GET', '/metrics');
    expect(text).toMatch(/^agentidp_client_authentications_held_back_total [1-9]/m);
    expect(text).toMatch(/^agentidp_token_refusals_total\{reason="throttled"\} [1-9]/m);
  });

  it('leaves nothing behind: failures are deleted in batches once they count no longer', async () => {
    await fail(3, agent, freshAddress());
    await replicas[0].database.query(`INSERT INTO authentication_failures
      SELECT '192.0.2.9', gen_random_uuid(), now() - interval '1 day' FROM generate_series(1, 2500)`);
    const rows = async () => (await replicas[0].database.query('SELECT 1 FROM authentication_failures')).length;
    const failures = replicas[0].app.get(FailedAuthentications, { strict: false });
    await failures.clean();
    expect(await rows()).toBeLessThan(2500);
    expect(await rows()).toBeGreaterThanOrEqual(3);
    replicas[0].clock.advance(121);
    await Promise.all(replicas.map(({ app }) => app.get(FailedAuthentications, { strict: false }).clean()));
    expect(await rows()).toBe(0);
    operator = await replicas[0].api.token(replicas[0].operator);
  });

  it('has limits that the environment sets', async () => {
    const env = {
      TRUSTED_PROXIES: '127.0.0.1',
      AUTHENTICATION_FAILURES_PER_CLIENT: '2',
      AUTHENTICATION_FAILURES_PER_ADDRESS: '3',
    };
    const strict = await startTestApp({ database: replicas[0].database, clock: replicas[0].clock, env });
    try {
      const headers = { 'X-Forwarded-For': freshAddress() };
      const at = async ({ clientId: client_id, clientSecret: client_secret }: ClientCredentials) => {
        const form = { grant_type: 'client_credentials', client_id, client_secret };
        return (await strict.api.form('/api/v1/token', form, headers)).status;
      };
      const stranger = () => ({ clientId: randomUUID(), clientSecret: 'x' });
      expect([await at(guess(agent)), await at(guess(agent)), await at(agent)]).toEqual([401, 401, 429]);
      expect([await at(stranger()), await at(stranger())]).toEqual([401, 429]);
    } finally {
      await strict.close();
    }
  });
});

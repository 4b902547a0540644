import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createHmac, createPublicKey, randomUUID } from 'node:crypto';
import { holdLedgers } from '../faults/conditions.js';
import { basic, claimsOf, type Answer } from '../support/api.js';
import { jws } from '../support/forge.js';
import { Outgoing } from '../support/outgoing.js';
import { assertion, assertionKey, PartnerIssuer, signatureOf, type AssertionKey } from '../support/partner-issuer.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

type Json = Record<string, unknown>;

const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** Failures are not slowed down here: there are many of them, on purpose. */
const PATIENT = { AUTHENTICATION_FAILURES_PER_CLIENT: '1000', AUTHENTICATION_FAILURES_PER_ADDRESS: '1000000' };
const ISSUER = 'https://id.example/tenants';
const REFUSAL = {
  error: 'invalid_client',
  error_description: 'Client authentication failed. Invalid client_id or client_secret.',
};

/** `private_key_jwt`; what partners assert is in e2e/federation.spec.ts. */
describe('RFC 7523, JWT client assertions, with RFC 7521', () => {
  let database: TestDatabase;
  let clock: SettableClock;
  let service: TestApp;
  let other: TestApp;
  let operator: string;
  let agentId: string;
  let key: AssertionKey;
  let outgoing: Outgoing;
  /** Servers of single tests. */
  const known: string[] = [];

  beforeAll(async () => {
    database = await createTestDatabase();
    clock = new SettableClock();
    // A call to this machine would be allowed to whoever is a partner.
    const env = { ...PATIENT, ISSUER, TOKEN_TTL_SECONDS: '86400', FEDERATION_ALLOWED_NETWORKS: '127.0.0.1' };
    service = await startTestApp({ database, clock, env });
    other = await startTestApp({ database, clock, env });
    operator = await service.api.token(service.operator);
    outgoing = new Outgoing();
  });
  // Whatever is asked here, taken or refused, makes the service call nobody.
  afterEach(() => {
    expect(outgoing.beyond(service.url, other.url, database.servingUrl, ...known)).toEqual([]);
  });
  afterAll(async () => {
    outgoing.stop();
    await service.close();
    await other.close();
    await database.drop();
  });

  // An agent for each test, so that every first refusal is an event of its own.
  beforeEach(async () => {
    agentId = (await service.api.agent(operator, { scopes: ['tokens:read'] })).agentId;
    key = await keyOf(agentId);
  });

  async function keyOf(id: string, alg: AssertionKey['alg'] = 'ES256'): Promise<AssertionKey> {
    const made = assertionKey(alg);
    const { status } = await service.api.call('POST', `/agents/${id}/keys`, operator, { jwk: made.jwk });
    expect(status).toBe(201);
    return made;
  }

  const now = (): number => clock.nowSeconds();
  const claims = (more: Json = {}): Json => ({
    iss: agentId,
    sub: agentId,
    aud: ISSUER,
    exp: now() + 60,
    iat: now(),
    jti: randomUUID(),
    ...more,
  });
  const signed = (more: Json = {}, header: Json = {}): string => assertion(key, claims(more), header);
  const form = (text: string, more: Json = {}): Record<string, string> => ({
    grant_type: 'client_credentials',
    client_assertion_type: TYPE,
    client_assertion: text,
    ...(more as Record<string, string>),
  });
  const ask = (text: string, more: Json = {}, on = service): Promise<Answer> =>
    on.api.form('/api/v1/token', form(text, more));

  async function expectTaken(asked: Promise<Answer>): Promise<void> {
    const { status, body } = await asked;
    expect([status, body['token_type']]).toEqual([200, 'Bearer']);
    expect(claimsOf(body['access_token'] as string)['sub']).toBe(agentId);
  }
  async function expectRefused(asked: Promise<Answer>, cause?: string): Promise<void> {
    const { status, body, headers } = await asked;
    expect([status, body, headers.get('www-authenticate')]).toEqual([401, REFUSAL, null]);
    if (cause === undefined) return;
    const query = `action=token.refused&agentId=${agentId}`;
    const log = await service.api.call('GET', `/audit?${query}`, operator);
    // Of refusals alike the first is an event at once; the others are counted.
    const details = (log.body['data'] as Json[]).map((event) => event['details']);
    expect(details).toContainEqual({ reason: 'invalid_client', cause, method: 'private_key_jwt', count: 1 });
  }
  async function expectMalformed(asked: Promise<Answer>): Promise<void> {
    const { status, body } = await asked;
    expect([status, body['error']]).toEqual([400, 'invalid_request']);
  }

  describe('RFC 7521 §4.2 and RFC 7523 §2.2, the parameters', () => {
    it('§2.2 an assertion of the JWT bearer type authenticates at token, introspection and revocation endpoint', async () => {
      const token = (await ask(signed())).body['access_token'] as string;
      const reference = (): Record<string, string> => ({ ...form(signed()), token });
      const introspection = await service.api.form('/api/v1/token/introspect', reference());
      expect(introspection.body).toMatchObject({ active: true, client_id: agentId });
      expect((await service.api.form('/api/v1/token/revoke', reference())).text).toBe('{}');
      expect((await service.api.form('/api/v1/token/introspect', reference())).body).toEqual({ active: false });
    });

    it('§4.2 client_id is not needed; where it is given it must be the subject', async () => {
      await expectTaken(ask(signed(), { client_id: agentId }));
      await expectTaken(ask(signed(), { client_id: agentId.toUpperCase() }));
      const stranger = await service.api.agent(operator);
      await expectRefused(ask(signed(), { client_id: stranger.agentId }));
      await expectRefused(ask(signed(), { client_id: randomUUID() }));
      await expectRefused(ask(signed(), { client_id: 'nobody' }));
    });

    it('§4.2 an assertion and its type go together, once each', async () => {
      const { client_assertion: _assertion, ...typeAlone } = form('x');
      const { client_assertion_type: _type, ...assertionAlone } = form(signed());
      for (const parameters of [typeAlone, assertionAlone, { ...typeAlone, client_assertion: '' }]) {
        await expectMalformed(service.api.form('/api/v1/token', parameters));
        await expectMalformed(service.api.form('/api/v1/token/introspect', { ...parameters, token: 'x' }));
      }
      const twice = [...Object.entries(form(signed())), ['client_assertion', signed()]] as [string, string][];
      await expectMalformed(service.api.form('/api/v1/token', twice));
    });

    it('§4.2.1 an unknown type of assertion is an unknown way of authenticating', async () => {
      for (const type of ['urn:ietf:params:oauth:client-assertion-type:saml2-bearer', 'jwt', TYPE.toUpperCase()]) {
        await expectRefused(ask(signed(), { client_assertion_type: type }));
      }
    });

    it('RFC 6749 §2.3 no second way of authenticating beside it', async () => {
      const agent = await service.api.agent(operator);
      await expectMalformed(ask(signed(), { client_secret: agent.clientSecret }));
      await expectMalformed(service.api.form('/api/v1/token', form(signed()), basic(agent)));
      const bearer = { Authorization: `Bearer ${operator}` };
      await expectMalformed(service.api.form('/api/v1/token/introspect', { ...form(signed()), token: 'x' }, bearer));
    });

    it('RFC 6749 §2.3.1 not in the query string', async () => {
      const query = new URLSearchParams(form(signed())).toString();
      await expectMalformed(service.api.form(`/api/v1/token?${query}`, { grant_type: 'client_credentials' }));
    });

    it('is read from the shape of the request on: a bad grant type is told first', async () => {
      const { body } = await ask('garbage', { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer' });
      expect(body['error']).toBe('unsupported_grant_type');
    });
  });

  describe('§3, the assertion', () => {
    it.each<[string, () => Json, string]>([
      ['§3 (1) another issuer', () => ({ iss: randomUUID() }), 'client_id_mismatch'],
      ['§3 (2) another subject', () => ({ sub: randomUUID() }), 'client_id_mismatch'],
      ['§3 (3) another audience', () => ({ aud: 'https://else.example' }), 'wrong_audience'],
      ['§3 (3) the audience with a slash', () => ({ aud: `${ISSUER}/` }), 'wrong_audience'],
      ['§3 (3) the audience in another case', () => ({ aud: ISSUER.toUpperCase() }), 'wrong_audience'],
      ['§3 (3) where the service listens', () => ({ aud: service.url }), 'wrong_audience'],
      ['§3 (3) the introspection endpoint', () => ({ aud: `${ISSUER}/api/v1/token/introspect` }), 'wrong_audience'],
      ['§3 (3) another audience beside ours', () => ({ aud: [ISSUER, 'https://else.example'] }), 'wrong_audience'],
      ['§3 (4) past its expiry', () => ({ exp: now() - 60 }), 'expired'],
      ['§3 (4) an expiry more than 300 s ahead', () => ({ exp: now() + 301 }), 'expires_too_late'],
      ['§3 (5) not yet valid', () => ({ nbf: now() + 62 }), 'not_yet_valid'],
      ['§3 (6) issued in the future', () => ({ iat: now() + 62 }), 'not_yet_valid'],
      ['§3 (7) no jti', () => ({ jti: undefined }), 'jti_missing'],
    ])('%s', async (_what, wrong, cause) => {
      await expectRefused(ask(signed(wrong()), { client_id: agentId }), cause);
    });

    it.each<[string, Json]>([
      ['§3 (1) no issuer', { iss: undefined }],
      ['§3 (2) no subject', { sub: undefined }],
      ['§3 (3) no audience', { aud: undefined }],
      ['§3 (3) an audience that is an object', { aud: { id: ISSUER } }],
      ['§3 (3) an empty list of audiences', { aud: [] }],
      ['§3 (3) seventeen audiences', { aud: Array.from({ length: 17 }, () => ISSUER) }],
      ['§3 (4) no expiry', { exp: undefined }],
      ['§3 (4) an expiry that is text', { exp: '9999999999' }],
      ['§3 (4) an expiry that is null', { exp: null }],
      ['§3 (4) an expiry beyond all years', { exp: 1e300 }],
      ['§3 (5) nbf that is text', { nbf: 'now' }],
      ['§3 (6) iat that is true', { iat: true }],
      ['§3 (7) jti that is a number', { jti: 1 }],
      ['§3 (7) an empty jti', { jti: '' }],
      ['§3 (7) a jti of 1025 characters', { jti: 'x'.repeat(1025) }],
    ])('%s', async (_what, wrong) => {
      await expectRefused(ask(signed(wrong), { client_id: agentId }), 'malformed_assertion');
      await expectRefused(ask(signed(wrong)));
    });

    it('§3 (3) the issuer and the token endpoint are taken as audience, alone and in a list', async () => {
      for (const aud of [ISSUER, `${ISSUER}/api/v1/token`, [ISSUER], [`${ISSUER}/api/v1/token`, ISSUER]]) {
        await expectTaken(ask(signed({ aud })));
      }
    });

    it('§3 (3) the audience is as configured, whatever the Host header says', async () => {
      const forged = signed({ aud: 'https://evil.example' });
      const headers = {
        Host: 'evil.example',
        'X-Forwarded-Host': 'evil.example',
        'X-Forwarded-Proto': 'https',
        Forwarded: 'host=evil.example;proto=https',
        'Content-Type': 'application/x-www-form-urlencoded',
      };
      const payload = new URLSearchParams(form(forged)).toString();
      const answer = await service.app.inject({ method: 'POST', url: '/api/v1/token', headers, payload });
      expect([answer.statusCode, answer.json()]).toEqual([401, REFUSAL]);
      const right = new URLSearchParams(form(signed())).toString();
      const taken = await service.app.inject({ method: 'POST', url: '/api/v1/token', headers, payload: right });
      expect(taken.statusCode).toBe(200);
    });

    it('§3 (4) to (6) clocks may be a minute apart', async () => {
      await expectTaken(ask(signed({ exp: now() - 55 })));
      await expectTaken(ask(signed({ iat: now() + 55, nbf: now() + 55 })));
      await expectTaken(ask(signed({ exp: now() + 300 })));
      await expectTaken(ask(signed({ exp: now() + 59.5, iat: undefined })));
    });

    it('§3 (7) a jti is taken once, whatever else changes, by every replica; another agent may have the same', async () => {
      const jti = randomUUID();
      await expectTaken(ask(signed({ jti })));
      await expectRefused(ask(signed({ jti }), {}, other), 'assertion_replayed');
      await expectRefused(ask(signed({ jti, exp: now() + 120 })), 'assertion_replayed');
      const second = await service.api.agent(operator);
      const theirs = await keyOf(second.agentId);
      const text = assertion(theirs, { ...claims({ jti }), iss: second.agentId, sub: second.agentId });
      expect((await ask(text)).status).toBe(200);
    });

    it('§3 (7) of many that show one at the same time, on two replicas, one gets a token', async () => {
      for (let round = 0; round < 5; round += 1) {
        const text = signed();
        const asked = Array.from({ length: 12 }, (_, index) => ask(text, {}, index % 2 === 0 ? service : other));
        const statuses = (await Promise.all(asked)).map(({ status }) => status);
        expect(statuses.filter((status) => status === 200)).toHaveLength(1);
        expect(statuses.filter((status) => status === 401)).toHaveLength(11);
      }
    });

    it('§3 (7) a forged or unfit assertion uses up nobody’s jti', async () => {
      const jti = randomUUID();
      const forged = assertion({ ...assertionKey(), kid: key.kid }, claims({ jti }));
      await expectRefused(ask(forged), 'wrong_signature');
      await expectRefused(ask(signed({ jti, aud: 'x' })), 'wrong_audience');
      await expectTaken(ask(signed({ jti })));
    });

    it('§3 (7) a jti is used up by whatever endpoint took it, also where the request fails afterwards', async () => {
      const introspected = signed();
      const reference = { ...form(introspected), token: 'x' };
      expect((await service.api.form('/api/v1/token/introspect', reference)).body).toEqual({ active: false });
      await expectRefused(ask(introspected), 'assertion_replayed');
      const refused = signed();
      expect((await ask(refused, { scope: 'audit:read' })).body['error']).toBe('invalid_scope');
      await expectRefused(ask(refused), 'assertion_replayed');
    });

    it('§3 (7) a jti whose token did not come about stays used: there is never a second token for it', async () => {
      const text = signed();
      const hold = await holdLedgers(database);
      const failed = await ask(text);
      await hold.release();
      expect([failed.status, failed.body['error']]).toEqual([503, 'temporarily_unavailable']);
      await expectRefused(ask(text, {}, other), 'assertion_replayed');
      await expectTaken(ask(signed()));
    });

    it('§3 (7) a jti is remembered no longer than it could be used', async () => {
      const count = async (): Promise<number> => {
        const [row] = await database.query<{ count: number }>('SELECT count(*)::integer AS count FROM used_assertions');
        return row?.count ?? -1;
      };
      await database.query('DELETE FROM used_assertions');
      await expectTaken(ask(signed({ exp: now() + 60 })));
      await expectTaken(ask(signed({ exp: now() + 300 })));
      const { UsedAssertions } = await import('../../src/credentials/used-assertions.js');
      const used = service.app.get(UsedAssertions);
      await used.forgetExpired();
      expect(await count()).toBe(2);
      // 60 s to live, 60 s of skew, 300 s for the clocks of other replicas.
      clock.advance(421);
      await used.forgetExpired();
      expect(await count()).toBe(1);
      clock.advance(240);
      await used.forgetExpired();
      expect(await count()).toBe(0);
      operator = await service.api.token(service.operator);
    });

    it.each<[string, () => string, string]>([
      [
        '§3 (9) another key under the same kid',
        () => assertion({ ...assertionKey(), kid: key.kid }, claims()),
        'wrong_signature',
      ],
      ['§3 (9) another key under a kid of its own', () => assertion(assertionKey(), claims()), 'unknown_key'],
      [
        '§3 (9) an embedded jwk',
        () => {
          const evil = assertionKey();
          return assertion({ ...evil, kid: key.kid }, claims(), { jwk: evil.jwk });
        },
        'wrong_signature',
      ],
      ['§3 (9) alg none', () => jws({ alg: 'none' }, claims(), () => Buffer.alloc(0)), 'malformed_assertion'],
      ['§3 (9) alg none with a signature', () => signed({}, { alg: 'none' }), 'unknown_key'],
      [
        '§3 (9) HS256 keyed with the public key',
        () => {
          const secret = createPublicKey(key.privateKey).export({ format: 'der', type: 'spki' });
          const hmac = (input: string) => createHmac('sha256', secret).update(input).digest();
          return jws({ alg: 'HS256', kid: key.kid }, claims(), hmac);
        },
        'unknown_key',
      ],
      ['§3 (9) an algorithm of another key type', () => signed({}, { alg: 'RS256' }), 'unknown_key'],
      [
        '§3 (9) a signature of another assertion',
        () => signed().replace(/[^.]*$/, signed().split('.')[2] ?? ''),
        'wrong_signature',
      ],
      ['§3 (9) an empty signature of zeros', () => signed().replace(/[^.]*$/, 'A'.repeat(86)), 'wrong_signature'],
      ['§3 (9) a critical extension', () => signed({}, { crit: ['b64'], b64: true }), 'malformed_assertion'],
      ['§3 (10) a payload that is no JSON', () => jws({ alg: 'ES256' }, 'x', signatureOf(key)), 'malformed_assertion'],
      ['RFC 8725 §3.11 the typ of an access token', () => signed({}, { typ: 'at+jwt' }), 'malformed_assertion'],
      ['RFC 8725 §3.11 the typ of a logout token', () => signed({}, { typ: 'logout+jwt' }), 'malformed_assertion'],
    ])('%s', async (_what, forge, cause) => {
      await expectRefused(ask(forge(), { client_id: agentId }), cause);
    });

    it('§3 (9) nothing that the header or the claims name is called: jku, x5u, jwk, x5c, kid, iss', async () => {
      const evil = await PartnerIssuer.start();
      const forger = evil.keys[0] as AssertionKey;
      const x5u = `${evil.url}/cert.pem`;
      try {
        for (const header of [
          { jku: evil.jwksUri },
          { x5u },
          { jku: evil.jwksUri, x5u, jwk: forger.jwk, x5c: ['MIIB'] },
          { kid: evil.jwksUri },
          { kid: key.kid, jku: evil.jwksUri, jwk: forger.jwk },
        ]) {
          await expectRefused(ask(assertion(forger, claims(), header), { client_id: agentId }));
        }
        // Whoever signs as an issuer that is a URL is a partner's, and none is known here.
        await expectRefused(ask(evil.mint(claims({ iss: evil.url })), { client_id: agentId }));
        expect(evil.calls).toEqual([]);
      } finally {
        await evil.close();
      }
    });

    it('§3 (9) keys of every type sign, with each of their algorithms', async () => {
      for (const alg of ['RS256', 'ES256', 'ES384', 'EdDSA'] as const) {
        const made = await keyOf(agentId, alg);
        await expectTaken(ask(assertion(made, claims())));
      }
      const rsa = assertionKey('RS256');
      const { alg: _alg, ...jwk } = rsa.jwk;
      await service.api.call('POST', `/agents/${agentId}/keys`, operator, { jwk });
      await expectTaken(ask(assertion(rsa, claims())));
      // A key that names its algorithm has no other.
      const named = await keyOf(agentId, 'RS256');
      await expectRefused(ask(assertion(named, claims(), { alg: 'PS256' })), 'unknown_key');
    });

    it('an access token of ours is no assertion', async () => {
      const token = (await ask(signed())).body['access_token'] as string;
      await expectRefused(ask(token, { client_id: agentId }));
    });
  });

  describe('RFC 6749 §2.3.1, many failures', () => {
    it('make the client wait at its address, with the right key too; others, and it after a minute, go on', async () => {
      const strict = await startTestApp({ database, clock, env: { ISSUER, TOKEN_TTL_SECONDS: '86400' } });
      known.push(strict.url);
      try {
        const evil = { ...assertionKey(), kid: key.kid };
        for (let count = 0; count < 10; count += 1) {
          expect((await ask(assertion(evil, claims()), {}, strict)).status).toBe(401);
        }
        const text = signed();
        const held = await ask(text, {}, strict);
        expect([held.status, held.body['error']]).toEqual([429, 'temporarily_unavailable']);
        expect(Number(held.headers.get('retry-after'))).toBeGreaterThan(0);
        const bystander = await service.api.agent(operator);
        const own = await keyOf(bystander.agentId);
        const theirs = { ...claims(), iss: bystander.agentId, sub: bystander.agentId };
        expect((await ask(assertion(own, theirs), {}, strict)).status).toBe(200);
        clock.advance(61);
        // What had to wait was not looked at, so it is not used up.
        expect((await ask(signed(), {}, strict)).status).toBe(200);
      } finally {
        await strict.close();
      }
    });
  });

  describe('§3.2, errors', () => {
    it('a suspended agent authenticates and is told so; a decommissioned one is unknown', async () => {
      const agent = await service.api.agent(operator);
      const own = await keyOf(agent.agentId);
      const text = (): string => assertion(own, { ...claims(), iss: agent.agentId, sub: agent.agentId });
      expect((await ask(text())).status).toBe(200);
      await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
      const suspended = await ask(text());
      expect([suspended.status, suspended.body['error']]).toEqual([403, 'unauthorized_client']);
      expect((await service.api.form('/api/v1/token/introspect', { ...form(text()), token: 'x' })).body).toEqual(
        REFUSAL,
      );
      await service.api.call('DELETE', `/agents/${agent.agentId}`, operator);
      expect((await ask(text())).body).toEqual(REFUSAL);
    });

    it('an agent without keys, an unknown agent and garbage are refused alike', async () => {
      const bare = await service.api.agent(operator);
      for (const id of [bare.agentId, randomUUID()]) {
        await expectRefused(ask(assertion(key, { ...claims(), iss: id, sub: id })));
      }
      for (const text of ['garbage', '..', 'a.b.c', 'x'.repeat(20_000)]) {
        await expectRefused(ask(text));
        await expectRefused(ask(text, { client_id: agentId }), 'malformed_assertion');
      }
    });
  });
});

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createHmac, createPublicKey, randomUUID } from 'node:crypto';
import { holdLedgers, lockWaiters } from '../faults/conditions.js';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { jws } from '../support/forge.js';
import { addOrganization } from '../support/organizations.js';
import { Outgoing } from '../support/outgoing.js';
import { assertion, assertionKey, PartnerIssuer, signatureOf, type AssertionKey } from '../support/partner-issuer.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** Failures are not slowed down here: there are many of them, on purpose. */
const PATIENT = { AUTHENTICATION_FAILURES_PER_CLIENT: '1000', AUTHENTICATION_FAILURES_PER_ADDRESS: '1000000' };
const ISSUER = 'https://id.example';
const SUBJECT = 'repo:octo-org/octo-repo:ref:refs/heads/main';
const DISCOVERY = '/.well-known/openid-configuration';
const REFUSAL = {
  error: 'invalid_client',
  error_description: 'Client authentication failed. Invalid client_id or client_secret.',
};

/** Two replicas on one database, and an issuer of our own for each test. */
let database: TestDatabase;
let clock: SettableClock;
let service: TestApp;
let other: TestApp;
let operator: string;
let issuer: PartnerIssuer;
let outgoing: Outgoing;
/** Whom the service may call beside the issuer. */
let partners: string[];

beforeAll(async () => {
  database = await createTestDatabase();
  clock = new SettableClock();
  const env = { ...PATIENT, ISSUER, FEDERATION_ALLOWED_NETWORKS: '127.0.0.1', TOKEN_TTL_SECONDS: '86400' };
  service = await startTestApp({ database, clock, env });
  other = await startTestApp({ database, clock, env });
  operator = await service.api.token(service.operator);
  outgoing = new Outgoing();
});
afterAll(async () => {
  outgoing.stop();
  await service.close();
  await other.close();
  await database.drop();
});
beforeEach(async () => {
  issuer = await PartnerIssuer.start();
  partners = [issuer.url];
  outgoing.clear();
});
afterEach(async () => {
  // Whatever is asked here, the service calls nobody but partners.
  expect(called(...partners)).toEqual([]);
  await issuer.close();
});

/** Whom the service has called, but for these. */
function called(...but: readonly string[]): string[] {
  return outgoing.beyond(service.url, other.url, database.servingUrl, ...but);
}

const call = (method: string, path: string, body?: unknown, token = operator): Promise<Answer> =>
  service.api.call(method, path, token, body);
const now = (): number => clock.nowSeconds();
const claims = (more: Json = {}): Json => ({ sub: SUBJECT, aud: ISSUER, iat: now(), exp: now() + 300, ...more });

async function partner(fields: Json = {}): Promise<string> {
  const { status, body, text } = await call('POST', '/federation/partners', {
    name: 'ours',
    issuer: issuer.url,
    ...fields,
  });
  if (status !== 201) throw new Error(`no partner: ${status} ${text}`);
  return body['partnerId'] as string;
}

async function identity(agentId: string, partnerId: string, fields: Json = {}): Promise<string> {
  const body = { partnerId, subject: SUBJECT, ...fields };
  const answer = await call('POST', `/agents/${agentId}/federated-identities`, body);
  if (answer.status !== 201) throw new Error(`no identity: ${answer.status} ${answer.text}`);
  return answer.body['credentialId'] as string;
}

/** An agent that the issuer's subject proves. */
async function federated(partnerFields: Json = {}, identityFields: Json = {}) {
  const partnerId = await partner(partnerFields);
  const agent = await service.api.agent(operator, { scopes: ['agents:read'] });
  return { partnerId, agent, credentialId: await identity(agent.agentId, partnerId, identityFields) };
}

function ask(
  client: Pick<TestAgent, 'clientId'> | null,
  text: string,
  more: Readonly<Record<string, string>> = {},
  on = service,
): Promise<Answer> {
  return on.api.form('/api/v1/token', {
    grant_type: 'client_credentials',
    client_assertion_type: TYPE,
    client_assertion: text,
    ...(client === null ? {} : { client_id: client.clientId }),
    ...more,
  });
}

async function expectRefused(asked: Promise<Answer>, agent: TestAgent, cause: string): Promise<void> {
  const { status, body, headers } = await asked;
  expect([status, body, headers.get('cache-control')]).toEqual([401, REFUSAL, 'no-store']);
  const log = await call('GET', `/audit?action=token.refused&agentId=${agent.agentId}`);
  // Whose assertion it was to be, nobody can tell from one that cannot be read.
  const method = cause === 'malformed_assertion' ? 'private_key_jwt' : 'federated_assertion';
  // Of refusals alike the first is an event at once; the others are counted.
  const details = (log.body['data'] as Json[]).map((event) => event['details']);
  expect(details).toContainEqual({ reason: 'invalid_client', cause, method, count: 1 });
}

async function expectTaken(asked: Promise<Answer>): Promise<string> {
  const { status, body, text } = await asked;
  expect([status, text.slice(0, 40)]).toEqual([200, expect.stringContaining('access_token')]);
  return body['access_token'] as string;
}

/** The keys were asked for so often; with the discovery document before them each time. */
function expectFetches(count: number): void {
  expect(issuer.calls).toEqual(Array.from({ length: count }, () => [DISCOVERY, '/keys']).flat());
}

describe('an assertion of a partner', () => {
  it('earns the token of the agent that the request names, and the credential in it is the identity', async () => {
    const { agent, credentialId } = await federated();
    const token = await expectTaken(ask(agent, issuer.mint(claims())));
    expect(claimsOf(token)).toMatchObject({ sub: agent.agentId, client_id: agent.agentId, cred: credentialId });
    expect((await call('GET', `/agents/${agent.agentId}`, undefined, token)).status).toBe(200);
    expectFetches(1);
    expect(called()).toContain(new URL(issuer.url).host);
  });

  it('may be used again until it expires, on every replica', async () => {
    const { agent } = await federated();
    const text = issuer.mint(claims({ jti: randomUUID() }));
    for (const on of [service, other, service]) await expectTaken(ask(agent, text, {}, on));
  });

  it('of a partner that is singleUse may be used once, over all replicas, with a jti and without one', async () => {
    const { agent } = await federated({ singleUse: true });
    const withoutEnd = { jti: randomUUID(), exp: 253_402_300_799 };
    for (const more of [{ jti: randomUUID() }, { nonce: randomUUID() }, withoutEnd]) {
      const text = issuer.mint(claims(more));
      const answers = await Promise.all([service, other, service, other].map((on) => ask(agent, text, {}, on)));
      expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 401, 401, 401]);
      await expectRefused(ask(agent, text, {}, other), agent, 'assertion_replayed');
    }
    // The same claims under another signature are the same assertion.
    const key = issuer.keys[0] as AssertionKey;
    const twice = claims({ nonce: randomUUID() });
    await expectTaken(ask(agent, issuer.mint(twice)));
    const again = assertion(key, { iss: issuer.url, ...twice });
    await expectRefused(ask(agent, again), agent, 'assertion_replayed');
  });

  it('authenticates at introspection and revocation too', async () => {
    const partnerId = await partner();
    const agent = await service.api.agent(operator, { scopes: ['tokens:read'] });
    await identity(agent.agentId, partnerId);
    const token = await expectTaken(ask(agent, issuer.mint(claims())));
    const form = () => ({
      token,
      client_id: agent.clientId,
      client_assertion_type: TYPE,
      client_assertion: issuer.mint(claims()),
    });
    expect((await service.api.form('/api/v1/token/introspect', form())).body).toMatchObject({ active: true });
    expect((await service.api.form('/api/v1/token/revoke', form())).text).toBe('{}');
    expect((await service.api.form('/api/v1/token/introspect', form())).body).toEqual({ active: false });
    const wrong = { ...form(), client_assertion: issuer.mint(claims({ aud: 'https://else.example' })) };
    expect((await service.api.form('/api/v1/token/introspect', wrong)).body).toEqual(REFUSAL);
  });

  it('proves agents of two tenants that trust the same issuer, each the one that is named', async () => {
    const organizationId = await addOrganization(service, operator);
    const { agent } = await federated();
    const theirs = await service.api.agent(operator, { organizationId });
    await identity(theirs.agentId, await partner({ organizationId }));
    const text = issuer.mint(claims());
    for (const named of [agent, theirs]) {
      expect(claimsOf(await expectTaken(ask(named, text)))['sub']).toBe(named.agentId);
    }
    expect((await ask(null, text)).body).toEqual(REFUSAL);
  });

  it('is taken from an issuer with a path, from jwksUri, from inline keys, and signed by each algorithm', async () => {
    const withPath = await PartnerIssuer.start('RS256', '/realms/agents');
    partners.push(withPath.url);
    try {
      const agent = await service.api.agent(operator);
      await identity(agent.agentId, await partner({ issuer: withPath.url }));
      await expectTaken(ask(agent, withPath.mint(claims())));
      expect(withPath.calls).toEqual([`/realms/agents${DISCOVERY}`, '/keys']);
    } finally {
      await withPath.close();
    }
    const { agent, partnerId } = await federated({ jwksUri: issuer.jwksUri });
    await expectTaken(ask(agent, issuer.mint(claims())));
    expect(issuer.calls).toEqual(['/keys']);
    const keys = (['RS256', 'ES256', 'ES384', 'EdDSA'] as const).map((alg) => assertionKey(alg));
    const jwks = { keys: keys.map(({ jwk }) => jwk) };
    const changed = await call('PATCH', `/federation/partners/${partnerId}`, { jwks });
    expect(changed.body).toMatchObject({ jwksUri: null, jwks: { keys: keys.map(({ kid }) => ({ kid })) } });
    for (const key of keys) await expectTaken(ask(agent, assertion(key, { iss: issuer.url, ...claims() })));
    expect(issuer.calls).toEqual(['/keys']);
  });

  it('notes when its identity was last used, and does so without a write for each request', async () => {
    const { agent } = await federated();
    await expectTaken(ask(agent, issuer.mint(claims())));
    await until('the use is noted', async () => {
      const { body } = await call('GET', `/agents/${agent.agentId}/federated-identities`);
      return (body['data'] as Json[])[0]?.['lastUsedAt'] !== null;
    });
  });
});

describe('a subject', () => {
  it.each([
    ['repo:octo-org/octo-repo:ref:refs/heads/*', 'repo:octo-org/octo-repo:ref:refs/heads/release', true],
    ['repo:octo-org/octo-repo:ref:refs/heads/*', 'repo:octo-org/octo-repo:ref:refs/heads/feature/x', false],
    ['repo:octo-org/*:environment:production', 'repo:octo-org/other:environment:production', true],
    ['repo:octo-org/*:environment:production', 'repo:evil-org/other:environment:production', false],
    ['spiffe://example.org/ns/*/sa/agent', 'spiffe://example.org/ns/payments/sa/agent', true],
    ['spiffe://example.org/ns/*/sa/agent', 'spiffe://example.org/ns//sa/agent', false],
    ['system:serviceaccount:payments:agent', 'system:serviceaccount:payments:agent2', false],
    ['system:serviceaccount:payments:agent', 'System:serviceaccount:payments:agent', false],
  ])('of the pattern %s: %s is taken: %s', async (subject, sub, taken) => {
    const { agent } = await federated({}, { subject });
    const asked = ask(agent, issuer.mint(claims({ sub })));
    if (taken) await expectTaken(asked);
    else await expectRefused(asked, agent, 'subject_mismatch');
    // What does not match costs the partner nothing.
    expectFetches(taken ? 1 : 0);
  });
});

describe('claims', () => {
  it('must all be there and match, nested ones too; others may be anything', async () => {
    const wanted = {
      repository_owner_id: '65',
      ref_protected: true,
      groups: 'deployers',
      'kubernetes.io': { serviceaccount: { uid: 'u-1' } },
    };
    const { agent } = await federated({}, { claims: wanted });
    const given = {
      repository_owner_id: '65',
      ref_protected: true,
      groups: ['readers', 'deployers'],
      'kubernetes.io': { namespace: 'x', serviceaccount: { name: 'a', uid: 'u-1' } },
    };
    await expectTaken(ask(agent, issuer.mint(claims(given))));
    for (const wrong of [
      { repository_owner_id: 65 },
      { repository_owner_id: undefined },
      { ref_protected: 'true' },
      { groups: ['readers'] },
      { groups: undefined },
      { 'kubernetes.io': { serviceaccount: { uid: 'u-2' } } },
      { 'kubernetes.io': { serviceaccount: ['u-1'] } },
      { 'kubernetes.io': 'u-1' },
      { 'kubernetes.io': null },
    ]) {
      await expectRefused(ask(agent, issuer.mint(claims({ ...given, ...wrong }))), agent, 'claims_mismatch');
    }
    expectFetches(1);
  });

  it('choose between the identities of an agent: the credential is the one that matches', async () => {
    const { agent, partnerId } = await federated({}, { claims: { environment: 'staging' } });
    const production = await identity(agent.agentId, partnerId, { claims: { environment: 'production' } });
    const token = await expectTaken(ask(agent, issuer.mint(claims({ environment: 'production' }))));
    expect(claimsOf(token)['cred']).toBe(production);
  });
});

describe('refused with the one answer, the cause in the audit event, and no outgoing call,', () => {
  it.each<[string, (key: AssertionKey) => string, string]>([
    ['another audience', () => issuer.mint(claims({ aud: 'https://else.example' })), 'wrong_audience'],
    ['the token endpoint as audience', () => issuer.mint(claims({ aud: `${ISSUER}/api/v1/token` })), 'wrong_audience'],
    ['61 s after its end', () => issuer.mint(claims({ exp: now() - 61 })), 'expired'],
    ['61 s before its beginning', () => issuer.mint(claims({ nbf: now() + 62 })), 'not_yet_valid'],
    ['issued 61 s ahead', () => issuer.mint(claims({ iat: now() + 62 })), 'not_yet_valid'],
    ['an issuer that nobody trusts', () => issuer.mint(claims({ iss: 'https://evil.example' })), 'unknown_issuer'],
    ['the issuer with a slash', () => issuer.mint(claims({ iss: `${issuer.url}/` })), 'unknown_issuer'],
    ['another subject', () => issuer.mint(claims({ sub: 'repo:evil/evil:ref:refs/heads/main' })), 'subject_mismatch'],
    ['alg none', () => jws({ alg: 'none', typ: 'JWT' }, claims(), () => Buffer.alloc(0)), 'malformed_assertion'],
    ['a critical extension', () => issuer.mint(claims(), { crit: ['x'], x: 1 }), 'malformed_assertion'],
    ['the typ of an access token', () => issuer.mint(claims(), { typ: 'at+jwt' }), 'malformed_assertion'],
    ['no expiry', () => issuer.mint(claims({ exp: undefined })), 'malformed_assertion'],
    ['an expiry that is text', () => issuer.mint(claims({ exp: String(now() + 60) })), 'malformed_assertion'],
    ['no audience', () => issuer.mint(claims({ aud: undefined })), 'malformed_assertion'],
    ['an empty list of audiences', () => issuer.mint(claims({ aud: [] })), 'malformed_assertion'],
    ['no subject', () => issuer.mint(claims({ sub: undefined })), 'malformed_assertion'],
    ['a subject that is a list', () => issuer.mint(claims({ sub: [SUBJECT] })), 'malformed_assertion'],
    ['NUL in its issuer', () => issuer.mint(claims({ iss: 'a\0b' })), 'malformed_assertion'],
    ['a payload that is a list', (key) => jws({ alg: 'ES256' }, '[]', signatureOf(key)), 'malformed_assertion'],
    ['more than 16 KiB', () => issuer.mint(claims({ fill: 'x'.repeat(20_000) })), 'malformed_assertion'],
    ['white space around it', () => ` ${issuer.mint(claims())}`, 'malformed_assertion'],
    ['padding', () => `${issuer.mint(claims())}=`, 'malformed_assertion'],
    ['five parts', () => `${issuer.mint(claims())}.a.b`, 'malformed_assertion'],
    ['garbage', () => 'garbage', 'malformed_assertion'],
  ])('%s', async (_what, forge, cause) => {
    const { agent } = await federated();
    await expectRefused(ask(agent, forge(issuer.keys[0] as AssertionKey)), agent, cause);
    expect([issuer.calls, called()]).toEqual([[], []]);
  });

  it('an algorithm that the partner may not use', async () => {
    const { agent } = await federated({ algorithms: ['RS256', 'ES384'] });
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'algorithm_not_allowed');
    expect(issuer.calls).toEqual([]);
  });

  it('an agent without an identity, of another subject, unknown, or not named', async () => {
    const { agent } = await federated();
    const bare = await service.api.agent(operator);
    await expectRefused(ask(bare, issuer.mint(claims())), bare, 'unknown_issuer');
    for (const clientId of [randomUUID(), 'nobody', issuer.url, SUBJECT]) {
      expect((await ask({ clientId }, issuer.mint(claims()))).body).toEqual(REFUSAL);
    }
    expect((await ask(null, issuer.mint(claims()))).body).toEqual(REFUSAL);
    // An issuer cannot speak for an agent by its id: that takes the agent's own key.
    const own = issuer.mint(claims({ iss: agent.agentId, sub: agent.agentId, jti: 'x' }));
    expect((await ask(agent, own)).body).toEqual(REFUSAL);
    expect(issuer.calls).toEqual([]);
  });

  it('a partner that is disabled, an identity that expired, an agent that is gone', async () => {
    const { agent, partnerId } = await federated();
    await call('PATCH', `/federation/partners/${partnerId}`, { status: 'disabled' });
    await expectRefused(ask(agent, issuer.mint(claims()), {}, other), agent, 'partner_disabled');
    await call('PATCH', `/federation/partners/${partnerId}`, { status: 'active' });
    const short = await service.api.agent(operator);
    await identity(short.agentId, partnerId, { expiresAt: new Date((now() + 30) * 1000).toISOString() });
    clock.advance(31);
    await expectRefused(ask(short, issuer.mint(claims())), short, 'credential_not_usable');
    await call('DELETE', `/agents/${agent.agentId}`);
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'agent_decommissioned');
    expect(issuer.calls).toEqual([]);
  });

  it('a suspended agent whose partner’s keys are not known; where they are, it is told that it is suspended', async () => {
    const { agent } = await federated();
    await call('POST', `/agents/${agent.agentId}/suspend`);
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'keys_unavailable');
    expect(issuer.calls).toEqual([]);
    await call('POST', `/agents/${agent.agentId}/reactivate`);
    await expectTaken(ask(agent, issuer.mint(claims())));
    await call('POST', `/agents/${agent.agentId}/suspend`);
    const suspended = await ask(agent, issuer.mint(claims()));
    expect([suspended.status, suspended.body['error']]).toEqual([403, 'unauthorized_client']);
    await expectRefused(ask(agent, issuer.mint(claims(), { kid: 'new' })), agent, 'unknown_key');
    expectFetches(1);
  });

  it('within a minute of skew it is taken', async () => {
    const { agent } = await federated();
    await expectTaken(ask(agent, issuer.mint(claims({ exp: now() - 50 }))));
    await expectTaken(ask(agent, issuer.mint(claims({ nbf: now() + 55, iat: now() + 55 }))));
  });
});

describe('a forged signature is refused, and nothing that the header names is followed:', () => {
  it.each<[string, (key: AssertionKey, evil: AssertionKey, url: string) => string, string]>([
    [
      'HS256 keyed with the public key',
      (key) => {
        const secret = createPublicKey(key.privateKey).export({ format: 'pem', type: 'spki' });
        return jws({ alg: 'HS256', kid: key.kid }, { iss: issuer.url, ...claims() }, (input) =>
          createHmac('sha256', secret).update(input).digest(),
        );
      },
      'unknown_key',
    ],
    ['none with a signature', () => issuer.mint(claims(), { alg: 'none' }), 'unknown_key'],
    ['another algorithm than the key’s', () => issuer.mint(claims(), { alg: 'ES384' }), 'unknown_key'],
    ['an algorithm that nobody knows', () => issuer.mint(claims(), { alg: 'constructor' }), 'unknown_key'],
    [
      'another key under the same kid',
      (key, evil) => assertion({ ...evil, kid: key.kid }, { iss: issuer.url, ...claims() }),
      'wrong_signature',
    ],
    [
      'an embedded jwk',
      (key, evil) => assertion({ ...evil, kid: key.kid }, { iss: issuer.url, ...claims() }, { jwk: evil.jwk }),
      'wrong_signature',
    ],
    [
      'a jku and an x5u',
      (_key, evil, url) =>
        assertion(evil, { iss: issuer.url, ...claims() }, { jku: `${url}/keys`, x5u: `${url}/cert.pem` }),
      'unknown_key',
    ],
    ['changed claims', () => issuer.mint(claims()).replace(/\.[^.]+\./, `.${changed()}.`), 'wrong_signature'],
  ])('%s', async (_what, forge, cause) => {
    const { agent } = await federated();
    const evil = await PartnerIssuer.start();
    try {
      const forged = forge(issuer.keys[0] as AssertionKey, evil.keys[0] as AssertionKey, evil.url);
      await expectRefused(ask(agent, forged), agent, cause);
      expect(evil.calls).toEqual([]);
      expectFetches(1);
    } finally {
      await evil.close();
    }
  });

  const changed = (): string =>
    Buffer.from(JSON.stringify({ iss: issuer.url, ...claims({ exp: now() + 900 }) })).toString('base64url');

  it('two keys under one kid: nobody guesses which', async () => {
    const { agent } = await federated();
    const [first, second] = [assertionKey('ES256', 'twin'), assertionKey('ES256', 'twin')];
    issuer.keys = [first, second];
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'ambiguous_key');
    expectFetches(1);
    const inline = await call('POST', '/federation/partners', {
      name: 'x',
      issuer: 'https://twins.example',
      jwks: { keys: [first.jwk, second.jwk] },
    });
    expect([inline.status, inline.body['errors']]).toEqual([
      400,
      [{ pointer: '/jwks/keys/1', detail: 'the key has the kid of another' }],
    ]);
  });

  it('no kid: the only key that fits is meant, and of several none', async () => {
    const { agent } = await federated();
    await expectTaken(ask(agent, issuer.mint(claims(), { kid: undefined })));
    const another = await federated({ issuer: `${issuer.url}/`, jwksUri: issuer.jwksUri });
    issuer.keys = [assertionKey(), assertionKey()];
    const ambiguous = assertion(
      issuer.keys[1] as AssertionKey,
      { ...claims(), iss: `${issuer.url}/` },
      { kid: undefined },
    );
    await expectRefused(ask(another.agent, ambiguous), another.agent, 'ambiguous_key');
  });
});

describe('the keys of a partner', () => {
  it('are fetched once for 50 forged requests with kids of their own, before and after they are known', async () => {
    const { agent } = await federated({ jwksUri: issuer.jwksUri });
    const forge = () =>
      Promise.all(Array.from({ length: 50 }, () => ask(agent, issuer.mint(claims(), { kid: randomUUID() }))));
    for (const { body } of await forge()) expect(body).toEqual(REFUSAL);
    expect(issuer.calls).toEqual(['/keys']);
    clock.advance(31);
    for (const { body } of await forge()) expect(body).toEqual(REFUSAL);
    expect(issuer.calls).toEqual(['/keys', '/keys']);
    await expectTaken(ask(agent, issuer.mint(claims())));
    expect(issuer.calls).toEqual(['/keys', '/keys']);
  });

  it('are fetched again for a new key, once the cool-down is over', async () => {
    const { agent } = await federated();
    await expectTaken(ask(agent, issuer.mint(claims())));
    issuer.keys = [...issuer.keys, assertionKey()];
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'unknown_key');
    expectFetches(1);
    clock.advance(31);
    await expectTaken(ask(agent, issuer.mint(claims())));
    expectFetches(2);
  });

  it.each([
    ['no max-age', {}, 299, 301],
    ['a short max-age', { 'cache-control': 'max-age=5' }, 59, 61],
    ['no-store', { 'cache-control': 'no-store' }, 59, 61],
    ['a long max-age', { 'cache-control': 'public, max-age=864000' }, 3599, 3601],
    ['a max-age between', { 'cache-control': 'public, max-age=900' }, 899, 901],
  ])('are kept as the server says within bounds: %s', async (_what, headers, kept, over) => {
    issuer.headers = headers;
    const { agent } = await federated({ jwksUri: issuer.jwksUri });
    clock.freeze(clock.now().toISOString());
    try {
      await expectTaken(ask(agent, issuer.mint(claims())));
      clock.advance(kept);
      await expectTaken(ask(agent, issuer.mint(claims())));
      expect(issuer.calls).toHaveLength(1);
      // Withdrawn: refused once the bound has passed.
      issuer.keys = [assertionKey()];
      clock.advance(over - kept);
      await expectTaken(ask(agent, issuer.mint(claims())));
      expect(issuer.calls).toHaveLength(2);
    } finally {
      clock.set(clock.now().toISOString());
      operator = await service.api.token(service.operator);
    }
  });

  it('are refused once they are withdrawn and the bound has passed', async () => {
    const { agent } = await federated();
    const withdrawn = issuer.keys[0] as AssertionKey;
    await expectTaken(ask(agent, issuer.mint(claims())));
    issuer.keys = [assertionKey()];
    await expectTaken(ask(agent, assertion(withdrawn, { iss: issuer.url, ...claims() })));
    clock.advance(301);
    await expectRefused(ask(agent, assertion(withdrawn, { iss: issuer.url, ...claims() })), agent, 'unknown_key');
  });

  it('are the last good ones while the partner is down, for an hour, asking it every half minute at most', async () => {
    const { agent } = await federated({ jwksUri: issuer.jwksUri });
    await expectTaken(ask(agent, issuer.mint(claims())));
    issuer.answering = (_request, response) => response.writeHead(500).end();
    clock.advance(301);
    for (let count = 0; count < 5; count += 1) await expectTaken(ask(agent, issuer.mint(claims())));
    expect(issuer.calls).toHaveLength(2);
    clock.advance(3500);
    await expectTaken(ask(agent, issuer.mint(claims())));
    // It is asked again, and nobody waits for that: it is known to be down.
    await until('it is asked again', () => issuer.calls.length === 3);
    clock.advance(101);
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'keys_unavailable');
    expect(issuer.calls).toHaveLength(4);
    issuer.answering = null;
    clock.advance(31);
    await expectTaken(ask(agent, issuer.mint(claims())));
  });

  it('of a change of where they are hold at once, on every replica', async () => {
    const { agent, partnerId } = await federated();
    const withdrawn = issuer.keys[0] as AssertionKey;
    for (const on of [service, other]) await expectTaken(ask(agent, issuer.mint(claims()), {}, on));
    const inline = assertionKey();
    await call('PATCH', `/federation/partners/${partnerId}`, { jwks: { keys: [inline.jwk] } });
    const byInline = () => assertion(inline, { iss: issuer.url, ...claims() });
    for (const on of [other, service]) {
      await expectTaken(ask(agent, byInline(), {}, on));
      await expectRefused(
        ask(agent, assertion(withdrawn, { iss: issuer.url, ...claims() }), {}, on),
        agent,
        'unknown_key',
      );
    }
    await call('PATCH', `/federation/partners/${partnerId}`, { jwks: { keys: [assertionKey().jwk] } });
    for (const on of [other, service]) await expectRefused(ask(agent, byInline(), {}, on), agent, 'unknown_key');
  });
});

describe('an issuer that misbehaves earns a refusal, and makes no more calls than the one:', () => {
  describe.each<[string, (url: string) => NonNullable<PartnerIssuer['answering']>]>([
    [
      '10 MB',
      () => (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(`{"keys":[${' '.repeat(10_000_000)}]}`);
      },
    ],
    [
      'an answer of 257 KiB',
      () => (_request, response) => response.end(JSON.stringify({ keys: [], x: 'x'.repeat(263_168) })),
    ],
    [
      'a redirect to a private address',
      (url) => (_request, response) => response.writeHead(302, { location: url }).end(),
    ],
    ['HTML', () => (_request, response) => response.end('<html></html>')],
    ['a JSON list', () => (_request, response) => response.end('[]')],
    ['null', () => (_request, response) => response.end('null')],
    ['keys that are no list', () => (_request, response) => response.end('{"keys":{}}')],
    ['404', () => (_request, response) => response.writeHead(404).end('{"keys":[]}')],
    ['no answer but a closed connection', () => (request) => void request.socket.destroy()],
  ])('%s', (_what, answering) => {
    it.each([
      ['keys', '/keys'],
      ['discovery document', DISCOVERY],
    ])('in the place of its %s', async (_document, path) => {
      const inside = await PartnerIssuer.start();
      try {
        const { agent } = await federated(path === DISCOVERY ? {} : { jwksUri: issuer.jwksUri });
        issuer.answering = answering(inside.jwksUri);
        for (let count = 0; count < 3; count += 1) {
          await expectRefused(ask(agent, issuer.mint(claims())), agent, 'keys_unavailable');
        }
        expect(issuer.calls).toEqual([path]);
        expect(inside.calls).toEqual([]);
      } finally {
        await inside.close();
      }
    });
  });

  it('keys that are not fit for signatures: they are left out, and the one that is fit is used', async () => {
    const { agent } = await federated({ jwksUri: issuer.jwksUri });
    const fit = issuer.keys[0] as AssertionKey;
    const withPrivateHalf = { ...assertionKey().privateKey.export({ format: 'jwk' }), kid: 'lost' };
    const odd = [
      null,
      1,
      'x',
      [],
      { kty: 'oct', k: 'c2VjcmV0', kid: 'secret' },
      { ...fit.jwk, use: 'enc', kid: fit.kid },
    ];
    issuer.answering = (_request, response) =>
      response.end(JSON.stringify({ keys: [...odd, withPrivateHalf, fit.jwk] }));
    await expectTaken(ask(agent, issuer.mint(claims())));
    await expectRefused(ask(agent, issuer.mint(claims(), { kid: 'lost' })), agent, 'unknown_key');
  });

  it.each<[string, (own: PartnerIssuer) => Json]>([
    ['another issuer', (own) => ({ ...own.discovery(), issuer: 'https://else.example' })],
    ['its own name with a slash', (own) => ({ ...own.discovery(), issuer: `${own.url}/` })],
    ['no jwks_uri', (own) => ({ issuer: own.url })],
    ['a jwks_uri at a private address', (own) => ({ ...own.discovery(), jwks_uri: 'https://169.254.169.254/keys' })],
    [
      'a jwks_uri on another port of loopback, by a name',
      (own) => ({ ...own.discovery(), jwks_uri: 'http://[::1]:1/' }),
    ],
    ['a jwks_uri that is a file', (own) => ({ ...own.discovery(), jwks_uri: 'file:///etc/passwd' })],
  ])('a discovery document with %s', async (_what, document) => {
    const { agent } = await federated();
    issuer.answering = (_request, response) => response.end(JSON.stringify(document(issuer)));
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'keys_unavailable');
    expect(issuer.calls).toEqual([DISCOVERY]);
  });

  it('a slow discovery document and slow keys have 5 s together', async () => {
    const { agent } = await federated();
    issuer.routes[DISCOVERY] = (_request, response) => {
      setTimeout(() => response.end(JSON.stringify(issuer.discovery())), 3000);
    };
    issuer.routes['/keys'] = () => undefined;
    const began = performance.now();
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'keys_unavailable');
    expect(performance.now() - began).toBeGreaterThan(4500);
    expect(performance.now() - began).toBeLessThan(8000);
    expectFetches(1);
  });

  it('slow answers end after 5 s, and hold up nobody else meanwhile: no connection, no queue, no other client', async () => {
    const { agent } = await federated({ jwksUri: issuer.jwksUri });
    issuer.answering = () => undefined;
    const began = performance.now();
    const slow = Promise.all(Array.from({ length: 30 }, () => ask(agent, issuer.mint(claims()))));
    await until('the partner is asked', () => issuer.calls.length === 1);
    const bystander = await service.api.agent(operator);
    for (let count = 0; count < 20; count += 1) expect((await service.api.requestToken(bystander)).status).toBe(200);
    const [busy] = await database.query<{ count: number }>(
      `SELECT count(*)::integer AS count FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'agentidp_test_serving' AND state <> 'idle'`,
    );
    expect(busy?.count).toBeLessThan(3);
    for (const { body } of await slow) expect(body).toEqual(REFUSAL);
    expect(performance.now() - began).toBeGreaterThan(4500);
    expect(performance.now() - began).toBeLessThan(15_000);
    expect(issuer.calls).toEqual(['/keys']);
  });

  it('a kid that nobody knows, at a partner that hangs, takes the room of no other partner and of no known key', async () => {
    const theirs = await PartnerIssuer.start();
    partners.push(theirs.url);
    try {
      const { agent } = await federated({ jwksUri: issuer.jwksUri });
      const bystander = await service.api.agent(operator);
      await identity(bystander.agentId, await partner({ issuer: theirs.url }));
      for (const [of, by] of [
        [agent, issuer],
        [bystander, theirs],
      ] as const) {
        await expectTaken(ask(of, by.mint(claims())));
      }
      clock.advance(31);
      issuer.answering = () => undefined;
      const answers: Answer[] = [];
      const asked = Promise.all(
        Array.from({ length: 80 }, async () => {
          answers.push(await ask(agent, issuer.mint(claims(), { kid: randomUUID() })));
        }),
      );
      // All but those that wait for the one fetch, which goes on for 5 s.
      await until('only 16 are kept waiting', () => answers.length === 64, 4500);
      await expectTaken(ask(bystander, theirs.mint(claims())));
      await expectTaken(ask(agent, issuer.mint(claims())));
      await asked;
      for (const { body } of answers) expect(body).toEqual(REFUSAL);
      expect(issuer.calls).toHaveLength(2);
    } finally {
      await theirs.close();
    }
  });
});

describe('a change on one replica holds on the next request to the other:', () => {
  it('a partner that is deleted takes its identities with it, and the tokens that they earned are dead', async () => {
    const { agent, partnerId, credentialId } = await federated();
    const mine = await service.api.token(agent);
    const token = await expectTaken(ask(agent, issuer.mint(claims())));
    expect(await other.api.introspect(operator, token)).toMatchObject({ active: true });
    expect((await call('DELETE', `/federation/partners/${partnerId}`)).status).toBe(204);
    expect(await other.api.introspect(operator, token)).toEqual({ active: false });
    expect(await other.api.introspect(operator, mine)).toMatchObject({ active: true });
    await expectRefused(ask(agent, issuer.mint(claims()), {}, other), agent, 'unknown_issuer');
    const list = await call('GET', `/agents/${agent.agentId}/federated-identities`);
    expect(list.body).toEqual({ data: [], nextCursor: null });
    const gone = await call('DELETE', `/agents/${agent.agentId}/federated-identities/${credentialId}`);
    expect(gone.status).toBe(404);
    expect((await call('GET', `/federation/partners/${partnerId}`)).status).toBe(404);
    const log = await call('GET', '/audit?action=federation.partner_deleted&limit=1');
    expect(log.body['data']).toMatchObject([
      { target: { type: 'partner', id: partnerId }, details: { issuer: issuer.url, identitiesRemoved: 1 } },
    ]);
    // Made anew it proves nothing until somebody says whom.
    await partner();
    await expectRefused(ask(agent, issuer.mint(claims())), agent, 'unknown_issuer');
  });

  it('a partner that is disabled earns nothing; the tokens that it earned before live on', async () => {
    const { agent, partnerId } = await federated();
    const token = await expectTaken(ask(agent, issuer.mint(claims()), {}, other));
    await call('PATCH', `/federation/partners/${partnerId}`, { status: 'disabled' });
    await expectRefused(ask(agent, issuer.mint(claims()), {}, other), agent, 'partner_disabled');
    expect(await other.api.introspect(operator, token)).toMatchObject({ active: true });
    await call('PATCH', `/federation/partners/${partnerId}`, { status: 'active' });
    await expectTaken(ask(agent, issuer.mint(claims()), {}, other));
  });

  it('an identity that is revoked earns nothing, and its tokens are dead unless they are kept', async () => {
    for (const [query, active] of [
      ['', false],
      ['?keepTokens=true', true],
    ] as const) {
      const agent = await service.api.agent(operator);
      const known = await call('GET', '/federation/partners?limit=1');
      const [first] = known.body['data'] as Json[];
      const partnerId = first?.['issuer'] === issuer.url ? (first['partnerId'] as string) : await partner();
      const credentialId = await identity(agent.agentId, partnerId);
      const token = await expectTaken(ask(agent, issuer.mint(claims()), {}, other));
      const path = `/agents/${agent.agentId}/federated-identities/${credentialId}${query}`;
      expect((await call('DELETE', path)).status).toBe(204);
      await expectRefused(ask(agent, issuer.mint(claims()), {}, other), agent, 'unknown_issuer');
      expect((await other.api.introspect(operator, token))['active']).toBe(active);
      const list = await call('GET', `/agents/${agent.agentId}/federated-identities`);
      expect(list.body['data']).toMatchObject([{ credentialId, status: 'revoked' }]);
    }
  });

  it('a partner that is disabled while a request waits for the lock earns nothing any more', async () => {
    const { agent, partnerId } = await federated();
    await expectTaken(ask(agent, issuer.mint(claims())));
    const hold = await holdLedgers(database);
    const asked = ask(agent, issuer.mint(claims()));
    await lockWaiters(database, 'issue_tokens');
    await hold.query("UPDATE federation_partners SET status = 'disabled' WHERE partner_id = $1", [partnerId]);
    await hold.release();
    expect((await asked).body).toEqual(REFUSAL);
  });
});

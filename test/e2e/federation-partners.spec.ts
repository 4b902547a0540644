import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';
import type { Answer, TestAgent } from '../support/api.js';
import { addOrganization } from '../support/organizations.js';
import { assertion, assertionKey, PartnerIssuer, type AssertionKey } from '../support/partner-issuer.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

let service: TestApp;
let operator: string;

beforeAll(async () => {
  service = await startTestApp({ env: { FEDERATION_ALLOWED_NETWORKS: '127.0.0.1' } });
  operator = await service.api.token(service.operator);
});
afterAll(() => service.close());

const call = (method: string, path: string, body?: unknown, token = operator): Promise<Answer> =>
  service.api.call(method, path, token, body);
const issuerUrl = (): string => `https://${randomUUID()}.example`;
const make = (fields: Json = {}, token = operator): Promise<Answer> =>
  call('POST', '/federation/partners', { name: 'ours', issuer: issuerUrl(), ...fields }, token);
const jwks = () => ({ keys: [assertionKey().jwk] });

async function made(fields: Json = {}): Promise<Json> {
  const { status, body, text } = await make(fields);
  if (status !== 201) throw new Error(`no partner: ${status} ${text}`);
  return body;
}

describe('a federation partner', () => {
  it('is made with what it is given, and shows what holds where nothing was given', async () => {
    const issuer = issuerUrl();
    const answer = await make({ issuer });
    expect([answer.status, answer.headers.get('location')]).toEqual([
      201,
      `/api/v1/federation/partners/${String(answer.body['partnerId'])}`,
    ]);
    expect(answer.body).toEqual({
      partnerId: expect.any(String),
      organizationId: expect.any(String),
      name: 'ours',
      issuer,
      jwksUri: null,
      jwks: null,
      audience: service.issuer,
      algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA', 'Ed25519'],
      singleUse: false,
      status: 'active',
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
    const key = assertionKey('RS256');
    const full = {
      jwks: { keys: [{ ...key.jwk, x5c: ['x'], n: key.jwk['n'] }] },
      audience: 'urn:ours',
      algorithms: ['RS256'],
      singleUse: true,
      status: 'disabled',
    };
    const { kty, n, e, alg, kid } = key.jwk;
    expect((await make(full)).body).toMatchObject({ ...full, jwks: { keys: [{ kty, n, e, alg, kid }] } });
  });

  it('is listed and read, newest first, page by page', async () => {
    const organizationId = await addOrganization(service, operator);
    const ids = [];
    for (let count = 0; count < 3; count += 1) ids.unshift((await made({ organizationId }))['partnerId']);
    const first = await call('GET', `/federation/partners?organizationId=${organizationId}&limit=2`);
    const cursor = String(first.body['nextCursor']);
    const rest = await call('GET', `/federation/partners?organizationId=${organizationId}&limit=2&cursor=${cursor}`);
    const pages = [...(first.body['data'] as Json[]), ...(rest.body['data'] as Json[])];
    expect(pages.map(({ partnerId }) => partnerId)).toEqual(ids);
    expect(rest.body['nextCursor']).toBeNull();
    expect((await call('GET', `/federation/partners/${String(ids[0])}`)).body).toEqual(pages[0]);
  });

  it('is read by agents:read in its own organization and by the operator’s scope anywhere, and by nobody else', async () => {
    const organizationId = await addOrganization(service, operator);
    const theirs = await made({ organizationId });
    const path = `/federation/partners/${String(theirs['partnerId'])}`;
    const tokenOf = async (fields: Json): Promise<string> =>
      service.api.token(await service.api.agent(operator, fields));
    const own = await tokenOf({ organizationId, scopes: ['agents:read'] });
    const foreign = await tokenOf({ scopes: ['agents:read'] });
    const platform = await tokenOf({ scopes: ['admin:orgs'] });
    const bare = await tokenOf({ organizationId, scopes: ['agents:write', 'tokens:read'] });
    expect((await call('GET', path, undefined, own)).status).toBe(200);
    expect((await call('GET', '/federation/partners', undefined, own)).body['data']).toHaveLength(1);
    expect((await call('GET', path, undefined, platform)).status).toBe(200);
    const named = `/federation/partners?organizationId=${organizationId}`;
    expect((await call('GET', named, undefined, platform)).status).toBe(200);
    expect((await call('GET', path, undefined, foreign)).status).toBe(404);
    expect((await call('GET', named, undefined, foreign)).status).toBe(403);
    expect((await call('GET', path, undefined, bare)).status).toBe(403);
    for (const token of [own, foreign, bare]) {
      expect((await make({}, token)).status).toBe(403);
      expect((await call('PATCH', path, { name: 'x' }, token)).status).toBe(403);
      expect((await call('DELETE', path, undefined, token)).status).toBe(403);
    }
  });

  it('has an issuer of its own in an organization, and shares it with other organizations', async () => {
    const issuer = issuerUrl();
    await made({ issuer });
    const twice = await make({ issuer });
    expect([twice.status, twice.body['code']]).toEqual([409, 'conflict']);
    const organizationId = await addOrganization(service, operator);
    expect((await make({ issuer, organizationId })).status).toBe(201);
    expect((await make({ organizationId: randomUUID() })).status).toBe(404);
  });

  it('is changed member by member; where its keys are, the one replaces the other', async () => {
    const partner = await made({ jwks: jwks() });
    const path = `/federation/partners/${String(partner['partnerId'])}`;
    const patch = async (body: Json): Promise<Json> => (await call('PATCH', path, body)).body;
    expect(await patch({ name: 'theirs' })).toMatchObject({ name: 'theirs', jwks: partner['jwks'] });
    const jwksUri = 'https://keys.example/jwks.json';
    expect(await patch({ jwksUri })).toMatchObject({ jwksUri, jwks: null });
    expect(await patch({ jwks: jwks() })).toMatchObject({ jwksUri: null, jwks: { keys: [expect.anything()] } });
    expect(await patch({ jwks: null })).toMatchObject({ jwksUri: null, jwks: null });
    expect(await patch({ audience: 'urn:x', algorithms: ['ES256'], singleUse: true })).toMatchObject({
      audience: 'urn:x',
      algorithms: ['ES256'],
      singleUse: true,
    });
    const back = await patch({ audience: null, algorithms: null, singleUse: false });
    expect([back['audience'], (back['algorithms'] as string[]).length, back['singleUse']]).toEqual([
      service.issuer,
      10,
      false,
    ]);
    const log = await call('GET', '/audit?action=federation.partner_updated&limit=1');
    expect(log.body['data']).toMatchObject([
      {
        target: { type: 'partner', id: partner['partnerId'] },
        details: { issuer: partner['issuer'], changed: ['algorithms', 'audience', 'singleUse'], status: 'active' },
      },
    ]);
  });

  it.each<[string, Json, string]>([
    ['no name', { name: undefined }, '/name'],
    ['no issuer', { issuer: undefined }, '/issuer'],
    ['an issuer that is no URL', { issuer: 'accounts.example' }, '/issuer'],
    ['an issuer by plain http', { issuer: 'http://192.0.2.7' }, '/issuer'],
    ['an issuer by plain http, with keys inline', { issuer: 'http://192.0.2.7', jwks: jwks() }, '/issuer'],
    ['an issuer with a query', { issuer: 'https://id.example/?a=b' }, '/issuer'],
    ['an issuer with a fragment', { issuer: 'https://id.example/#a' }, '/issuer'],
    ['an issuer with white space', { issuer: 'https://id.example/ ' }, '/issuer'],
    ['an issuer with a password', { issuer: 'https://a:b@id.example' }, '/issuer'],
    ['an issuer in Unicode', { issuer: 'https://id.exämple' }, '/issuer'],
    ['an issuer at a private address', { issuer: 'https://10.0.0.1' }, '/issuer'],
    ['an issuer at the metadata service', { issuer: 'https://169.254.169.254' }, '/issuer'],
    ['an issuer at loopback, in octal', { issuer: 'https://0177.0.0.2' }, '/issuer'],
    ['an issuer that is a file', { issuer: 'file:///etc/passwd' }, '/issuer'],
    ['an issuer that is a UUID', { issuer: randomUUID() }, '/issuer'],
    ['keys at a private address', { jwksUri: 'https://192.168.0.1/keys' }, '/jwksUri'],
    ['keys by plain http', { jwksUri: 'http://192.0.2.7/keys' }, '/jwksUri'],
    ['keys that are a file', { jwksUri: 'file:///etc/passwd' }, '/jwksUri'],
    ['keys in two places', { jwksUri: 'https://keys.example', jwks: jwks() }, '/jwks'],
    ['an empty JWK Set', { jwks: { keys: [] } }, '/jwks/keys'],
    ['a JWK Set without keys', { jwks: {} }, '/jwks/keys'],
    ['a JWK in place of a set', { jwks: assertionKey().jwk }, '/jwks/keys'],
    [
      'a JWK Set of 33 keys',
      { jwks: { keys: Array.from({ length: 33 }, () => assertionKey('EdDSA').jwk) } },
      '/jwks/keys',
    ],
    ['a symmetric key', { jwks: { keys: [{ kty: 'oct', k: 'eA' }] } }, '/jwks/keys/0'],
    [
      'a private key',
      { jwks: { keys: [assertionKey().jwk, assertionKey().privateKey.export({ format: 'jwk' })] } },
      '/jwks/keys/1',
    ],
    ['an algorithm that is symmetric', { algorithms: ['HS256'] }, '/algorithms/0'],
    ['the algorithm none', { algorithms: ['RS256', 'none'] }, '/algorithms/1'],
    ['no algorithm', { algorithms: [] }, '/algorithms'],
    ['an empty audience', { audience: '' }, '/audience'],
    ['singleUse that is text', { singleUse: 'true' }, '/singleUse'],
    ['an unknown status', { status: 'paused' }, '/status'],
    ['an unknown member', { secret: 'x' }, '/secret'],
  ])('is refused with %s', async (_what, fields, pointer) => {
    const { status, body } = await make(fields);
    expect([status, body['code']]).toEqual([400, 'validation_failed']);
    expect((body['errors'] as Json[]).map((each) => each['pointer'])).toContain(pointer);
  });

  it('is refused where it is ourselves, in any spelling', async () => {
    for (const issuer of [service.issuer, `${service.issuer}/`]) {
      const { status, body } = await make({ issuer });
      expect([status, body['errors']]).toEqual([400, [{ pointer: '/issuer', detail: 'is our own issuer' }]]);
    }
  });

  it('whose issuer cannot be reached keeps its keys inline, and can be disabled whatever it is', async () => {
    const { partnerId } = await made({ issuer: 'https://10.0.0.9', jwks: jwks() });
    const path = `/federation/partners/${String(partnerId)}`;
    const discovered = await call('PATCH', path, { jwks: null });
    expect([discovered.status, discovered.body['errors']]).toEqual([
      400,
      [{ pointer: '/jwksUri', detail: 'issuer names an address that may not be called' }],
    ]);
    await service.database.query('UPDATE federation_partners SET jwks = NULL WHERE partner_id = $1', [partnerId]);
    expect((await call('PATCH', path, { status: 'disabled' })).body).toMatchObject({ status: 'disabled', jwks: null });
  });

  it('is not changed to what it could not be made with, and never its issuer or organization', async () => {
    const { partnerId } = await made();
    const path = `/federation/partners/${String(partnerId)}`;
    for (const body of [
      { issuer: issuerUrl() },
      { organizationId: randomUUID() },
      { jwksUri: 'https://10.0.0.1' },
      { jwks: { keys: [] } },
      { name: null },
      { status: null },
      { algorithms: ['none'] },
    ]) {
      expect([body, (await call('PATCH', path, body)).status]).toEqual([body, 400]);
    }
    for (const id of [randomUUID(), 'nobody']) {
      expect((await call('PATCH', `/federation/partners/${id}`, { name: 'x' })).status).toBe(404);
      expect((await call('DELETE', `/federation/partners/${id}`)).status).toBe(404);
    }
  });
});

describe('who may change a partner', () => {
  it('is whoever holds all that the agents hold which it proves: its keys are their keys', async () => {
    const weak = await service.api.token(await service.api.agent(operator, { scopes: ['admin:orgs', 'agents:read'] }));
    const { partnerId } = await made({ jwks: jwks() });
    const path = `/federation/partners/${String(partnerId)}`;
    expect((await call('PATCH', path, { jwks: jwks() }, weak)).status).toBe(200);
    const strong = await service.api.agent(operator, { scopes: ['audit:read', 'agents:read'] });
    const identity = await call('POST', `/agents/${strong.agentId}/federated-identities`, { partnerId, subject: 'x' });
    expect(identity.status).toBe(201);
    for (const body of [{ jwks: jwks() }, { audience: 'urn:mine' }, { status: 'disabled' }, { name: 'mine' }]) {
      const refused = await call('PATCH', path, body, weak);
      expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([
        403,
        'Bearer error="insufficient_scope", scope="audit:read"',
      ]);
    }
    expect((await call('DELETE', path, undefined, weak)).status).toBe(403);
    const id = String(identity.body['credentialId']);
    await call('DELETE', `/agents/${strong.agentId}/federated-identities/${id}`);
    expect((await call('PATCH', path, { status: 'disabled' }, weak)).status).toBe(200);
  });

  it('is nobody where it would leave no usable operator', async () => {
    const { partnerId } = await made({ jwks: jwks() });
    const path = `/federation/partners/${String(partnerId)}`;
    const identities = `/agents/${service.operator.clientId}/federated-identities`;
    const identity = await call('POST', identities, { partnerId, subject: 'x' });
    const secrets = await call('GET', `/agents/${service.operator.clientId}/credentials`);
    const [secret] = secrets.body['data'] as { credentialId: string }[];
    const kept = `/agents/${service.operator.clientId}/credentials/${secret?.credentialId}?keepTokens=true`;
    expect((await call('DELETE', kept)).status).toBe(204);
    for (const [method, url, body] of [
      ['PATCH', path, { status: 'disabled' }],
      ['DELETE', path, undefined],
      ['DELETE', `${identities}/${String(identity.body['credentialId'])}`, undefined],
    ] as const) {
      const { status, body: problem } = await call(method, url, body);
      expect([method, status, problem['code']]).toEqual([method, 409, 'conflict']);
    }
    await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    expect((await call('PATCH', path, { status: 'disabled' })).status).toBe(200);
  });
});

describe('a federated identity', () => {
  let agent: TestAgent;
  let partnerId: unknown;

  beforeAll(async () => {
    agent = await service.api.agent(operator);
    partnerId = (await made())['partnerId'];
  });

  const add = (fields: Json = {}): Promise<Answer> =>
    call('POST', `/agents/${agent.agentId}/federated-identities`, { partnerId, subject: randomUUID(), ...fields });

  it('is shown with all that it asks for', async () => {
    const fields = {
      subject: 'system:serviceaccount:*:agent',
      claims: { 'kubernetes.io': { namespace: 'payments' }, admin: false, level: 3 },
      name: 'cluster',
      expiresAt: '2099-01-01T00:00:00.000Z',
    };
    const { status, body } = await add(fields);
    expect([status, body]).toEqual([
      201,
      {
        ...fields,
        credentialId: expect.any(String),
        clientId: agent.agentId,
        partnerId,
        status: 'active',
        createdAt: expect.any(String),
        revokedAt: null,
        lastUsedAt: null,
      },
    ]);
    const list = await call('GET', `/agents/${agent.agentId}/federated-identities`);
    expect(list.body).toEqual({ data: [body], nextCursor: null });
    const log = await call('GET', `/audit?action=credential.created&agentId=${agent.agentId}&limit=1`);
    expect(log.body['data']).toMatchObject([
      { details: { agentId: agent.agentId, kind: 'federated', partnerId, subject: fields.subject } },
    ]);
    expect((await add(fields)).body['code']).toBe('conflict');
  });

  it.each<[string, Json, string]>([
    ['no subject', { subject: undefined }, '/subject'],
    ['an empty subject', { subject: '' }, '/subject'],
    ['a subject of 513 characters', { subject: 'x'.repeat(513) }, '/subject'],
    ['a wildcard within a segment', { subject: 'repo:octo-org/octo-*:ref:x' }, '/subject'],
    ['two stars', { subject: 'repo:octo-org/**' }, '/subject'],
    ['nothing but wildcards', { subject: '*:*' }, '/subject'],
    ['one wildcard', { subject: '*' }, '/subject'],
    ['claims that are a list', { claims: ['x'] }, '/claims'],
    ['a claim that is null', { claims: { a: null } }, '/claims/a'],
    ['a claim that is a list', { claims: { a: ['x'] } }, '/claims/a'],
    ['a claim that is a fraction', { claims: { a: 1.5 } }, '/claims/a'],
    ['an empty claim', { claims: { a: { b: '' } } }, '/claims/a/b'],
    ['claims too deep', { claims: { a: { b: { c: { d: { e: 'x' } } } } } }, '/claims/a/b/c/d'],
    [
      'too many claims',
      { claims: Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`c${index}`, 'x'])) },
      '/claims',
    ],
    ['a malformed partner', { partnerId: 'x' }, '/partnerId'],
  ])('is refused with %s', async (_what, fields, pointer) => {
    const { status, body } = await add(fields);
    expect([status, body['code']]).toEqual([400, 'validation_failed']);
    expect((body['errors'] as Json[]).map((each) => each['pointer'])).toContain(pointer);
  });

  it('may be nothing but wildcards where claims narrow it down', async () => {
    expect((await add({ subject: '*', claims: { environment: 'production' } })).status).toBe(201);
  });

  it('names a partner of the agent’s own organization; another’s is as unknown as none, to the operator too', async () => {
    const organizationId = await addOrganization(service, operator);
    const theirs = await made({ organizationId });
    for (const id of [theirs['partnerId'], randomUUID()]) {
      const { status, body } = await add({ partnerId: id });
      expect([status, body['code']]).toEqual([404, 'not_found']);
    }
  });
});

describe('POST /federation/verify', () => {
  let issuer: PartnerIssuer;
  let partnerId: unknown;
  let reader: string;

  beforeEach(async () => {
    issuer = await PartnerIssuer.start();
    partnerId = (await made({ issuer: issuer.url }))['partnerId'];
    reader = await service.api.token(await service.api.agent(operator, { scopes: ['tokens:read'] }));
  });
  afterEach(() => issuer.close());

  const verify = async (token: string, by = reader, more: Json = {}): Promise<Json> => {
    const { status, body } = await call('POST', '/federation/verify', { token, ...more }, by);
    expect(status).toBe(200);
    return body;
  };
  const claims = (more: Json = {}): Json => {
    const now = service.clock.nowSeconds();
    return { sub: 'x', aud: service.issuer, iat: now, exp: now + 60, ...more };
  };

  it('tells the partner and the claims of an assertion, again and again', async () => {
    const given = claims({ groups: ['a'], nested: { b: 1 } });
    const token = issuer.mint(given);
    for (let count = 0; count < 2; count += 1) {
      expect(await verify(token)).toEqual({ valid: true, partnerId, claims: { iss: issuer.url, ...given } });
    }
    expect(issuer.calls).toHaveLength(2);
  });

  it('does not use up an assertion that may be used once', async () => {
    await call('PATCH', `/federation/partners/${String(partnerId)}`, { singleUse: true });
    const agent = await service.api.agent(operator);
    await call('POST', `/agents/${agent.agentId}/federated-identities`, { partnerId, subject: 'x' });
    const token = issuer.mint(claims());
    expect(await verify(token)).toMatchObject({ valid: true });
    const form = { grant_type: 'client_credentials', client_id: agent.agentId, client_assertion_type: TYPE };
    const asked = await service.api.form('/api/v1/token', { ...form, client_assertion: token });
    expect(asked.status).toBe(200);
  });

  it('tells why an assertion is not taken', async () => {
    const reasonOf = async (token: string): Promise<unknown> => {
      const verdict = await verify(token);
      expect(Object.keys(verdict)).toEqual(['valid', 'reason']);
      return verdict['reason'];
    };
    expect(await reasonOf('garbage')).toBe('malformed');
    expect(await reasonOf(issuer.mint(claims({ iss: 'https://else.example' })))).toBe('unknown_issuer');
    expect(await reasonOf(issuer.mint(claims({ aud: 'x' })))).toBe('wrong_audience');
    expect(await reasonOf(issuer.mint(claims({ exp: service.clock.nowSeconds() - 61 })))).toBe('expired');
    expect(await reasonOf(issuer.mint(claims({ nbf: service.clock.nowSeconds() + 70 })))).toBe('not_yet_valid');
    expect(issuer.calls).toEqual([]);
    expect(await reasonOf(issuer.mint(claims(), { kid: 'x' }))).toBe('unknown_key');
    const [header, payload] = issuer.mint(claims()).split('.');
    expect(await reasonOf(`${header}.${payload}.AAAA`)).toBe('wrong_signature');
    await call('PATCH', `/federation/partners/${String(partnerId)}`, { algorithms: ['RS256'] });
    expect(await reasonOf(issuer.mint(claims()))).toBe('algorithm_not_allowed');
    await call('PATCH', `/federation/partners/${String(partnerId)}`, { status: 'disabled' });
    expect(await reasonOf(issuer.mint(claims()))).toBe('partner_disabled');
  });

  it('fetches keys once for 50 forged ones, and nothing that their headers name', async () => {
    const evil = await PartnerIssuer.start();
    const forger = evil.keys[0] as AssertionKey;
    try {
      const forged = Array.from({ length: 50 }, (_, index) =>
        assertion(
          forger,
          { iss: issuer.url, ...claims() },
          { kid: `forged-${index}`, jku: evil.jwksUri, jwk: forger.jwk },
        ),
      );
      const verdicts = await Promise.all(forged.map((token) => verify(token)));
      expect(verdicts).toEqual(Array(50).fill({ valid: false, reason: 'unknown_key' }));
      expect(issuer.calls).toHaveLength(2);
      expect(evil.calls).toEqual([]);
    } finally {
      await evil.close();
    }
  });

  it('knows the partners of one’s own organization only; the operator names another', async () => {
    const organizationId = await addOrganization(service, operator);
    const theirs = await service.api.agent(operator, { organizationId, scopes: ['tokens:read'] });
    const token = issuer.mint(claims());
    expect(await verify(token, await service.api.token(theirs))).toEqual({ valid: false, reason: 'unknown_issuer' });
    expect(issuer.calls).toEqual([]);
    expect((await call('POST', '/federation/verify', { token, organizationId }, reader)).status).toBe(403);
    expect(await verify(token, operator, { organizationId })).toEqual({ valid: false, reason: 'unknown_issuer' });
  });
});

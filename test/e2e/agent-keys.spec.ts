import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';
import { claimsOf, type Answer } from '../support/api.js';
import { assertion, assertionKey, type AssertionKey } from '../support/partner-issuer.js';
import { SettableClock } from '../support/settable-clock.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
/** Failures are not slowed down here: there are many of them, on purpose. */
const PATIENT = { AUTHENTICATION_FAILURES_PER_CLIENT: '1000', AUTHENTICATION_FAILURES_PER_ADDRESS: '1000000' };
const ISSUER = 'https://id.example';

/** Two replicas on one database. */
let database: TestDatabase;
let clock: SettableClock;
let service: TestApp;
let other: TestApp;
let operator: string;

beforeAll(async () => {
  database = await createTestDatabase();
  clock = new SettableClock();
  const env = { ...PATIENT, ISSUER, TOKEN_TTL_SECONDS: '86400' };
  service = await startTestApp({ database, clock, env });
  other = await startTestApp({ database, clock, env });
  operator = await service.api.token(service.operator);
});
afterAll(async () => {
  await service.close();
  await other.close();
  await database.drop();
});

const call = (method: string, path: string, body?: unknown, token = operator): Promise<Answer> =>
  service.api.call(method, path, token, body);
const add = (agentId: string, jwk: unknown, fields: Json = {}): Promise<Answer> =>
  call('POST', `/agents/${agentId}/keys`, { jwk, ...fields });

async function agentWithoutSecret(scopes: string[] = ['agents:read']): Promise<string> {
  const { body } = await call('POST', '/agents', { name: 'keyed', scopes });
  return body['agentId'] as string;
}

/** An agent that has nothing but a key. */
async function keyed(scopes?: string[]): Promise<{ agentId: string; key: AssertionKey; credentialId: string }> {
  const [agentId, key] = [await agentWithoutSecret(scopes), assertionKey()];
  const { status, body, text } = await add(agentId, key.jwk);
  if (status !== 201) throw new Error(`no key: ${status} ${text}`);
  return { agentId, key, credentialId: body['credentialId'] as string };
}

const claims = (agentId: string, more: Json = {}): Json => {
  const now = clock.nowSeconds();
  return { iss: agentId, sub: agentId, aud: ISSUER, iat: now, exp: now + 60, jti: randomUUID(), ...more };
};

function ask(text: string, on = service): Promise<Answer> {
  const form = { grant_type: 'client_credentials', client_assertion_type: TYPE, client_assertion: text };
  return on.api.form('/api/v1/token', form);
}

describe('a public key of an agent', () => {
  it('is shown in full, for it is public, and has nothing in it but what such a key has', async () => {
    const agentId = await agentWithoutSecret();
    const key = assertionKey('RS256', 'build-server');
    const given = { ...key.jwk, x5c: ['MIIB'], x5u: 'https://evil.example/cert', ext: true, key_ops: ['verify'] };
    const made = await add(agentId, given, { name: 'ci', expiresAt: '2099-01-01T00:00:00Z' });
    expect([made.status, made.body]).toEqual([
      201,
      {
        credentialId: expect.any(String),
        clientId: agentId,
        name: 'ci',
        jwk: { kty: 'RSA', n: key.jwk['n'], e: 'AQAB', kid: 'build-server', alg: 'RS256' },
        thumbprint: expect.stringMatching(/^[\w-]{43}$/),
        status: 'active',
        createdAt: expect.any(String),
        expiresAt: '2099-01-01T00:00:00.000Z',
        revokedAt: null,
        lastUsedAt: null,
      },
    ]);
    const list = await call('GET', `/agents/${agentId}/keys`);
    expect(list.body).toEqual({ data: [made.body], nextCursor: null });
    expect((await call('GET', `/agents/${agentId}/credentials`)).body['data']).toEqual([]);
    const log = await call('GET', `/audit?action=credential.created&agentId=${agentId}`);
    expect(log.body['data']).toMatchObject([
      { details: { agentId, kind: 'key', thumbprint: made.body['thumbprint'], expiresAt: '2099-01-01T00:00:00.000Z' } },
    ]);
  });

  it('works beside others, each of which can go without the others noticing', async () => {
    const { agentId, key, credentialId } = await keyed();
    const second = assertionKey('EdDSA');
    const added = await add(agentId, second.jwk);
    const tokens = [];
    for (const each of [key, second]) tokens.push((await ask(assertion(each, claims(agentId)))).body['access_token']);
    expect(tokens.map((token) => claimsOf(token as string)['cred'])).toEqual([
      credentialId,
      added.body['credentialId'],
    ]);
    expect((await call('DELETE', `/agents/${agentId}/keys/${credentialId}`)).status).toBe(204);
    expect((await ask(assertion(key, claims(agentId)), other)).status).toBe(401);
    expect((await ask(assertion(second, claims(agentId)), other)).status).toBe(200);
    expect(await other.api.introspect(operator, tokens[0] as string)).toEqual({ active: false });
    expect(await other.api.introspect(operator, tokens[1] as string)).toMatchObject({ active: true });
    // What was taken away may be given again.
    expect((await add(agentId, key.jwk)).status).toBe(201);
  });

  it('keeps its tokens where it is asked to', async () => {
    const { agentId, key, credentialId } = await keyed();
    const { body } = await ask(assertion(key, claims(agentId)));
    await call('DELETE', `/agents/${agentId}/keys/${credentialId}?keepTokens=true`);
    expect((await ask(assertion(key, claims(agentId)))).status).toBe(401);
    expect(await service.api.introspect(operator, body['access_token'] as string)).toMatchObject({ active: true });
  });

  it('expires', async () => {
    const [agentId, key] = [await agentWithoutSecret(), assertionKey()];
    await add(agentId, key.jwk, { expiresAt: new Date(clock.nowMs() + 30_000).toISOString() });
    expect((await ask(assertion(key, claims(agentId)))).status).toBe(200);
    clock.advance(31);
    expect((await ask(assertion(key, claims(agentId)))).status).toBe(401);
    const late = await add(agentId, assertionKey().jwk, { expiresAt: '2020-01-01T00:00:00Z' });
    expect([late.status, late.body['errors']]).toEqual([
      400,
      [{ pointer: '/expiresAt', detail: 'must be in the future' }],
    ]);
  });

  it('tells when it was last used, a second or so after', async () => {
    const { agentId, key } = await keyed();
    await ask(assertion(key, claims(agentId)));
    await until('the use is noted', async () => {
      const { body } = await call('GET', `/agents/${agentId}/keys`);
      return (body['data'] as Json[])[0]?.['lastUsedAt'] !== null;
    });
  });

  it('is found by its kid, by its thumbprint, by its credentialId, and without any', async () => {
    const { agentId, key, credentialId } = await keyed();
    const { body } = await call('GET', `/agents/${agentId}/keys`);
    const thumbprint = (body['data'] as Json[])[0]?.['thumbprint'];
    for (const kid of [key.kid, thumbprint, credentialId, undefined]) {
      expect((await ask(assertion(key, claims(agentId), { kid }))).status).toBe(200);
    }
    expect((await ask(assertion(key, claims(agentId), { kid: 'another' }))).status).toBe(401);
    // A key that was given without a kid is meant by whatever name its client has for it.
    const unnamed = assertionKey();
    await add(agentId, { ...unnamed.jwk, kid: undefined });
    for (const name of ['mine', undefined]) {
      expect((await ask(assertion(unnamed, claims(agentId), { kid: name }))).status).toBe(200);
    }
  });

  it('may be the same for two agents: whose assertion it is, the assertion says', async () => {
    const { agentId, key } = await keyed();
    const second = await agentWithoutSecret();
    expect((await add(second, key.jwk)).status).toBe(201);
    const { body } = await ask(assertion(key, claims(second)));
    expect(claimsOf(body['access_token'] as string)['sub']).toBe(second);
    // An assertion of the one is none of the other's.
    const mixed = await ask(assertion(key, claims(agentId, { sub: second })));
    expect(mixed.status).toBe(401);
  });
});

describe('a key is refused', () => {
  const rsa = (bits: number, publicExponent = 65_537) =>
    generateKeyPairSync('rsa', { modulusLength: bits, publicExponent }).publicKey.export({ format: 'jwk' });
  const ec = assertionKey('ES256').jwk;
  const { privateKey } = assertionKey('ES256');
  const okp = assertionKey('EdDSA').jwk;

  it.each<[string, unknown]>([
    ['with its private half', privateKey.export({ format: 'jwk' })],
    [
      'with an RSA private half',
      generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
    ],
    ['with an empty d', { ...ec, d: '' }],
    ['that is symmetric', { kty: 'oct', k: 'c2VjcmV0' }],
    ['of RSA with 1024 bits', rsa(1024)],
    ['of RSA with 2040 bits', rsa(2040)],
    ['of RSA with the exponent 3', rsa(2048, 3)],
    ['of RSA with the exponent 1', { ...rsa(2048), e: 'AQ' }],
    ['of RSA with an even exponent', { ...rsa(2048), e: 'AQAC' }],
    ['of RSA with a huge exponent', { ...rsa(2048), e: Buffer.alloc(200, 255).toString('base64url') }],
    ['of RSA with an even modulus', { ...rsa(2048), n: Buffer.alloc(256, 254).toString('base64url') }],
    ['of RSA with leading zeros', { ...rsa(2048), n: `AAAA${String(rsa(2048).n)}` }],
    ['of RSA with 16384 bits', { ...rsa(2048), n: Buffer.alloc(2048, 255).toString('base64url') }],
    ['of P-521', generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export({ format: 'jwk' })],
    ['of secp256k1', generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({ format: 'jwk' })],
    ['of X25519', generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' })],
    ['of Ed448', generateKeyPairSync('ed448').publicKey.export({ format: 'jwk' })],
    ['that is not on its curve', { ...ec, x: ec['y'] }],
    ['with short coordinates', { ...ec, x: 'AAAA' }],
    ['whose kty is not its curve’s', { ...okp, kty: 'EC' }],
    ['without a kty', { ...ec, kty: undefined }],
    ['with padding', { ...okp, x: `${okp['x']}=` }],
    ['in base64 that is not base64url', { ...okp, x: `${'+'.repeat(42)}A` }],
    ['with another alg', { ...ec, alg: 'ES384' }],
    ['with HS256 as alg', { ...ec, alg: 'HS256' }],
    ['with none as alg', { ...ec, alg: 'none' }],
    ['for encryption', { ...ec, use: 'enc' }],
    ['for signing only', { ...ec, key_ops: ['sign'] }],
    ['with key_ops that are text', { ...ec, key_ops: 'verify' }],
    ['with a kid that is a number', { ...ec, kid: 1 }],
    ['with an empty kid', { ...ec, kid: '' }],
    ['with a long kid', { ...ec, kid: 'x'.repeat(257) }],
    ['that is a JWK Set', { keys: [ec] }],
    ['that is empty', {}],
    ['that is text', JSON.stringify(ec)],
    ['that is a list', [ec]],
    ['that is null', null],
  ])('%s', async (_what, jwk) => {
    const agentId = await agentWithoutSecret();
    const { status, body } = await add(agentId, jwk);
    expect([status, body['code'], (body['errors'] as Json[])[0]?.['pointer']]).toEqual([
      400,
      'validation_failed',
      '/jwk',
    ]);
    expect((await call('GET', `/agents/${agentId}/keys`)).body['data']).toEqual([]);
  });

  it('with a private half, and the answer and the log do not repeat it', async () => {
    const agentId = await agentWithoutSecret();
    const jwk = privateKey.export({ format: 'jwk' });
    const { text } = await add(agentId, jwk);
    expect(text).toContain('do not use it any more');
    expect(text).not.toContain(String(jwk.d));
    const kept = await database.query(`SELECT 1 FROM audit_events WHERE details::text LIKE '%' || $1 || '%'`, [jwk.d]);
    expect(kept).toEqual([]);
  });

  it('that the agent has already, also under another name, and a kid that another has', async () => {
    const { agentId, key } = await keyed();
    for (const jwk of [key.jwk, { ...key.jwk, kid: 'another' }, assertionKey('RS256', key.kid).jwk]) {
      const { status, body } = await add(agentId, jwk);
      expect([status, body['code']]).toEqual([409, 'conflict']);
    }
    const both = assertionKey();
    const answers = await Promise.all([
      add(agentId, both.jwk),
      other.api.call('POST', `/agents/${agentId}/keys`, operator, { jwk: both.jwk }),
    ]);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 409]);
  });

  it('above twenty, and of an agent that is decommissioned', async () => {
    const agentId = await agentWithoutSecret();
    for (let count = 0; count < 20; count += 1)
      expect((await add(agentId, assertionKey('EdDSA').jwk)).status).toBe(201);
    const { status, body } = await add(agentId, assertionKey('EdDSA').jwk);
    expect([status, body]).toEqual([403, expect.objectContaining({ code: 'limit_reached', limit: 20, used: 20 })]);
    // Secrets have room of their own.
    expect((await call('POST', `/agents/${agentId}/credentials`, {})).status).toBe(201);
    await call('DELETE', `/agents/${agentId}`);
    expect((await add(agentId, assertionKey('EdDSA').jwk)).status).toBe(409);
  });
});

describe('an id of one kind of credential', () => {
  it('is none of another: a secret is not revoked as a key, nor a key rotated or revoked as a secret', async () => {
    const { agentId, key, credentialId } = await keyed();
    const secret = await service.api.secret(operator, agentId);
    expect((await call('DELETE', `/agents/${agentId}/keys/${secret.credentialId}`)).status).toBe(404);
    expect((await call('DELETE', `/agents/${agentId}/federated-identities/${credentialId}`)).status).toBe(404);
    expect((await call('DELETE', `/agents/${agentId}/credentials/${credentialId}`)).status).toBe(404);
    expect((await call('POST', `/agents/${agentId}/credentials/${credentialId}/rotate`, {})).status).toBe(404);
    expect((await ask(assertion(key, claims(agentId)))).status).toBe(200);
  });

  it('gives a client that authenticates by its key no secret', async () => {
    const { agentId, key, credentialId } = await keyed(['agents:read']);
    const secret = await service.api.secret(operator, agentId);
    for (const id of [secret.credentialId, credentialId]) {
      const answer = await service.api.form(`/api/v1/agents/${agentId}/credentials/${id}/rotate`, {
        client_assertion_type: TYPE,
        client_assertion: assertion(key, claims(agentId)),
      });
      expect(answer.status).toBeGreaterThanOrEqual(400);
    }
    expect((await service.api.requestToken({ clientId: agentId, ...secret })).status).toBe(200);
  });
});

describe('the last usable operator', () => {
  it('may have nothing but a key; that one cannot be taken away', async () => {
    const { body } = await call('GET', `/agents/${service.operator.clientId}/credentials`);
    const [secret] = body['data'] as { credentialId: string }[];
    const key = assertionKey();
    const added = await add(service.operator.clientId, key.jwk);
    const credentialId = added.body['credentialId'] as string;
    const keep = '?keepTokens=true';
    const withoutSecret = await call(
      'DELETE',
      `/agents/${service.operator.clientId}/credentials/${secret?.credentialId}${keep}`,
    );
    expect(withoutSecret.status).toBe(204);
    const last = await call('DELETE', `/agents/${service.operator.clientId}/keys/${credentialId}${keep}`);
    expect([last.status, last.body['detail']]).toEqual([
      409,
      'This would leave no usable operator: no active agent with every built-in scope and a credential.',
    ]);
    const token = await ask(assertion(key, claims(service.operator.clientId)));
    expect(token.body['scope']).toBe(BUILT_IN_SCOPE_NAMES.join(' '));
    // Beside another operator it may go.
    await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    const gone = await call('DELETE', `/agents/${service.operator.clientId}/keys/${credentialId}${keep}`);
    expect(gone.status).toBe(204);
  });
});

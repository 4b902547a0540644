import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey } from 'jose';
import { randomUUID } from 'node:crypto';
import { basic, claimsOf, type Answer } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const WELL_KNOWN = '/.well-known/oauth-authorization-server';

const METHODS = ['client_secret_basic', 'client_secret_post', 'private_key_jwt'];
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA', 'Ed25519'];
const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

describe('RFC 8414, authorization server metadata', () => {
  let service: TestApp;
  let answer: Answer;
  let metadata: Record<string, unknown>;

  beforeAll(async () => {
    service = await startTestApp();
    answer = await service.api.send('GET', WELL_KNOWN);
    metadata = answer.body;
  });
  afterAll(() => service.close());

  const pathOf = (name: string) => String(metadata[name]).slice(service.url.length);

  it('§3 is public, at the well-known path', () => {
    expect(answer.status).toBe(200);
  });

  it('§3.2 is JSON', () => {
    expect(answer.headers.get('content-type')).toMatch(/^application\/json\b/);
  });

  it('§2 has exactly the documented members', () => {
    expect(metadata).toEqual({
      issuer: service.issuer,
      authorization_endpoint: `${service.issuer}/api/v1/authorize`,
      token_endpoint: `${service.issuer}/api/v1/token`,
      jwks_uri: `${service.issuer}/.well-known/jwks.json`,
      introspection_endpoint: `${service.issuer}/api/v1/token/introspect`,
      revocation_endpoint: `${service.issuer}/api/v1/token/revoke`,
      scopes_supported: expect.arrayContaining(['agents:read', 'admin:orgs']),
      response_types_supported: [],
      grant_types_supported: ['client_credentials'],
      ...Object.fromEntries(
        ['token', 'introspection', 'revocation'].flatMap((endpoint) => [
          [`${endpoint}_endpoint_auth_methods_supported`, METHODS],
          [`${endpoint}_endpoint_auth_signing_alg_values_supported`, ALGORITHMS],
        ]),
      ),
      service_documentation: `${service.issuer}/api/docs`,
    });
  });

  it('§2 names the issuer that tokens and introspection name', async () => {
    const token = await service.api.token(service.operator);
    expect(claimsOf(token)['iss']).toBe(metadata['issuer']);
    expect((await service.api.introspect(token, token))['iss']).toBe(metadata['issuer']);
  });

  it('§2 names the scopes that the operator holds, each once', async () => {
    const { body } = await service.api.requestToken(service.operator);
    const held = (body['scope'] as string).split(' ');
    expect([...(metadata['scopes_supported'] as string[])].sort()).toEqual([...held].sort());
    const token = body['access_token'] as string;
    for (const scope of metadata['scopes_supported'] as string[]) {
      const agent = await service.api.agent(token, { scopes: [scope] });
      expect((await service.api.requestToken(agent, { scope })).body['scope']).toBe(scope);
    }
  });

  it.each(['token_endpoint', 'introspection_endpoint', 'revocation_endpoint'])(
    '§2 names a %s that takes each of its authentication methods',
    async (endpoint) => {
      const { clientId, clientSecret } = service.operator;
      const form = { grant_type: 'client_credentials', token: 'x' };
      const methods: Record<string, () => Promise<Answer>> = {
        client_secret_basic: () => service.api.form(pathOf(endpoint), form, basic(service.operator)),
        client_secret_post: () =>
          service.api.form(pathOf(endpoint), { ...form, client_id: clientId, client_secret: clientSecret }),
      };
      const named = metadata[`${endpoint}_auth_methods_supported`] as string[];
      expect(Object.keys(methods)).toEqual(named.filter((method) => method !== 'private_key_jwt'));
      for (const call of Object.values(methods)) expect((await call()).status).toBe(200);
    },
  );

  it.each(['token_endpoint', 'introspection_endpoint', 'revocation_endpoint'])(
    '§2 names a %s that takes private_key_jwt with each of its algorithms, and with no other',
    async (endpoint) => {
      const token = await service.api.token(service.operator);
      const agent = await service.api.agent(token, { scopes: ['tokens:read'] });
      const assert = async (alg: string, key: CryptoKey): Promise<number> => {
        const jwt = new SignJWT().setProtectedHeader({ alg }).setJti(randomUUID()).setExpirationTime('1m');
        const claimed = jwt.setIssuer(agent.agentId).setSubject(agent.agentId).setAudience(service.issuer);
        const form = { grant_type: 'client_credentials', token: 'x', client_assertion_type: JWT_BEARER };
        const client_assertion = await claimed.sign(key);
        return (await service.api.form(pathOf(endpoint), { ...form, client_assertion })).status;
      };
      for (const alg of metadata[`${endpoint}_auth_signing_alg_values_supported`] as string[]) {
        const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
        const jwk = { ...(await exportJWK(publicKey)), alg };
        const added = await service.api.call('POST', `/agents/${agent.agentId}/keys`, token, { jwk });
        expect([alg, added.status, await assert(alg, privateKey)]).toEqual([alg, 201, 200]);
      }
      const { publicKey, privateKey } = await generateKeyPair('ES512', { extractable: true });
      const jwk = await exportJWK(publicKey);
      expect((await service.api.call('POST', `/agents/${agent.agentId}/keys`, token, { jwk })).status).toBe(400);
      expect(await assert('ES512', privateKey)).toBe(401);
    },
  );

  it('§2 names a jwks_uri and a service_documentation that exist', async () => {
    const keys = (await service.api.send('GET', pathOf('jwks_uri'))).body['keys'] as { purpose?: string }[];
    // Of each purpose the key that signs, and the next one.
    expect(keys.map(({ purpose }) => purpose)).toEqual([undefined, undefined, 'audit', 'audit']);
    const documentation = await service.api.send('GET', pathOf('service_documentation'));
    expect([documentation.status, documentation.headers.get('content-type')]).toEqual([
      200,
      expect.stringContaining('text/html'),
    ]);
  });

  it('§2 names an authorization_endpoint only for clients that want one: no response type is supported', async () => {
    const refused = await service.api.send('GET', `${pathOf('authorization_endpoint')}?response_type=code`);
    expect([refused.status, refused.body['error']]).toEqual([400, 'unsupported_response_type']);
  });

  it('§2 supports the named grant type and no other', async () => {
    expect((await service.api.requestToken(service.operator)).status).toBe(200);
    const other = await service.api.requestToken(service.operator, { grant_type: 'refresh_token' });
    expect(other.body['error']).toBe('unsupported_grant_type');
  });

  it('§3.3 names the configured issuer, without a trailing slash', async () => {
    const own = await startTestApp({ env: { ISSUER: 'https://id.example/' } });
    try {
      const { body } = await own.api.send('GET', WELL_KNOWN);
      expect(body).toMatchObject({
        issuer: 'https://id.example',
        token_endpoint: 'https://id.example/api/v1/token',
        jwks_uri: 'https://id.example/.well-known/jwks.json',
      });
      const token = await own.api.token(own.operator);
      expect(claimsOf(token)).toMatchObject({ iss: 'https://id.example', aud: 'https://id.example' });
      expect((await own.api.call('GET', '/agents', token)).status).toBe(200);
    } finally {
      await own.close();
    }
  });

  it('§3.1 puts the document of an issuer with a path behind the well-known part, and of no other path', async () => {
    const own = await startTestApp({ env: { ISSUER: 'https://id.example/tenant/one' } });
    try {
      const { status, body } = await own.api.send('GET', `${WELL_KNOWN}/tenant/one`);
      expect([status, body['issuer']]).toEqual([200, 'https://id.example/tenant/one']);
      for (const path of ['/tenant', '/tenant/one/', '/tenant/one/two', '/tenant%2Fone', '/']) {
        expect([path, (await own.api.send('GET', WELL_KNOWN + path)).status]).toEqual([path, 404]);
      }
    } finally {
      await own.close();
    }
    expect((await service.api.send('GET', `${WELL_KNOWN}/tenant/one`)).status).toBe(404);
  });
});

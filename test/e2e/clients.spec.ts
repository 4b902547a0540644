import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify, type CryptoKey } from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import type { TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const SCOPES = ['agents:read', 'tokens:read'];
const METHODS = ['client_secret_basic', 'client_secret_post'] as const;

/** Clients that others wrote, as their users would use them. */
describe('published OAuth clients', () => {
  let service: TestApp;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    agent = await service.api.agent(await service.api.token(service.operator), { scopes: SCOPES });
  });
  afterAll(() => service.close());

  const claims = () => ({ sub: agent.agentId, client_id: agent.agentId, iss: service.issuer, token_type: 'Bearer' });

  describe.each(METHODS)('openid-client with %s', (method) => {
    let configuration: openid.Configuration;

    beforeAll(async () => {
      configuration = await discover(agent.clientSecret);
    });

    function discover(secret: string): Promise<openid.Configuration> {
      const authentication =
        method === 'client_secret_basic' ? openid.ClientSecretBasic(secret) : openid.ClientSecretPost(secret);
      return openid.discovery(new URL(service.issuer), agent.clientId, undefined, authentication, {
        algorithm: 'oauth2',
        // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so to be seen: the test speaks plain http
        execute: [openid.allowInsecureRequests],
      });
    }

    it('discovers the server', () => {
      expect(configuration.serverMetadata()).toMatchObject({
        issuer: service.issuer,
        token_endpoint: `${service.url}/api/v1/token`,
        grant_types_supported: ['client_credentials'],
      });
    });

    it('runs the grant, introspects and revokes', async () => {
      const tokens = await openid.clientCredentialsGrant(configuration, { scope: 'agents:read' });
      expect(tokens).toMatchObject({ token_type: 'bearer', scope: 'agents:read', expires_in: 3600 });
      const before = await openid.tokenIntrospection(configuration, tokens.access_token);
      expect(before).toMatchObject({ active: true, scope: 'agents:read', ...claims() });
      await openid.tokenRevocation(configuration, tokens.access_token);
      expect(await openid.tokenIntrospection(configuration, tokens.access_token)).toEqual({ active: false });
    });

    it('names a resource', async () => {
      const tokens = await openid.clientCredentialsGrant(configuration, { resource: service.issuer });
      expect(tokens.scope).toBe(SCOPES.join(' '));
    });

    it('understands the refusals', async () => {
      const wrong = await discover('wrong');
      await expect(openid.clientCredentialsGrant(wrong)).rejects.toMatchObject(
        method === 'client_secret_basic'
          ? {
              code: 'OAUTH_WWW_AUTHENTICATE_CHALLENGE',
              status: 401,
              cause: [expect.objectContaining({ scheme: 'basic' })],
            }
          : { error: 'invalid_client', status: 401 },
      );
      await expect(openid.clientCredentialsGrant(configuration, { scope: 'admin:orgs' })).rejects.toMatchObject({
        error: 'invalid_scope',
        status: 400,
      });
      await expect(openid.tokenIntrospection(wrong, 'x')).rejects.toMatchObject({ status: 401 });
    });
  });

  describe.each(['ES256', 'RS256', 'PS256', 'EdDSA'])('with PrivateKeyJwt and a key for %s', (alg) => {
    let key: CryptoKey;
    let kid: string;

    beforeAll(async () => {
      const pair = await generateKeyPair(alg, { extractable: true });
      key = pair.privateKey;
      const jwk = { ...(await exportJWK(pair.publicKey)), kid: `${alg}-key` };
      kid = jwk.kid;
      const operator = await service.api.token(service.operator);
      const { status } = await service.api.call('POST', `/agents/${agent.agentId}/keys`, operator, { jwk });
      expect(status).toBe(201);
    });

    // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so to be seen: the test speaks plain http
    const options = { algorithm: 'oauth2' as const, execute: [openid.allowInsecureRequests] };

    it('openid-client runs the grant, introspects and revokes', async () => {
      for (const privateKey of [key, { key, kid }]) {
        const authentication = openid.PrivateKeyJwt(privateKey);
        const issuer = new URL(service.issuer);
        const configuration = await openid.discovery(issuer, agent.clientId, undefined, authentication, options);
        const tokens = await openid.clientCredentialsGrant(configuration, { scope: 'agents:read' });
        expect(tokens).toMatchObject({ token_type: 'bearer', scope: 'agents:read', expires_in: 3600 });
        const introspection = await openid.tokenIntrospection(configuration, tokens.access_token);
        expect(introspection).toMatchObject({ active: true, scope: 'agents:read', ...claims() });
        await openid.tokenRevocation(configuration, tokens.access_token);
        expect(await openid.tokenIntrospection(configuration, tokens.access_token)).toEqual({ active: false });
      }
    });

    it('openid-client understands that a key is refused', async () => {
      const { privateKey } = await generateKeyPair(alg);
      const authentication = openid.PrivateKeyJwt(privateKey);
      const issuer = new URL(service.issuer);
      const configuration = await openid.discovery(issuer, agent.clientId, undefined, authentication, options);
      await expect(openid.clientCredentialsGrant(configuration)).rejects.toMatchObject({
        error: 'invalid_client',
        status: 401,
      });
    });

    it('oauth4webapi runs the grant', async () => {
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so to be seen: the test speaks plain http
      const insecure = { [oauth.allowInsecureRequests]: true };
      const issuer = new URL(service.issuer);
      const discovered = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure });
      const server = await oauth.processDiscoveryResponse(issuer, discovered);
      const client = { client_id: agent.clientId };
      const authentication = oauth.PrivateKeyJwt({ key, kid });
      const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, {}, insecure);
      const tokens = await oauth.processClientCredentialsResponse(server, client, response);
      expect(tokens).toMatchObject({ token_type: 'bearer', scope: SCOPES.join(' ') });
    });
  });

  describe.each(METHODS)('oauth4webapi with %s', (method) => {
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so to be seen: the test speaks plain http
    const insecure = { [oauth.allowInsecureRequests]: true };
    let server: oauth.AuthorizationServer;
    let client: oauth.Client;
    let authentication: oauth.ClientAuth;

    beforeAll(async () => {
      const issuer = new URL(service.issuer);
      const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure });
      server = await oauth.processDiscoveryResponse(issuer, response);
      client = { client_id: agent.clientId };
      const { clientSecret } = agent;
      authentication =
        method === 'client_secret_basic' ? oauth.ClientSecretBasic(clientSecret) : oauth.ClientSecretPost(clientSecret);
    });

    const introspect = async (token: string) =>
      oauth.processIntrospectionResponse(
        server,
        client,
        await oauth.introspectionRequest(server, client, authentication, token, insecure),
      );

    it('runs the grant, introspects and revokes', async () => {
      const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, {}, insecure);
      const tokens = await oauth.processClientCredentialsResponse(server, client, response);
      expect(tokens).toMatchObject({ token_type: 'bearer', scope: SCOPES.join(' '), expires_in: 3600 });
      expect(await introspect(tokens.access_token)).toMatchObject({ active: true, ...claims() });
      const revocation = await oauth.revocationRequest(server, client, authentication, tokens.access_token, insecure);
      await oauth.processRevocationResponse(revocation);
      expect(await introspect(tokens.access_token)).toEqual({ active: false });
    });

    it('understands the refusals', async () => {
      const parameters = { scope: 'admin:orgs' };
      const response = await oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, insecure);
      await expect(oauth.processClientCredentialsResponse(server, client, response)).rejects.toMatchObject({
        error: 'invalid_scope',
        status: 400,
      });
    });

    it('uses the token at the API', async () => {
      const request = await oauth.clientCredentialsGrantRequest(server, client, authentication, {}, insecure);
      const { access_token } = await oauth.processClientCredentialsResponse(server, client, request);
      const url = new URL(`${service.url}/api/v1/agents/${agent.agentId}`);
      const response = await oauth.protectedResourceRequest(access_token, 'GET', url, undefined, undefined, insecure);
      expect(await response.json()).toMatchObject({ agentId: agent.agentId });
      const refused = oauth.protectedResourceRequest('bad', 'GET', url, undefined, undefined, insecure);
      await expect(refused).rejects.toMatchObject({
        code: 'OAUTH_WWW_AUTHENTICATE_CHALLENGE',
        cause: [{ scheme: 'bearer', parameters: { error: 'invalid_token' } }],
      });
    });

    it('validates the token as RFC 9068 has it, where tokens are of the type at+jwt', async () => {
      const own = await startTestApp({ env: { ACCESS_TOKEN_TYP: 'at+jwt' } });
      try {
        const issuer = new URL(own.issuer);
        const discovery = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure });
        const metadata = await oauth.processDiscoveryResponse(issuer, discovery);
        const token = await own.api.token(own.operator);
        const request = new Request(`${own.url}/anything`, { headers: { Authorization: `Bearer ${token}` } });
        const validated = await oauth.validateJwtAccessToken(metadata, request, own.issuer, insecure);
        expect(validated).toMatchObject({ client_id: own.operator.clientId, aud: own.issuer });
      } finally {
        await own.close();
      }
    });
  });

  it('jose verifies a token through the JWKS, and no other', async () => {
    const jwks = createRemoteJWKSet(new URL(`${service.url}/.well-known/jwks.json`));
    const token = await service.api.token(agent);
    const expected = { issuer: service.issuer, audience: service.issuer, typ: 'JWT', algorithms: ['RS256'] };
    const { payload } = await jwtVerify(token, jwks, expected);
    expect(payload).toMatchObject({ sub: agent.agentId, scope: SCOPES.join(' ') });
    const changed = token.replace(/\.[^.]{10}/, (start) => `${start.slice(0, -1)}${start.endsWith('A') ? 'B' : 'A'}`);
    await expect(jwtVerify(changed, jwks, expected)).rejects.toThrow();
    await expect(jwtVerify(token, jwks, { ...expected, audience: 'https://api.example' })).rejects.toThrow();
  });
});

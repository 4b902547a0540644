import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { discoverAuthorizationServerMetadata, discoverOAuthServerInfo } from '@modelcontextprotocol/sdk/client/auth.js';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Answer, TestAgent, ClientCredentials } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import {
  bearer,
  EXAMPLES,
  registerResource,
  runExample,
  startExampleOnPort,
  stopExamples,
  type Ended,
  type ListeningExample,
} from './example-process.js';

const guide = readFileSync(join(EXAMPLES, '../docs/protect-an-mcp-server.md'), 'utf8');
const PING = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });

describe('protect an MCP server', () => {
  let service: TestApp;
  let operator: string;
  let server: ListeningExample;
  let reader: TestAgent;
  /** Has a scope of the server, but not the one that the tool takes. */
  let writer: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    server = await startExampleOnPort('mcp-server/server.mjs', (port) => ({
      ISSUER: service.issuer,
      RESOURCE: `http://127.0.0.1:${port}/mcp`,
    }));
    await registerResource(service, operator, server.url, ['forecast:read', 'forecast:write']);
    await registerResource(service, operator, 'https://stock.example.com/mcp', ['stock:read']);
    reader = await service.api.agent(operator, { scopes: ['forecast:read', 'stock:read'] });
    writer = await service.api.agent(operator, { scopes: ['forecast:write'] });
  });
  afterAll(async () => {
    await stopExamples();
    await service.close();
  });

  const ping = (token?: string): Promise<Answer> =>
    server.api.send('POST', '/mcp', {
      body: PING,
      headers: {
        'Content-Type': 'application/json',
        Accept: 'application/json, text/event-stream',
        ...(token === undefined ? {} : bearer(token).headers),
      },
    });

  /** What the guide shows, with the addresses of this test. */
  const shown = (pattern: RegExp): string | undefined =>
    pattern
      .exec(guide)?.[1]
      ?.replaceAll('http://localhost:4003', new URL(server.url).origin)
      .replaceAll('http://localhost:3000', service.issuer);

  const call = ({ clientId, clientSecret }: ClientCredentials, more: Record<string, string> = {}): Promise<Ended> =>
    runExample('mcp-server/client.mjs', ['Porto'], {
      ISSUER: service.issuer,
      MCP_SERVER: server.url,
      CLIENT_ID: clientId,
      CLIENT_SECRET: clientSecret,
      ...more,
    });

  describe('the client of the SDK', () => {
    it('discovers us, earns a token for this server and calls the tool', async () => {
      const { code, output } = await call(reader);
      expect(output).toBe(`Tomorrow in Porto: sunny. Asked by ${reader.agentId}.\n`);
      expect(code).toBe(0);
    });

    it('says that the secret is wrong', async () => {
      const { code, output } = await call({ ...reader, clientSecret: 'wrong' });
      expect(output).toContain('InvalidClientError: Client authentication failed. Invalid client_id or client_secret.');
      expect(code).toBe(1);
    });

    it('says that the server refuses the token', async () => {
      const strict = await startExampleOnPort('mcp-server/server.mjs', (port) => ({
        ISSUER: service.issuer,
        RESOURCE: `http://127.0.0.1:${port}/mcp`,
        ALGORITHMS: 'ES256',
      }));
      await registerResource(service, operator, strict.url, ['strict:read']);
      const { code, output } = await call(await service.api.agent(operator, { scopes: ['strict:read'] }), {
        MCP_SERVER: strict.url,
      });
      expect(output).toContain('Server returned 401 after successful authentication');
      expect(code).toBe(1);
    });

    it('says that the agent has no scope of the server', async () => {
      const { code, output } = await call(await service.api.agent(operator));
      expect(output).toContain('InvalidTargetError');
      expect(code).toBe(1);
    });

    it('says that the agent lacks the scope of the tool', async () => {
      const { code, output } = await call(writer);
      expect(output).toContain('Server returned 403 after trying upscoping');
      expect(code).toBe(1);
    });

    it('keeps the secret from another authorization server than the expected one', async () => {
      const { code, output } = await call(reader, { ISSUER: 'https://issuer.example' });
      expect(output).toContain(`bound to authorization server https://issuer.example`);
      expect(code).toBe(1);
    });
  });

  describe('the server', () => {
    it('takes a token for it with the scope', async () => {
      expect((await ping(await service.api.token(reader, { resource: server.url }))).status).toBe(200);
    });

    it('answers 401 without a token and names its metadata, as the guide shows it', async () => {
      const { status, headers } = await ping();
      expect(status).toBe(401);
      expect(headers.get('www-authenticate')).toBe(shown(/^WWW-Authenticate: (.*)$/m));
    });

    it('names us and its scope in the metadata (RFC 9728), as the guide shows it', async () => {
      const { text } = await server.api.send('GET', '/.well-known/oauth-protected-resource/mcp');
      expect(text).toBe(shown(/^(\{"resource".*)$/m));
    });

    it('answers 401 to a token for another resource', async () => {
      const forStock = await service.api.token(reader, { resource: 'https://stock.example.com/mcp' });
      for (const token of [forStock, operator, 'x']) {
        const { status, body } = await ping(token);
        expect([status, body['error']]).toEqual([401, 'invalid_token']);
      }
    });

    it('answers 403 to a token without the scope', async () => {
      const { status, headers } = await ping(await service.api.token(writer));
      expect(status).toBe(403);
      expect(headers.get('www-authenticate')).toMatch(/error="insufficient_scope".*scope="forecast:read"/);
    });

    it('does not start where the authorization server has another name', async () => {
      const issuer = service.issuer.replace('127.0.0.1', 'localhost');
      const { code, output } = await runExample('mcp-server/server.mjs', [], { ISSUER: issuer });
      expect(output).toContain(`no authorization server calls itself ${issuer} there`);
      expect(code).toBe(1);
    });

    it('answers 405 to a GET: it has no stream of its own', async () => {
      expect((await server.api.send('GET', '/mcp')).status).toBe(405);
    });
  });

  describe('discovery by the SDK', () => {
    it('reads our metadata whole (RFC 8414)', async () => {
      const published = await service.api.send('GET', '/.well-known/oauth-authorization-server');
      expect(await discoverAuthorizationServerMetadata(service.issuer)).toEqual(published.body);
    });

    it('finds us from the URL of the server alone (RFC 9728)', async () => {
      expect(await discoverOAuthServerInfo(server.url)).toMatchObject({
        authorizationServerUrl: service.issuer,
        authorizationServerMetadata: { token_endpoint: `${service.issuer}/api/v1/token` },
        resourceMetadata: { resource: server.url, scopes_supported: ['forecast:read'] },
      });
    });
  });
});

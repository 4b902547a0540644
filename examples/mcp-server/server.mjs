// server.mjs
// An MCP server whose tool takes an access token of the authorization server, issued for this very server.
import { discoverAuthorizationServerMetadata } from '@modelcontextprotocol/sdk/client/auth.js';
import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import {
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
} from '@modelcontextprotocol/sdk/server/auth/router.js';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';
import { z } from 'zod';

const { ISSUER = 'http://localhost:3000', HOST = '127.0.0.1', PORT = '4003' } = process.env;
const { RESOURCE = `http://localhost:${PORT}/mcp`, ALGORITHMS = 'RS256' } = process.env;
const SCOPE = 'forecast:read';

// The URL of this server is the identifier of its resource server, and so the audience of its tokens.
const resource = new URL(RESOURCE);
const metadata = await discoverAuthorizationServerMetadata(ISSUER);
if (metadata?.issuer !== ISSUER) throw new Error(`no authorization server calls itself ${ISSUER} there`);
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { cacheMaxAge: 300_000 });
const expected = { issuer: ISSUER, audience: RESOURCE, algorithms: ALGORITHMS.split(',') };
// These errors say that the keys could not be had; all others of jose, that the token is bad.
const NO_KEYS = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];

/** Says to the SDK who calls. Its middleware answers an InvalidTokenError with 401 and a missing scope with 403. */
async function verifyAccessToken(token) {
  try {
    const { payload } = await jwtVerify(token, keys, { ...expected, requiredClaims: ['exp', 'client_id', 'scope'] });
    return { token, clientId: payload.client_id, scopes: payload.scope.split(' '), expiresAt: payload.exp, resource };
  } catch (error) {
    if (!(error instanceof errors.JOSEError) || NO_KEYS.includes(error.code)) throw error;
    throw new InvalidTokenError('The access token is not valid here');
  }
}

/** The MCP server of one request: it keeps no sessions. */
function createServer() {
  const server = new McpServer({ name: 'forecasts', version: '1.0.0' });
  server.registerTool(
    'forecast',
    { description: "Tomorrow's weather in a city", inputSchema: { city: z.string().min(1) } },
    async ({ city }, { authInfo }) => ({
      content: [{ type: 'text', text: `Tomorrow in ${city}: sunny. Asked by ${authInfo.clientId}.` }],
    }),
  );
  return server;
}

const app = createMcpExpressApp({ host: HOST, allowedHosts: [resource.hostname] });
// RFC 9728: tells clients which authorization server to ask for a token.
app.use(mcpAuthMetadataRouter({ oauthMetadata: metadata, resourceServerUrl: resource, scopesSupported: [SCOPE] }));

const authenticate = requireBearerAuth({
  verifier: { verifyAccessToken },
  requiredScopes: [SCOPE],
  resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
});
app.post(resource.pathname, authenticate, async (request, response) => {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on('close', () => transport.close());
  await createServer().connect(transport);
  await transport.handleRequest(request, response, request.body);
});
app.all(resource.pathname, (_request, response) => response.set('Allow', 'POST').sendStatus(405));

app.listen(Number(PORT), HOST, (error) => {
  if (error) throw error;
  console.log(`listening on ${RESOURCE}`);
});

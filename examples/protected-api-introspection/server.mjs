// server.mjs
// An API that asks the authorization server about every access token (RFC 7662).
import Fastify from 'fastify';
import { allowInsecureRequests, ClientSecretBasic, discovery, tokenIntrospection } from 'openid-client';

const { ISSUER = 'http://localhost:3000', AUDIENCE = 'https://orders.example.com' } = process.env;
const { HOST = '127.0.0.1', PORT = '4002', CLIENT_ID = '', CLIENT_SECRET = '' } = process.env;

// Reads the metadata of the authorization server (RFC 8414). This API is an agent too, with the scope tokens:read.
const authorizationServer = await discovery(
  new URL(ISSUER),
  CLIENT_ID,
  undefined,
  ClientSecretBasic(CLIENT_SECRET),
  // Plain http is for a look on your own machine: in production the issuer has https.
  { algorithm: 'oauth2', execute: ISSUER.startsWith('https:') ? [] : [allowInsecureRequests] },
);

/** What the authorization server says of a token that is active and meant for this API; null for any other. */
async function introspect(token) {
  try {
    const claims = await tokenIntrospection(authorizationServer, token);
    return claims.active && [claims.aud].flat().includes(AUDIENCE) ? claims : null;
  } catch (error) {
    console.error('introspection failed:', error.code ?? error.message);
    throw Object.assign(new Error('The token could not be checked.'), { statusCode: 503 });
  }
}

/** Admits requests whose token has the scope; answers all others as RFC 6750 has it. */
function requireScope(scope) {
  return async (request, reply) => {
    const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return refuse(reply, 401, 'Bearer');
    const claims = await introspect(token);
    if (claims === null) return refuse(reply, 401, 'Bearer error="invalid_token"');
    if (!claims.scope.split(' ').includes(scope)) {
      return refuse(reply, 403, `Bearer error="insufficient_scope", scope="${scope}"`);
    }
    request.claims = claims;
  };
}

function refuse(reply, status, challenge) {
  return reply.code(status).header('WWW-Authenticate', challenge).send({ statusCode: status, message: challenge });
}

const app = Fastify();
app.decorateRequest('claims', null);
app.get('/orders', { onRequest: requireScope('orders:read') }, async (request) => ({
  orders: [{ number: 'A-1001', total: '42.00 EUR' }],
  readBy: request.claims.sub,
}));

console.log(`listening on ${await app.listen({ host: HOST, port: Number(PORT) })}`);

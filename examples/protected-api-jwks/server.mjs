// server.mjs
// An API that verifies access tokens itself, with the public keys of the authorization server.
import Fastify from 'fastify';
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';

const { ISSUER = 'http://localhost:3000', AUDIENCE = 'https://orders.example.com' } = process.env;
const { HOST = '127.0.0.1', PORT = '4001', ALGORITHMS = 'RS256' } = process.env;

// Fetched when the first token comes, again for a key that is new, and every five minutes.
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`), { cacheMaxAge: 300_000 });
const expected = { issuer: ISSUER, audience: AUDIENCE, algorithms: ALGORITHMS.split(',') };
// These errors say that the keys could not be had; all others of jose, that the token is bad.
const NO_KEYS = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];

/** The claims of a token that is signed by the issuer, meant for this API and not expired; null for any other. */
async function verify(token) {
  try {
    const { payload } = await jwtVerify(token, keys, { ...expected, requiredClaims: ['exp', 'sub', 'scope'] });
    return payload;
  } catch (error) {
    if (error instanceof errors.JOSEError && !NO_KEYS.includes(error.code)) return null;
    throw Object.assign(new Error('The keys of the authorization server are out of reach.'), { statusCode: 503 });
  }
}

/** Admits requests whose token has the scope; answers all others as RFC 6750 has it. */
function requireScope(scope) {
  return async (request, reply) => {
    const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return refuse(reply, 401, 'Bearer');
    const claims = await verify(token);
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

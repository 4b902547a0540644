// @node-oauth/oauth2-server on PostgreSQL, behind Fastify: opaque tokens, of which it stores a row each, and a check that
// reads the row. No signature, no audit log, no quota. Secrets are random, so their SHA-256 is kept and compared in
// constant time: with bcrypt this would measure bcrypt.
import { createHash, timingSafeEqual } from 'node:crypto';
import OAuth2Server from '@node-oauth/oauth2-server';
import { fastify } from 'fastify';
import pg from 'pg';

const { PORT, DATABASE_URL, CLIENT_ID, CLIENT_SECRET } = process.env;
const sha256 = (text) => createHash('sha256').update(text).digest();

const pool = new pg.Pool({ connectionString: DATABASE_URL });
await pool.query('CREATE TABLE clients (id text PRIMARY KEY, secret_hash bytea NOT NULL, scopes text[] NOT NULL)');
await pool.query(
  `CREATE TABLE access_tokens (access_token text PRIMARY KEY, expires_at timestamptz NOT NULL, scopes text[] NOT NULL,
    client_id text NOT NULL REFERENCES clients)`,
);
await pool.query('INSERT INTO clients VALUES ($1, $2, $3)', [CLIENT_ID, sha256(CLIENT_SECRET), ['agents:read']]);

const oauth = new OAuth2Server({
  accessTokenLifetime: 3600,
  model: {
    async getClient(id, secret) {
      const { rows } = await pool.query('SELECT secret_hash, scopes FROM clients WHERE id = $1', [id]);
      if (rows.length === 0 || !timingSafeEqual(rows[0].secret_hash, sha256(secret))) return null;
      return { id, scopes: rows[0].scopes, grants: ['client_credentials'] };
    },
    getUserFromClient: async ({ id }) => ({ id }),
    validateScope: async (_, client, scope) => (scope.every((one) => client.scopes.includes(one)) ? scope : false),
    async saveToken(token, client, user) {
      await pool.query('INSERT INTO access_tokens VALUES ($1, $2, $3, $4)', [
        token.accessToken,
        token.accessTokenExpiresAt,
        token.scope,
        client.id,
      ]);
      return { ...token, client, user };
    },
    async getAccessToken(accessToken) {
      const { rows } = await pool.query(
        'SELECT expires_at, scopes, client_id FROM access_tokens WHERE access_token = $1',
        [accessToken],
      );
      if (rows.length === 0) return null;
      const [{ expires_at: accessTokenExpiresAt, scopes: scope, client_id: id }] = rows;
      return { accessToken, accessTokenExpiresAt, scope, client: { id }, user: { id } };
    },
  },
});

const app = fastify();
app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_, body, done) =>
  done(null, Object.fromEntries(new URLSearchParams(body))),
);
const requestOf = ({ method, headers, query, body }) => new OAuth2Server.Request({ method, headers, query, body });
app.post('/token', async (request, reply) => {
  const response = new OAuth2Server.Response();
  await oauth.token(requestOf(request), response);
  return reply.headers(response.headers).send(response.body);
});
app.get('/authenticate', async (request) => {
  const { client, scope, accessTokenExpiresAt } = await oauth.authenticate(
    requestOf(request),
    new OAuth2Server.Response(),
  );
  return { active: true, client_id: client.id, scope: scope.join(' '), exp: Math.floor(accessTokenExpiresAt / 1000) };
});
await app.listen({ host: '127.0.0.1', port: Number(PORT) });
console.log('listening');

// node-oidc-provider in memory: no database, no audit log, no quota. Tokens are JWTs for one resource server, as ours
// are; introspection takes its opaque tokens, because it cannot introspect its JWTs.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const { PORT, ALG = 'RS256', CLIENT_ID, CLIENT_SECRET } = process.env;
const RESOURCE = 'urn:bench:api';
const { privateKey } =
  ALG === 'ES256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 });

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: ALG, use: 'sig', kid: 'bench' }] },
  scopes: ['agents:read'],
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_post',
      introspection_endpoint_auth_method: 'client_secret_post',
      ...(ALG === 'ES256' ? { id_token_signed_response_alg: 'ES256' } : {}),
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: () => ({
        audience: RESOURCE,
        scope: 'agents:read',
        accessTokenTTL: 3600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: ALG } },
      }),
    },
  },
});
provider.listen(Number(PORT), '127.0.0.1', () => console.log('listening'));

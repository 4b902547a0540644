import { drive } from '../load.mjs';

const TOKENS = 50_000;
const REVOCATIONS = 1_000_000;

/**
 * Requests that introspect 50,000 different tokens of which 5 % are revoked, in a table of 1,000,000 revocations: what
 * remembered signatures and warm rows cannot make look better than it is.
 */
export async function honestMix(ours, bearer) {
  const admin = await ours.postgres.admin();
  const tokens = [];
  await drive({
    port: ours.port,
    requests: [ours.tokenRequest()],
    connections: 32,
    seconds: 600,
    keep: TOKENS,
    onBodies: (bodies) => tokens.push(...bodies.map((body) => JSON.parse(body).access_token)),
  });
  const claims = tokens.map((token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString()));
  const revoked = claims.filter((_, index) => index % 20 === 0);
  await admin.query(
    `INSERT INTO token_revocations (organization_id, jti, expires_at)
      SELECT $1, j, now() + interval '1 hour' FROM unnest($2::uuid[]) j`,
    [claims[0].org, revoked.map(({ jti }) => jti)],
  );
  await admin.query(
    `INSERT INTO token_revocations (organization_id, jti, expires_at)
      SELECT $1, gen_random_uuid(), now() + interval '1 hour' FROM generate_series(1, $2)`,
    [claims[0].org, REVOCATIONS - revoked.length],
  );
  await admin.query('ANALYZE token_revocations');
  return tokens.map((token) => ours.introspectionRequest(bearer, token));
}

// Figures of revocations in bulk: node test/bench/revocations.mjs [--tokens 1000000], after `npm run build`. Starts a
// PostgreSQL of its own in a temporary folder, writes the events of an agent's tokens by SQL, all of them alive, and
// measures over HTTP.
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';

const { values } = parseArgs({ options: { tokens: { type: 'string', default: '1000000' } } });
const TOKENS = Number(values.tokens);
/** Events that one statement writes. */
const CHUNK = 100_000;
const dist = (file) => import(new URL(`../../dist/src/${file}`, import.meta.url));

const folder = mkdtempSync(path.join(tmpdir(), 'agentidp-bench-'));
chmodSync(folder, 0o711);
const { startEmbeddedPostgres } = await dist('platform/database/embedded/embedded-postgres.js');
const postgres = await startEmbeddedPostgres({ dataDirectory: path.join(folder, 'data'), announce: console.error });
const database = /^[^/]+\/\/[^/]*\/([^?]*)/.exec(postgres.owningUrl)[1];
const admin = new pg.Client({
  connectionString: postgres.superuserUrl.replace(/^([^/]+\/\/[^/]*\/)[^?]*/, `$1${database}`),
});
let app;
try {
  await measure();
} finally {
  await app?.close();
  await admin.end().catch(() => undefined);
  await postgres.stop();
  rmSync(postgres.dataDirectory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}

async function measure() {
  const { migrate } = await dist('platform/database/migrate.js');
  const { createApp } = await dist('app.js');
  const { loadConfig } = await dist('platform/config/load-config.js');
  const { SystemClock } = await dist('platform/kernel/clock.js');
  const { OperatorService } = await dist('operator/operator.service.js');
  await migrate(postgres.owningUrl, postgres.servingUrl);
  await admin.connect();
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: '0', ISSUER: 'http://bench.test' });
  const { servingUrl } = postgres;
  app = await createApp({ config, clock: new SystemClock(), masterKey: randomBytes(32), servingUrl });
  const { clientId, clientSecret } = await app.get(OperatorService).ensure(null);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = await app.getUrl();
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: clientId,
    client_secret: clientSecret,
  });
  const answer = await fetch(`${url}/api/v1/token`, { method: 'POST', body });
  const { access_token: token } = await answer.json();
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
  const post = async (target, content) => {
    const response = await fetch(`${url}/api/v1${target}`, { method: 'POST', headers, body: JSON.stringify(content) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${target}: ${response.status} ${text}`);
    return JSON.parse(text);
  };
  const agent = await post('/agents', { name: 'busy', scopes: ['agents:read'] });
  const credentials = [];
  for (let count = 0; count < 3; count += 1) {
    credentials.push((await post(`/agents/${agent.agentId}/credentials`, {})).credentialId);
  }
  console.log(`${cpus().length} x ${cpus()[0].model}, Node ${process.version}, ${TOKENS} tokens alive of one agent`);
  await writeTokens(agent, credentials);

  const { agentId, organizationId } = agent;
  const selectors = {
    agentId: { agentId },
    credentialId: { credentialId: credentials[1] },
    organizationId: { organizationId },
  };
  for (const [name, selector] of Object.entries(selectors)) {
    for (const round of [1, 2, 3]) {
      await step(`dry run by ${name}, ${round}`, () => post('/revocations', { selector, dryRun: true }));
    }
  }
  await step('dry run by agentId and issuedBefore', () =>
    post('/revocations', {
      selector: { agentId, issuedBefore: new Date(Date.now() - 1000).toISOString() },
      dryRun: true,
    }),
  );
  const held = admin.query('SELECT pg_sleep(0)');
  await held;
  await step('revocation by credentialId', () => post('/revocations', { selector: selectors.credentialId }));
  await step('revocation by agentId', () => post('/revocations', { selector: selectors.agentId }));
  await step('dry run by agentId, nothing left', () =>
    post('/revocations', { selector: selectors.agentId, dryRun: true }),
  );
}

async function step(name, work) {
  const began = performance.now();
  const { agents, credentials, tokens } = await work();
  const ms = (performance.now() - began).toFixed(0);
  console.log(`${name}: ${ms} ms (${agents} agents, ${credentials} credentials, ${tokens} tokens)`);
}

/** Events as issuance writes them, by their sizes; their hashes are not those of a chain. */
async function writeTokens({ organizationId, agentId }, credentials) {
  await admin.query('SET session_replication_role = replica');
  const now = Date.now();
  for (let from = 1; from <= TOKENS; from += CHUNK) {
    const to = Math.min(TOKENS, from + CHUNK - 1);
    await admin.query(
      `WITH head AS (SELECT sequence FROM organization_ledgers WHERE organization_id = $1),
        made AS (
          SELECT n, (lpad(to_hex($6::bigint + n / 1000), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid AS id FROM generate_series($4::integer, $5::integer) n),
        written AS (
          INSERT INTO audit_events (organization_id, sequence, event_id, action, outcome, actor, target_type, target_id, ip,
              user_agent, details, occurred_at, previous_hash, hash)
            SELECT $1, (SELECT sequence FROM head) + n - $4 + 1, id, 'token.issued', 'success', $2, 'token', id::text,
                '192.0.2.7', 'curl/8.5.0', jsonb_build_object('audience', 'http://bench.test', 'credentialId',
                ($3::text[])[1 + n % 3], 'expiresAt', $6::bigint / 1000 + 7200, 'scope', 'agents:read'), now(),
                sha256(id::text::bytea), sha256(id::text::bytea) FROM made)
        UPDATE organization_ledgers SET sequence = sequence + $5 - $4 + 1 WHERE organization_id = $1`,
      [organizationId, agentId, credentials, from, to, now - 3_000],
    );
  }
  await admin.query('ANALYZE audit_events');
}

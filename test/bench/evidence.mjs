// Figures of the audit log: node test/bench/evidence.mjs [--events 1000000] [--search 5000000] [--parts verify,export,gzip,proofs,search]
// after `npm run build`. Starts a PostgreSQL, writes the rows by SQL and measures over HTTP and in process. With --data FOLDER
// the database stays there, and what an earlier run has written is not written again: `--parts ''` only writes.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';

const { values } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' },
    search: { type: 'string', default: '5000000' },
    parts: { type: 'string', default: 'verify,export,gzip,proofs,search' },
    data: { type: 'string' },
  },
});
const PARTS = values.parts.split(',');
/** The same in each run, so that a database that stays can be served again. */
const MASTER_KEY = createHash('sha256').update('bench').digest();
const EVENTS = Number(values.events);
const SEARCH = Number(values.search);
/** When the first event to search occurred; the others follow second by second. */
const START = Date.UTC(2026, 0, 1);
const dist = (file) => import(new URL(`../../dist/src/${file}`, import.meta.url));

const folder = values.data ?? mkdtempSync(path.join(tmpdir(), 'agentidp-bench-'));
mkdirSync(folder, { recursive: true });
chmodSync(folder, 0o711);
const { startEmbeddedPostgres } = await dist('platform/database/embedded/embedded-postgres.js');
const postgres = await startEmbeddedPostgres({ dataDirectory: path.join(folder, 'data'), announce: console.error });
// As the superuser, in the database of the service.
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
  if (values.data === undefined) {
    rmSync(postgres.dataDirectory, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure() {
  const { migrate } = await dist('platform/database/migrate.js');
  const { createApp } = await dist('app.js');
  const { loadConfig } = await dist('platform/config/load-config.js');
  const { SystemClock } = await dist('platform/kernel/clock.js');
  const { OperatorService } = await dist('operator/operator.service.js');
  const { CheckpointsService } = await dist('evidence/checkpoints.service.js');
  await migrate(postgres.owningUrl, postgres.servingUrl);
  await admin.connect();
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: '0', ISSUER: 'http://bench.test' });
  const { servingUrl } = postgres;
  app = await createApp({ config, clock: new SystemClock(), masterKey: MASTER_KEY, servingUrl });
  const { clientId, clientSecret } =
    (await app.get(OperatorService).ensure(null)) ?? (await app.get(OperatorService).reset());
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = await app.getUrl();
  const answer = await fetch(`${url}/api/v1/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret }),
  });
  const { access_token: token } = await answer.json();
  const get = (target) => fetch(`${url}/api/v1${target}`, { headers: { Authorization: `Bearer ${token}` } });
  console.log(`${cpus().length} x ${cpus()[0].model}, Node ${process.version}, ${EVENTS} events, ${SEARCH} to search`);

  const checkpoints = app.get(CheckpointsService);
  const chained = await organization(`bench-chain-${EVENTS}`, async (id) => {
    await step(`write ${EVENTS} events that verify`, () => writeChain(id, EVENTS));
    await step('take them into the tree and sign', () => checkpoints.current(id));
  });
  if (PARTS.includes('verify')) {
    const heap = sampleMemory();
    await step(`GET /audit/verify, ${EVENTS} events`, async () => {
      const verdict = await (await get(`/audit/verify?organizationId=${chained}`)).json();
      if (!verdict.valid || verdict.checked < EVENTS) throw new Error(JSON.stringify(verdict));
    });
    console.log(`  memory: ${heap.stop()}`);
  }
  for (const encoding of ['identity', 'gzip']) {
    if (!PARTS.includes(encoding === 'gzip' ? 'gzip' : 'export')) continue;
    const memory = sampleMemory();
    await step(`GET /audit/export, ${EVENTS} events, ${encoding}`, async () => {
      // The bytes as they come: what it costs a client to decompress them is no figure of the service.
      const headers = { Authorization: `Bearer ${token}`, 'Accept-Encoding': encoding };
      const [exported] = await once(
        request(`${url}/api/v1/audit/export?organizationId=${chained}`, { headers }).end(),
        'response',
      );
      if (exported.statusCode !== 200) throw new Error(`no export: ${exported.statusCode}`);
      if ((exported.headers['content-encoding'] ?? 'identity') !== encoding) throw new Error(`not ${encoding}`);
      let bytes = 0;
      for await (const chunk of exported) bytes += chunk.length;
      console.log(`  ${(bytes / 1e6).toFixed(0)} MB`);
    });
    console.log(`  memory: ${memory.stop()}`);
  }
  if (PARTS.includes('proofs')) {
    const { rows } = await admin.query(
      'SELECT event_id FROM audit_events TABLESAMPLE SYSTEM (0.5) WHERE organization_id = $1 ORDER BY random() LIMIT 200',
      [chained],
    );
    const id = (n) => rows[n % rows.length].event_id;
    await median(`GET /audit/{eventId}/receipt at ${EVENTS}`, 200, (n) => get(`/audit/${id(n)}/receipt`));
    await writeChain(chained, 1000);
    await checkpoints.current(chained);
    const list = (await (await get(`/audit/checkpoints?organizationId=${chained}`)).json()).data;
    await median('GET /audit/consistency', 200, () =>
      get(`/audit/consistency?organizationId=${chained}&from=${list.at(-1).sequence}&to=${list[0].sequence}`),
    );
  }

  if (SEARCH === 0) return;
  const agents = Array.from({ length: 1000 }, (_, n) => agentId(n));
  const searched = await organization(`bench-search-${SEARCH}`, async (id) => {
    await step(`write ${SEARCH} events to search`, () => writeSearch(id, agents, SEARCH));
    await step('take them into the tree and sign', () => checkpoints.current(id));
    await admin.query('VACUUM ANALYZE audit_events');
  });
  if (!PARTS.includes('search')) return;
  const from = (share) => new Date(START + share * SEARCH * 1000).toISOString();
  for (const [name, query] of [
    ['no filter', () => ''],
    ['agentId', (n) => `agentId=${agents[n]}`],
    ['agentId of most events', () => `agentId=${agents[0]}`],
    ['action=token.issued', () => 'action=token.issued'],
    ['action=agent.created', () => 'action=agent.created'],
    ['agentId, rare action', () => `agentId=${agents[0]}&action=agent.updated`],
    ['outcome=failure', () => 'outcome=failure'],
    ['agentId, outcome=failure', (n) => `agentId=${agents[n]}&outcome=failure`],
    ['agentId of most events, outcome=failure', () => `agentId=${agents[0]}&outcome=failure`],
    ['from, to in the middle', (n) => `from=${from(0.3 + n / 1000)}&to=${from(0.31 + n / 1000)}`],
    ['to long ago', () => `to=${from(0.01)}`],
    ['agentId, action, from, to', (n) => `agentId=${agents[n]}&action=token.issued&from=${from(0.2)}&to=${from(0.4)}`],
    ['action=agent.created, to long ago', () => `action=agent.created&to=${from(0.1)}`],
  ]) {
    await median(`GET /audit, ${name}`, 50, (n) => get(`/audit?organizationId=${searched}&${query(n)}`));
  }
}

/** The organization with a name; filled where there is none yet. */
async function organization(slug, fill) {
  const { rows } = await admin.query('SELECT organization_id FROM organizations WHERE slug = $1', [slug]);
  if (rows.length > 0) return rows[0].organization_id;
  const id = uuid();
  await admin.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      VALUES ($1, 'bench', $2, 'enterprise', 'active', now(), now())`,
    [id, `filling-${id}`],
  );
  await admin.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
    id,
    createHash('sha256').update(id).digest(),
  ]);
  await fill(id);
  // Last, so that what broke off is not taken for whole.
  await admin.query('UPDATE organizations SET slug = $2 WHERE organization_id = $1', [id, slug]);
  return id;
}

/** The same agents in each run. */
function agentId(number) {
  const hex = createHash('sha256').update(`agent ${number}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Events as issuance writes them, by the product's own function, in transactions of 5,000. */
async function writeChain(id, count) {
  for (let written = 0; written < count; written += 5000) {
    await admin.query(
      `WITH e AS MATERIALIZED (
          SELECT gen_random_uuid() AS event_id, gen_random_uuid()::text AS jti, '${uuid()}'::uuid AS actor, now() AS at,
            '{"audience":"https://idp.example","credentialId":"${uuid()}","expiresAt":1790000000,"scope":"agents:read agents:write"}' AS details
          FROM generate_series(1, $2)), r AS (
          SELECT *, '{"action":"token.issued","actor":"' || actor || '","details":' || details || ',"eventId":"' || event_id ||
            '","ip":"203.0.113.7","occurredAt":"' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') ||
            '","organizationId":"' || $1::text || '","outcome":"success",' AS head,
            '"target":{"id":"' || jti || '","type":"token"},"userAgent":"bench/1.0"}' AS tail FROM e)
        SELECT count(*) FROM (SELECT array_agg(r) AS a, array_agg($1::uuid) AS organizations, array_agg(head) AS heads,
            array_agg(tail) AS tails, array_agg(event_id) AS ids, array_agg('token.issued'::text) AS actions,
            array_agg('success'::text) AS outcomes, array_agg(actor) AS actors, array_agg('token'::text) AS types,
            array_agg(jti) AS targets, array_agg('203.0.113.7'::text) AS ips, array_agg('bench/1.0'::text) AS agents,
            array_agg(details::jsonb) AS details, array_agg(date_trunc('milliseconds', at)) AS at FROM r) x
          CROSS JOIN LATERAL append_audit_events(organizations, heads, tails, ids, actions, outcomes, actors, types,
            targets, ips, agents, x.details, x.at)`,
      [id, Math.min(5000, count - written)],
    );
  }
}

/** Events whose hashes link but are not their contents': for searching only. One in 500 is no issued token. */
async function writeSearch(id, agents, count) {
  for (let from = 1; from <= count; from += 100_000) {
    await admin.query(
      `INSERT INTO audit_events
        SELECT $1::uuid, s, gen_random_uuid(),
          CASE WHEN s % 500 <> 0 THEN 'token.issued' WHEN s % 1000 = 0 THEN 'token.refused'
            WHEN s % 50000 = 500 THEN 'agent.updated' ELSE 'agent.created' END,
          CASE WHEN s % 1000 = 0 THEN 'failure' ELSE 'success' END,
          ($2::uuid[])[CASE WHEN s % 3 = 0 THEN 1 ELSE 1 + s % 1000 END],
          CASE WHEN s % 500 <> 0 THEN 'token' ELSE 'agent' END, (($2::uuid[])[1 + s % 1000])::text, '203.0.113.7', 'bench/1.0',
          '{"audience":"https://idp.example","expiresAt":1790000000,"scope":"agents:read agents:write"}',
          to_timestamp($5::bigint / 1000.0 + s),
          CASE WHEN s = 1 THEN $6::bytea ELSE sha256(convert_to((s - 1)::text, 'UTF8')) END, sha256(convert_to(s::text, 'UTF8'))
        FROM generate_series($3::bigint, $4::bigint) s`,
      [id, agents, from, Math.min(from + 99_999, count), START, createHash('sha256').update(id).digest()],
    );
  }
  await admin.query(
    `UPDATE organization_ledgers SET sequence = $2::bigint, head_hash = sha256(convert_to($2::bigint::text, 'UTF8')) WHERE organization_id = $1`,
    [id, count],
  );
}

async function step(name, work) {
  const [started, before] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(before);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  // On a machine that does other work too, the time on the processor is what tells.
  console.log(`${name}: ${seconds} s, ${((user + system) / 1e6).toFixed(1)} s of processor time in Node`);
}

async function median(name, times, request) {
  const took = [];
  for (let n = 0; n < times; n += 1) {
    const started = performance.now();
    const response = await request(n);
    await response.text();
    if (response.status !== 200) throw new Error(`${name}: ${response.status}`);
    took.push(performance.now() - started);
  }
  took.sort((a, b) => a - b);
  const at = (share) => (took[Math.floor(share * (took.length - 1))] ?? 0).toFixed(1);
  console.log(`${name}: median ${at(0.5)} ms, 95 % ${at(0.95)} ms, most ${at(1)} ms`);
}

/** The greatest heap in the first and in the last quarter of what is measured: equal where memory is flat. */
function sampleMemory() {
  const samples = [];
  const timer = setInterval(() => samples.push(process.memoryUsage()), 100);
  return {
    stop() {
      clearInterval(timer);
      const quarter = Math.ceil(samples.length / 4);
      const most = (part, key) => (Math.max(...part.map((sample) => sample[key])) / 1048576).toFixed(0);
      const [first, last] = [samples.slice(0, quarter), samples.slice(-quarter)];
      return `heap at most ${most(first, 'heapUsed')} MB in the first quarter, ${most(last, 'heapUsed')} MB in the last; resident ${most(first, 'rss')} and ${most(last, 'rss')} MB`;
    },
  };
}

function uuid() {
  const hex = randomBytes(16)
    .toString('hex')
    .replace(/^(.{12})./, '$14')
    .replace(/^(.{16})./, '$1a');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

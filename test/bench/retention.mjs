// What retention costs whoever asks for tokens meanwhile: node test/bench/retention.mjs [--events 500000] [--rounds 4]
// [--seconds 8] [--parts removal,partitions], after `npm run build`. One organization loses events by batches, another gets
// tokens as fast as they come; windows with and without removal take turns. Then what is left of the removed rows, and the
// other way: partitions.
import { spawn } from 'node:child_process';
import { createHash, randomBytes, randomInt, randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import pg from 'pg';

const CONCURRENCY = 32;
const YEAR_MS = 400 * 24 * 3600 * 1000;
const { values } = parseArgs({
  options: {
    serve: { type: 'boolean', default: false },
    events: { type: 'string', default: '500000' },
    rounds: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '8' },
    parts: { type: 'string', default: 'removal,partitions' },
  },
});
const [EVENTS, ROUNDS, SECONDS] = [values.events, values.rounds, values.seconds].map(Number);

if (values.serve) await serve();
else await compare();

/** The service and its PostgreSQL; takes orders line by line. */
async function serve() {
  const load = (file) => import(new URL(`../../dist/src/${file}`, import.meta.url));
  const folder = mkdtempSync(path.join(tmpdir(), 'agentidp-bench-'));
  chmodSync(folder, 0o711);
  const { startEmbeddedPostgres } = await load('platform/database/embedded/embedded-postgres.js');
  const postgres = await startEmbeddedPostgres({ dataDirectory: path.join(folder, 'data'), announce: () => undefined });
  const { migrate } = await load('platform/database/migrate.js');
  const { createApp } = await load('app.js');
  const { loadConfig } = await load('platform/config/load-config.js');
  const { Clock } = await load('platform/kernel/clock.js');
  const { OperatorService } = await load('operator/operator.service.js');
  const { CheckpointsService } = await load('evidence/checkpoints.service.js');
  const { RetentionService } = await load('evidence/retention.service.js');
  await migrate(postgres.owningUrl, postgres.servingUrl);
  class ShiftedClock extends Clock {
    shiftMs = 0;
    nowMs() {
      return Date.now() + this.shiftMs;
    }
  }
  const clock = new ShiftedClock();
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: '0', ISSUER: 'http://bench.test' });
  const { servingUrl } = postgres;
  const app = await createApp({ config, clock, masterKey: randomBytes(32), servingUrl });
  const client = await app.get(OperatorService).ensure(null);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const database = /^[^/]+\/\/[^/]*\/([^?]*)/.exec(postgres.owningUrl)[1];
  const admin = new pg.Client({
    connectionString: postgres.superuserUrl.replace(/^([^/]+\/\/[^/]*\/)[^?]*/, `$1${database}`),
  });
  await admin.connect();
  console.log(JSON.stringify({ url: await app.getUrl(), ...client }));
  const orders = {
    // A chain that ended 400 days ago, of an organization that keeps 90 days.
    fill: async () => {
      const id = randomUUID();
      await admin.query(
        `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
          VALUES ($1::uuid, 'old', $1::uuid::text, 'free', 'active', now(), now())`,
        [id],
      );
      const genesis = createHash('sha256').update(id).digest();
      await admin.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [id, genesis]);
      for (let written = 0; written < EVENTS; written += 5000)
        await append(admin, id, Math.min(5000, EVENTS - written));
      clock.shiftMs = -YEAR_MS;
      await app.get(CheckpointsService).current(id);
      clock.shiftMs = 0;
      await admin.query('VACUUM ANALYZE audit_events');
      await admin.query('CHECKPOINT');
      return sizes(admin);
    },
    sweep: async () => {
      const started = performance.now();
      await app.get(RetentionService).sweep();
      return { seconds: (performance.now() - started) / 1000, ...(await sizes(admin)) };
    },
    vacuum: async () => {
      const started = performance.now();
      await admin.query('VACUUM audit_events');
      return { seconds: (performance.now() - started) / 1000, ...(await sizes(admin)) };
    },
    partitions: () => partitions(admin),
  };
  for await (const order of createInterface(process.stdin)) {
    if (order === 'end') break;
    console.log(JSON.stringify((await orders[order]()) ?? {}));
  }
  await admin.end();
  await app.close();
  await postgres.stop();
  rmSync(postgres.dataDirectory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}

async function append(admin, id, count) {
  await admin.query(
    `SELECT count(*) FROM (SELECT array_agg($1::uuid) AS organizations,
        array_agg('{"action":"token.issued","details":{"audience":"https://idp.example"},'::text) AS heads,
        array_agg('}'::text) AS tails, array_agg(gen_random_uuid()) AS ids, array_agg('token.issued'::text) AS actions,
        array_agg('success'::text) AS outcomes, array_agg($1::uuid) AS actors, array_agg('token'::text) AS types,
        array_agg(gen_random_uuid()::text) AS targets, array_agg('203.0.113.7'::text) AS ips, array_agg('bench/1.0'::text) AS agents,
        array_agg('{"audience":"https://idp.example","expiresAt":1790000000,"scope":"agents:read"}'::jsonb) AS details,
        array_agg(date_trunc('milliseconds', now() - interval '400 days')) AS at FROM generate_series(1, $2::integer)) x
      CROSS JOIN LATERAL append_audit_events(organizations, heads, tails, ids, actions, outcomes, actors, types, targets,
        ips, agents, x.details, x.at)`,
    [id, count],
  );
}

async function sizes(admin) {
  const { rows } = await admin.query(
    `SELECT count(*)::integer AS events, pg_relation_size('audit_events') / 1048576 AS heap,
      pg_indexes_size('audit_events') / 1048576 AS indexes FROM audit_events`,
  );
  return { events: rows[0].events, heapMb: Number(rows[0].heap), indexesMb: Number(rows[0].indexes) };
}

/** The same rows in a table of 24 partitions by time: what a lookup by place, a page and an append cost there. */
async function partitions(admin) {
  await admin.query(`CREATE TABLE parted (LIKE audit_events) PARTITION BY RANGE (occurred_at)`);
  for (let month = 0; month < 24; month += 1) {
    await admin.query(
      `CREATE TABLE parted_${month} PARTITION OF parted FOR VALUES FROM ('2025-01-01'::timestamptz + interval '${month} months')
        TO ('2025-01-01'::timestamptz + interval '${month + 1} months')`,
    );
  }
  await admin.query('CREATE TABLE plain (LIKE audit_events)');
  const figures = {};
  for (const table of ['plain', 'parted']) {
    // No unique index over a partitioned table may leave out what it is partitioned by.
    await admin.query(`CREATE INDEX ON ${table} (organization_id, sequence)`);
    await admin.query(`CREATE INDEX ON ${table} (organization_id, event_id)`);
    await admin.query(
      `INSERT INTO ${table} SELECT '11111111-1111-4111-8111-111111111111', n, gen_random_uuid(), 'token.issued', 'success', NULL,
          'token', 'x', NULL, NULL, '{}', '2025-01-01'::timestamptz + n * interval '60 seconds', '', ''
        FROM generate_series(1, 1000000) n`,
    );
    await admin.query(`VACUUM ANALYZE ${table}`);
    const median = async (text) => {
      const took = [];
      for (let n = 0; n < 300; n += 1) {
        const started = performance.now();
        await admin.query(text, [String(randomInt(1, 990_000))]);
        took.push(performance.now() - started);
      }
      return Number(took.sort((a, b) => a - b)[150].toFixed(2));
    };
    const where = `FROM ${table} WHERE organization_id = '11111111-1111-4111-8111-111111111111'`;
    figures[table] = {
      oneByPlaceMs: await median(`SELECT * ${where} AND sequence = $1`),
      pageByPlaceMs: await median(`SELECT * ${where} AND sequence < $1 ORDER BY sequence DESC LIMIT 50`),
    };
  }
  return figures;
}

async function compare() {
  const child = spawn(process.execPath, [process.argv[1], '--serve', '--events', values.events], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '2' },
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async () => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error('the service has ended');
      if (value.startsWith('{')) return JSON.parse(value);
    }
  };
  const order = (name) => {
    child.stdin.write(`${name}\n`);
    return next();
  };
  const service = { ...(await next()), agent: new Agent({ keepAlive: true }) };
  await load(service, until(3));
  for (let round = 0; round < ROUNDS; round += 1) {
    console.log('filled', JSON.stringify(await order('fill')));
    const without = await load(service, until(SECONDS));
    let swept = null;
    const sweeping = order('sweep').then((figures) => (swept = figures));
    const during = await load(service, () => swept === null);
    await sweeping;
    console.log(`without: ${text(without)}; while ${EVENTS} events are removed: ${text(during)}`);
    console.log(
      `  ${swept.seconds.toFixed(1)} s, ${(EVENTS / swept.seconds).toFixed(0)} events a second`,
      JSON.stringify(swept),
    );
    const vacuum = order('vacuum');
    console.log('  vacuum', JSON.stringify(await vacuum));
  }
  const alone = await order('fill').then(() => order('sweep'));
  console.log(`removal alone: ${(EVENTS / alone.seconds).toFixed(0)} events a second`);
  if (values.parts.includes('partitions')) console.log('partitions', JSON.stringify(await order('partitions')));
  child.stdin.end('end\n');
}

function until(seconds) {
  const end = performance.now() + seconds * 1000;
  return () => performance.now() < end;
}

function text({ rate, median, high }) {
  return `${rate.toFixed(0)} tokens a second, median ${median.toFixed(1)} ms, 99 % ${high.toFixed(1)} ms`;
}

async function load(service, goesOn) {
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: service.clientId,
    client_secret: service.clientSecret,
  }).toString();
  const started = performance.now();
  const took = [];
  const worker = async () => {
    while (goesOn()) {
      const asked = performance.now();
      await ask(service, body);
      took.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  const seconds = (performance.now() - started) / 1000;
  took.sort((a, b) => a - b);
  return { rate: took.length / seconds, median: took[took.length >> 1], high: took[Math.floor(took.length * 0.99)] };
}

function ask({ url, agent }, body) {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) };
    const sent = request(`${url}/api/v1/token`, { method: 'POST', agent, headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`no token: ${response.statusCode}`));
      response.resume().once('end', resolve);
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

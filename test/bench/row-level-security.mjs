// node test/bench/row-level-security.mjs [--rounds N]      (after npm run build)
//
// What row-level security would add to the reads of the management API: the same query on the same table, as a role that
// the policies bind and as one that they do not. Rounds alternate between the ways on one machine, because machines
// swing and ratios hold; with one connection a round is one query a way. Starts a PostgreSQL of its own and ends it.
import { strict as assert } from 'node:assert';
import os from 'node:os';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { SERVING_ROLE } from '../../dist/src/platform/database/embedded/provisioning.js';
import { migrate } from '../../dist/src/platform/database/migrate.js';
import { startPostgres, stopAll } from './service.mjs';

const ORGANIZATIONS = 20;
const AGENTS = 1000;
/** Connections that are busy at once. */
const CONCURRENCIES = [1, 8];
/** What each connection asks in a round when several are busy; there are fewer such rounds. */
const QUERIES_TOGETHER = 10;
const UNBOUND = 'bench_unbound';

const { values } = parseArgs({ options: { rounds: { type: 'string' } } });
const ROUNDS = Number(values.rounds ?? 800);

const COLUMNS =
  'organization_id, agent_id, name, description, owner, type, version, environment, capabilities, labels, scopes, ' +
  'token_ttl_seconds, status, generation, valid_from_generation, scope_removals, created_at, updated_at';

/** The two reads that the management API is made of. `$1` is the organization, `$2` the agent. */
const READS = {
  'one agent': `SELECT ${COLUMNS} FROM agents a WHERE a.organization_id = $1 AND a.agent_id = $2`,
  'a page of 50': `SELECT ${COLUMNS} FROM agents a WHERE a.organization_id = $1 AND $2::uuid IS NOT NULL
    ORDER BY a.created_at DESC, a.agent_id DESC LIMIT 51`,
};

/** The ways to ask: each resolves to the rows. */
const WAYS = {
  plain: { bound: false, ask: async (client, sql, ids) => (await client.query(sql, ids)).rows },
  'four statements': {
    bound: true,
    ask: async (client, sql, ids) => {
      await client.query('BEGIN');
      await client.query("SELECT set_config('app.organization_id', $1, true)", [ids[0]]);
      const { rows } = await client.query(sql, ids);
      await client.query('COMMIT');
      return rows;
    },
  },
  // The same four in one round trip, with `pipeline` of `pg`: nobody waits for an answer before the next is sent.
  'four, pipelined': {
    bound: true,
    pipeline: true,
    ask: async (client, sql, ids) => {
      const [, , { rows }] = await Promise.all([
        client.query('BEGIN'),
        client.query("SELECT set_config('app.organization_id', $1, true)", [ids[0]]),
        client.query(sql, ids),
        client.query('COMMIT'),
      ]);
      return rows;
    },
  },
  // The simple protocol takes several statements in one message, so in one round trip, but no parameters: ids are literals.
  // That alone saves the work of the extended protocol, so it is measured without the policies as well.
  'plain, with literals': {
    bound: false,
    ask: async (client, sql, ids) => (await client.query(withLiterals(client, sql, ids))).rows,
  },
  'one message': {
    bound: true,
    ask: async (client, sql, ids) => {
      const setting = `SET LOCAL app.organization_id = ${client.escapeLiteral(ids[0])}`;
      const results = await client.query(`BEGIN; ${setting}; ${withLiterals(client, sql, ids)}; COMMIT`);
      return results[2].rows;
    },
  },
  // One statement, prepared or not: the table is looked up with what the setting gives, so the setting comes first. Only
  // the plan says so, and nothing promises the plan. The cheapest that there is, for comparison.
  'one statement': {
    bound: true,
    ask: async (client, sql, ids) => {
      const tenant = "WITH tenant AS MATERIALIZED (SELECT set_config('app.organization_id', $1, true)::uuid AS id)";
      const lookup = sql.replace('FROM agents a', 'FROM tenant, agents a').replace('= $1', '= tenant.id');
      return (await client.query(`${tenant} ${lookup}`, ids)).rows;
    },
  },
};

const postgres = await startPostgres();
try {
  await main();
} finally {
  await stopAll();
}

async function main() {
  await migrate(postgres.owningUrl, postgres.servingUrl);
  const ids = await prepare();
  const bound = await connect(postgres.servingUrl);
  const pipelined = await connect(postgres.servingUrl, true);
  const unbound = await connect(withRole(postgres.servingUrl, UNBOUND));
  await assertTheWallStands(bound[0], ids);
  const results = [];
  for (const concurrency of CONCURRENCIES) {
    for (const [read, sql] of Object.entries(READS)) {
      results.push(...(await compare(read, sql, concurrency, { bound, pipelined, unbound }, ids)));
    }
  }
  for (const client of [...bound, ...pipelined, ...unbound]) await client.end();
  const { server_version: version } = ids.version;
  console.log(
    `PostgreSQL ${version}, Node.js ${process.version}, ${os.availableParallelism()} cores, ${os.cpus()[0]?.model}`,
  );
  console.log(
    `${ORGANIZATIONS} organizations of ${AGENTS} agents; medians of ${ROUNDS} rounds, ratios within a round\n`,
  );
  console.table(results);
}

/** Fills the tables, sets the policy and makes the role that it does not bind. */
async function prepare() {
  const owner = new pg.Client(postgres.owningUrl);
  await owner.connect();
  await owner.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      SELECT gen_random_uuid(), 'bench', 'bench-' || n, 'enterprise', 'active', now(), now()
        FROM generate_series(1, $1) n`,
    [ORGANIZATIONS],
  );
  await owner.query(
    `INSERT INTO agents (organization_id, agent_id, name, owner, type, labels, scopes, status, created_at, updated_at)
      SELECT o.organization_id, gen_random_uuid(), 'agent ' || n, 'team-finance', 'classifier',
          '{"costCentre": "4711"}', '{agents:read,tokens:read}', 'active',
          now() - n * interval '1 minute', now()
        FROM generate_series(1, $1) n, organizations o`,
    [AGENTS],
  );
  await owner.query('ANALYZE agents');
  await owner.query('ALTER TABLE agents ENABLE ROW LEVEL SECURITY');
  await owner.query(
    `CREATE POLICY tenant ON agents
      USING (organization_id = nullif(current_setting('app.organization_id', true), '')::uuid)`,
  );
  const { rows } = await owner.query(
    'SELECT organization_id, min(agent_id::text) AS agent_id FROM agents GROUP BY 1 ORDER BY 1',
  );
  const version = (await owner.query('SHOW server_version')).rows[0];
  await owner.end();

  const superuser = await postgres.admin();
  const password = decodeURIComponent(/\/\/[^:]+:([^@]+)@/.exec(postgres.servingUrl)?.[1] ?? '');
  await superuser.query(`CREATE ROLE ${UNBOUND} LOGIN BYPASSRLS PASSWORD ${superuser.escapeLiteral(password)}`);
  await superuser.query(`GRANT ${SERVING_ROLE} TO ${UNBOUND}`);
  return { tenants: rows.map((row) => [row.organization_id, row.agent_id]), version };
}

/** Without the setting the bound role sees nothing, with it one organization; else nothing here is measured. */
async function assertTheWallStands(client, { tenants: [[first], [second]] }) {
  const count = async () => Number((await client.query('SELECT count(*) FROM agents')).rows[0].count);
  assert.equal(await count(), 0);
  await client.query('BEGIN');
  await client.query("SELECT set_config('app.organization_id', $1, true)", [first]);
  assert.equal(await count(), AGENTS);
  const foreign = await client.query('SELECT count(*) FROM agents WHERE organization_id = $1', [second]);
  assert.equal(Number(foreign.rows[0].count), 0);
  await client.query('COMMIT');
  assert.equal(await count(), 0);
}

/** Times every way in each round, in another order each time, and gives medians and ratios to the plain ways. */
async function compare(read, sql, concurrency, sides, { tenants }) {
  const names = Object.keys(WAYS);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  const rounds = concurrency === 1 ? ROUNDS : Math.ceil(ROUNDS / QUERIES_TOGETHER / 2);
  // The first rounds warm up connections, caches and Node.js; they are thrown away.
  const warmUp = Math.ceil(rounds / 10);
  for (let round = -warmUp; round < rounds; round += 1) {
    for (let turn = 0; turn < names.length; turn += 1) {
      const name = names[(turn + round + warmUp) % names.length];
      const { bound, pipeline, ask } = WAYS[name];
      const side = pipeline ? sides.pipelined : bound ? sides.bound : sides.unbound;
      const clients = side.slice(0, concurrency);
      const time = await timeRound(
        WAYS[name].ask,
        sql,
        clients,
        (index) => tenants[(round + warmUp + index) % tenants.length],
      );
      if (round >= 0) times[name].push(time);
    }
  }
  return names.map((name) => ({
    read,
    connections: concurrency,
    way: name,
    'µs a query': Math.round(median(times[name])),
    'of plain': ratio(times[name], times.plain),
    'of plain, with literals': ratio(times[name], times['plain, with literals']),
  }));
}

/** @returns microseconds a query */
async function timeRound(ask, sql, clients, idsOf) {
  const expected = sql.includes('LIMIT') ? 51 : 1;
  const each = clients.length === 1 ? 1 : QUERIES_TOGETHER;
  const started = performance.now();
  await Promise.all(
    clients.map(async (client, lane) => {
      for (let index = 0; index < each; index += 1) {
        const ids = idsOf(lane * each + index);
        const rows = await ask(client, sql, ids);
        if (rows.length !== expected || rows[0].organization_id !== ids[0]) throw new Error(`a wrong answer to ${ask}`);
      }
    }),
  );
  return ((performance.now() - started) * 1000) / (clients.length * each);
}

async function connect(connectionString, pipeline = false) {
  const clients = Array.from(
    { length: Math.max(...CONCURRENCIES) },
    () => new pg.Client({ connectionString, pipeline }),
  );
  for (const client of clients) {
    // Where something fails the server is stopped under them; the failure itself is told.
    client.on('error', () => undefined);
    await client.connect();
  }
  return clients;
}

function withLiterals(client, sql, ids) {
  return ids.reduce((text, id, index) => text.replaceAll(`$${index + 1}`, client.escapeLiteral(id)), sql);
}

function withRole(url, role) {
  return url.replace(/\/\/[^:]+:/, `//${role}:`);
}

/** The median of the ratios within a round. */
function ratio(times, others) {
  return median(times.map((time, round) => time / others[round])).toFixed(2);
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

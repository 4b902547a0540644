import { setTimeout as delay } from 'node:timers/promises';
import { inTurn } from '../measure.mjs';
import { cells, curve, median, spread } from '../report.mjs';
import { startService, stopAll } from '../service.mjs';

const FULL = { organizations: 100_000, agents: 1_000_000, events: 10_000_000, earned: 1_000_000 };
/** Shares of the full size at which it is measured. */
const STEPS = [0.01, 0.1, 1];
const CHUNK = 500_000;

/**
 * A database that grows, beside one that is empty, in turn; one hot organization beside fifty; and how long it takes to
 * revoke all tokens of an agent that earned a million.
 *
 * @param {{ scale: number }} options `scale`: the share of the full size, 100,000 organizations, 1,000,000 agents and
 *   10,000,000 events
 */
export async function growth(options) {
  const services = { empty: await startService(), grown: await startService() };
  const sides = {};
  for (const [name, service] of Object.entries(services)) sides[name] = await prepared(service);
  const rows = [];
  const lines = new Map();
  const data = [];
  let loaded = 0;
  for (const step of STEPS) {
    const share = step * options.scale;
    await grow(sides.grown, loaded, share);
    loaded = share;
    const events = Math.round(FULL.events * share);
    const results = await inTurn(casesOf(sides), options);
    data.push({ events, results });
    for (const { name, rounds } of results) {
      const ratio = ({ grown, empty }) => grown.rate / empty.rate;
      const [grown, empty] = [cells(rounds, 'grown'), cells(rounds, 'empty')];
      rows.push([
        ...[events.toLocaleString('en-US'), name, grown.rate, empty.rate, spread(rounds, ratio), grown.p99],
        ...[grown.cost[3], empty.cost[3]],
      ]);
      if (!lines.has(name)) lines.set(name, []);
      lines.get(name).push([events, median(rounds.map(ratio))]);
    }
  }
  const last = data.at(-1).results;
  const [hot, fifty] = [last[0], last[1]].map(({ rounds }) => median(rounds.map(({ grown }) => grown.rate)));
  rows.push(['', 'one hot organization : fifty (asked for: 0.80)', '', '', (hot / fifty).toFixed(2), '', '', '']);
  const revocations = await timeRevocations(sides.grown);
  const text = `median ${median(revocations).toFixed(1)} ms, most ${Math.max(...revocations).toFixed(1)} ms`;
  rows.push([
    '',
    `revoking all tokens of an agent that earned ${Math.round(FULL.earned * options.scale)}`,
    '',
    '',
    text,
    '',
    '',
    '',
  ]);
  await stopAll();
  return {
    name: 'growth',
    title: 'With a full database beside an empty one (asked for: 0.90)',
    head: [
      ...['events', 'case', 'full /s', 'empty /s', 'full : empty', 'p99 ms'],
      ...['PostgreSQL µs', 'PostgreSQL µs, empty'],
    ],
    rows,
    data,
    svg: curve(
      'Throughput on a grown database : on an empty one, over events',
      [...lines].map(([name, points]) => ({ name, points })),
    ),
  };
}

async function prepared(service) {
  const agents = await service.agents(50);
  const bearer = await service.token('tokens:read agents:read', agents[0]);
  return { service, agents, bearer };
}

function casesOf(sides) {
  const of = (name, requests, connections = 64) => ({
    name,
    sides: Object.fromEntries(
      Object.entries(sides).map(([side, one]) => [
        side,
        { service: one.service, requests: requests(one), connections },
      ]),
    ),
  });
  return [
    of('token, one organization', ({ service, agents }) => [service.tokenRequest('agents:read', agents[0])]),
    of('token, fifty organizations', ({ service, agents }) =>
      agents.map((agent) => service.tokenRequest('agents:read', agent)),
    ),
    of('introspection', ({ service, bearer }) => [service.introspectionRequest(bearer, bearer)]),
    of('GET /agents/{id}', ({ service, agents, bearer }) => [
      service.readRequest(`/agents/${agents[0].agentId}`, bearer),
    ]),
  ];
}

/** Adds what lies between two shares of the full size. Chains of these organizations are not continued by anybody. */
async function grow({ service, agents }, from, to) {
  const admin = await service.postgres.admin();
  const range = (total) => [Math.round(total * from) + 1, Math.round(total * to)];
  const id = (kind, number) => `md5('${kind}' || (${number}))::uuid`;
  const perOrganization = FULL.agents / FULL.organizations;
  await admin.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      SELECT ${id('o', 's')}, 'bulk ' || s, 'bulk-' || s, 'pro', 'active', now(), now() FROM generate_series($1::bigint, $2::bigint) s`,
    range(FULL.organizations),
  );
  await admin.query(
    `INSERT INTO organization_ledgers (organization_id, head_hash)
      SELECT ${id('o', 's')}, sha256('') FROM generate_series($1::bigint, $2::bigint) s`,
    range(FULL.organizations),
  );
  await chunks(range(FULL.agents), async (bounds) => {
    const organization = id('o', `(s - 1) / ${perOrganization} + 1`);
    await admin.query(
      `INSERT INTO agents (organization_id, agent_id, name, scopes, status, created_at, updated_at)
        SELECT ${organization}, ${id('a', 's')}, 'bulk ' || s, '{agents:read}', 'active', now(), now()
          FROM generate_series($1::bigint, $2::bigint) s`,
      bounds,
    );
    await admin.query(
      `INSERT INTO credentials (organization_id, agent_id, credential_id, kind, status, prefix, secret_hash, created_at)
        SELECT ${organization}, ${id('a', 's')}, ${id('c', 's')}, 'secret', 'active', 'sas_' || left(md5(s::text), 8),
            sha256(s::text::bytea), now() FROM generate_series($1::bigint, $2::bigint) s`,
      bounds,
    );
  });
  const events = FULL.events - FULL.earned;
  const eventsPerOrganization = events / FULL.organizations;
  await chunks(range(events), (bounds) =>
    admin.query(
      eventsOf(
        id('o', `(s - 1) / ${eventsPerOrganization} + 1`),
        `(s - 1) % ${eventsPerOrganization} + 1`,
        id('a', `(s - 1) / ${events / FULL.agents} + 1`),
      ),
      bounds,
    ),
  );
  // The million of one agent stand in the chain of its organization, which goes on behind them.
  const earner = agents[49];
  const [first, lastOne] = range(FULL.earned);
  await admin.query('BEGIN');
  const { rows } = await admin.query(
    'SELECT sequence, head_hash FROM organization_ledgers WHERE organization_id = $1 FOR UPDATE',
    [earner.organizationId],
  );
  const offset = Number(rows[0].sequence) - first + 1;
  const [organization, actor] = [`'${earner.organizationId}'::uuid`, `'${earner.agentId}'::uuid`];
  await admin.query(eventsOf(organization, `s + ${offset}`, actor, rows[0].head_hash), [first, lastOne]);
  await admin.query(
    `UPDATE organization_ledgers SET sequence = $2::bigint, head_hash = sha256($2::bigint::text::bytea), tokens_used = tokens_used + $3
      WHERE organization_id = $1`,
    [earner.organizationId, lastOne + offset, lastOne - first + 1],
  );
  await admin.query('COMMIT');
  await admin.query('VACUUM ANALYZE');
  await admin.query('CHECKPOINT');
  console.error(`grown to ${lastOne} of ${FULL.earned}, ${to} of the full size`);
  await intoTheTree(service, earner.organizationId);
}

/** @param {Buffer | null} before the hash that the first of them points to, where they continue a chain */
function eventsOf(organization, sequence, actor, before = null) {
  const linked = `sha256((${sequence} - 1)::text::bytea)`;
  const previous =
    before === null ? linked : `CASE WHEN s = $1 THEN '\\x${before.toString('hex')}'::bytea ELSE ${linked} END`;
  return `INSERT INTO audit_events (organization_id, sequence, event_id, action, outcome, actor, target_type, target_id, ip,
      user_agent, details, occurred_at, previous_hash, hash)
    SELECT ${organization}, ${sequence}, e.id, 'token.issued', 'success', ${actor}, 'token', e.id::text, '203.0.113.7',
        'bench/1.0', jsonb_build_object('audience', 'https://idp.example', 'credentialId', e.id, 'expiresAt', 1790000000,
        'scope', 'agents:read'), now() - interval '1 hour', ${previous}, sha256((${sequence})::text::bytea)
      FROM generate_series($1::bigint, $2::bigint) s, LATERAL (SELECT md5('e' || s || ${actor})::uuid AS id) e`;
}

async function chunks([from, to], work) {
  for (let first = from; first <= to; first += CHUNK) await work([first, Math.min(to, first + CHUNK - 1)]);
}

/** Has the new events taken into the tree of their chain, so that this is not done while it is measured. */
async function intoTheTree(service, organizationId) {
  const operator = await service.token('admin:orgs audit:read');
  let last;
  for (let tries = 0; tries < 60; tries += 1) {
    try {
      await service.call('GET', `/audit/checkpoint?organizationId=${organizationId}`, operator);
      return;
    } catch (error) {
      last = error;
      await delay(1000);
    }
  }
  throw new Error(`the events were not taken into the tree: ${last?.message}`);
}

async function timeRevocations({ service, agents }) {
  // All that the agent holds: nobody acts on one who holds more.
  const operator = await service.token('admin:orgs agents:write agents:read tokens:read');
  const took = [];
  for (let count = 0; count < 30; count += 1) {
    const started = performance.now();
    await service.call('POST', `/agents/${agents[49].agentId}/revoke-tokens`, operator);
    took.push(performance.now() - started);
  }
  return took.slice(10);
}

// Token throughput of builds, in turns: node test/bench/token-throughput.mjs DIST... [--rounds 6] [--seconds 8]
// [--connections 64] [--alg RS256]. Each build runs in a process of its own with a PostgreSQL of its own; the load comes
// from this process. A DIST with +bare behind it runs without the evidence: no follower of checkpoints, and no index of
// actors. On Linux also the time on the processor of one token, of Node and of PostgreSQL: what other work on the machine
// changes least.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import pg from 'pg';

/** Of the clock that /proc counts in. */
const TICKS_A_SECOND = 100;

if (process.argv[2] === '--serve') await serve(process.argv[3]);
else await compare();

/** Runs one build until standard input ends; says where it listens and who its client is, and on each line what it used. */
async function serve(build) {
  const dist = build.replace(/\+bare$/, '');
  const load = (file) => import(pathToFileURL(path.join(dist, 'src', file)).href);
  const folder = mkdtempSync(path.join(tmpdir(), 'agentidp-bench-'));
  chmodSync(folder, 0o711);
  const { startEmbeddedPostgres } = await load('platform/database/embedded/embedded-postgres.js');
  const postgres = await startEmbeddedPostgres({ dataDirectory: path.join(folder, 'data'), announce: () => undefined });
  const { migrate } = await load('platform/database/migrate.js');
  const { createApp } = await load('app.js');
  const { loadConfig } = await load('platform/config/load-config.js');
  const { SystemClock } = await load('platform/kernel/clock.js');
  const { OperatorService } = await load('operator/operator.service.js');
  await migrate(postgres.owningUrl, postgres.servingUrl);
  const config = loadConfig({
    NODE_ENV: 'test',
    LOG_LEVEL: 'silent',
    PORT: '0',
    ISSUER: 'http://bench.test',
    SIGNING_ALG: process.env.SIGNING_ALG,
  });
  const { servingUrl } = postgres;
  const app = await createApp({ config, clock: new SystemClock(), masterKey: randomBytes(32), servingUrl });
  const client = await app.get(OperatorService).ensure(null);
  if (build !== dist) await bare(load, app, postgres.owningUrl);
  await app.listen({ host: '127.0.0.1', port: 0 });
  console.log(JSON.stringify({ url: await app.getUrl(), ...client }));
  const postmaster = Number(
    readFileSync(path.join(postgres.dataDirectory, 'postgres/cluster/postmaster.pid'), 'utf8').split('\n')[0],
  );
  for await (const _ of createInterface(process.stdin)) {
    const { user, system } = process.cpuUsage();
    console.log(JSON.stringify({ node: (user + system) / 1e6, postgres: secondsOf(postmaster) }));
  }
  await app.close();
  await postgres.stop();
  rmSync(postgres.dataDirectory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}

/** Takes away what the evidence costs whoever asks for tokens. */
async function bare(load, app, owningUrl) {
  const { CheckpointFollower } = await load('evidence/checkpoint-follower.js');
  await app.get(CheckpointFollower).beforeApplicationShutdown();
  const owner = new pg.Client({ connectionString: owningUrl });
  await owner.connect();
  await owner.query('DROP INDEX audit_events_actor');
  await owner.end();
}

/** The time on the processor of a process, of its children and of those that have ended; 0 where /proc does not tell. */
function secondsOf(parent) {
  if (!existsSync('/proc/self/stat')) return 0;
  let ticks = 0;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    let fields;
    try {
      fields = readFileSync(`/proc/${entry}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
    } catch {
      continue;
    }
    const [own, ended] = [Number(fields[11]) + Number(fields[12]), Number(fields[13]) + Number(fields[14])];
    if (Number(entry) === parent) ticks += own + ended;
    else if (Number(fields[1]) === parent) ticks += own;
  }
  return ticks / TICKS_A_SECOND;
}

async function compare() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '6' },
      seconds: { type: 'string', default: '8' },
      connections: { type: 'string', default: '64' },
      alg: { type: 'string', default: 'RS256' },
    },
  });
  const connections = Number(values.connections);
  const builds = [];
  for (const dist of positionals) builds.push(await start(path.resolve(dist), values.alg));
  for (const build of builds) await load(build, 3, connections);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    // In turns, and each as often first.
    for (const [turn] of builds.entries()) {
      const build = builds[(turn + round) % builds.length];
      build.rounds.push(await load(build, Number(values.seconds), connections));
    }
    console.log(builds.map(({ rounds }) => rounds.at(-1).rate.toFixed(0)).join(', '), 'tokens a second');
  }
  const [first] = builds;
  for (const build of builds) {
    const of = (member) => mean(build.rounds.map((round) => round[member]));
    const toFirst = (figure) => spread(build.rounds.map((round, n) => figure(round) / figure(first.rounds[n])));
    console.log(
      `${build.dist}: ${of('rate').toFixed(0)} tokens a second, ${of('node').toFixed(0)} µs of Node and ${of('postgres').toFixed(0)} µs of PostgreSQL a token, p99 ${of('p99').toFixed(1)} ms;`,
      `to the first, round by round: tokens ${toFirst(({ rate }) => rate)}; time on the processor ${toFirst(({ node, postgres }) => node + postgres)}`,
    );
  }
  for (const { child } of builds) child.stdin.end();
}

async function start(dist, alg) {
  const child = spawn(process.execPath, [process.argv[1], '--serve', dist], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '2', SIGNING_ALG: alg },
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${dist} did not start`);
    if (value.startsWith('{')) {
      return { dist, child, lines, rounds: [], ...JSON.parse(value), agent: new Agent({ keepAlive: true }) };
    }
  }
}

async function used({ child, lines }) {
  child.stdin.write('\n');
  return JSON.parse((await lines.next()).value);
}

/**
 * Asks for tokens as fast as they come, for some seconds: how many came in each, how long 99 % of them took at most, in
 * milliseconds, and what one cost in microseconds.
 */
async function load(build, seconds, connections) {
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: build.clientId,
    client_secret: build.clientSecret,
  }).toString();
  const before = await used(build);
  const started = performance.now();
  const end = started + seconds * 1000;
  const latencies = [];
  const worker = async () => {
    for (let asked = performance.now(); asked < end; asked = performance.now()) {
      await ask(build, body);
      latencies.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  const count = latencies.length;
  const rate = (count * 1000) / (performance.now() - started);
  const after = await used(build);
  const each = (member) => ((after[member] - before[member]) * 1e6) / count;
  const p99 = latencies.sort((a, b) => a - b)[Math.floor(0.99 * count)];
  return { rate, p99, node: each('node'), postgres: each('postgres') };
}

function mean(all) {
  return all.reduce((sum, value) => sum + value, 0) / all.length;
}

/** Median, mean and the middle half of some ratios. */
function spread(ratios) {
  const sorted = [...ratios].sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))].toFixed(3);
  return `median ${at(0.5)}, mean ${mean(sorted).toFixed(3)}, middle half ${at(0.25)} to ${at(0.75)}`;
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

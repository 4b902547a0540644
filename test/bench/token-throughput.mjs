// Token throughput of two builds, in turns: node test/bench/token-throughput.mjs DIST_BEFORE DIST_AFTER [--rounds 6]
// [--seconds 8]. Each build runs in a process of its own with a PostgreSQL of its own; the load comes from this process.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

const CONCURRENCY = 64;

if (process.argv[2] === '--serve') await serve(process.argv[3]);
else await compare();

/** Runs one build until standard input ends; says where it listens and who its client is. */
async function serve(dist) {
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
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: '0', ISSUER: 'http://bench.test' });
  const { servingUrl } = postgres;
  const app = await createApp({ config, clock: new SystemClock(), masterKey: randomBytes(32), servingUrl });
  const client = await app.get(OperatorService).ensure(null);
  await app.listen({ host: '127.0.0.1', port: 0 });
  console.log(JSON.stringify({ url: await app.getUrl(), ...client }));
  for await (const _ of process.stdin);
  await app.close();
  await postgres.stop();
  rmSync(postgres.dataDirectory, { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}

async function compare() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string', default: '6' }, seconds: { type: 'string', default: '8' } },
  });
  const builds = [];
  for (const dist of positionals) builds.push(await start(path.resolve(dist)));
  const rates = builds.map(() => []);
  for (const build of builds) await load(build, 3);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    // In turns, and each first as often as the other.
    const order = round % 2 === 0 ? [0, 1] : [1, 0];
    for (const index of order) rates[index].push(await load(builds[index], Number(values.seconds)));
    console.log(rates.map((all) => all.at(-1).toFixed(0)).join(' and '), 'tokens a second');
  }
  const ratios = rates[1].map((rate, round) => rate / rates[0][round]).sort((a, b) => a - b);
  const mean = (all) => all.reduce((sum, rate) => sum + rate, 0) / all.length;
  console.log(`mean ${rates.map((all) => mean(all).toFixed(0)).join(' and ')} tokens a second`);
  console.log(
    `after / before: ratio of the means ${(mean(rates[1]) / mean(rates[0])).toFixed(3)}, rounds ${ratios.map((ratio) => ratio.toFixed(2)).join(' ')}`,
  );
  for (const { child } of builds) child.stdin.end();
}

async function start(dist) {
  const child = spawn(process.execPath, [process.argv[1], '--serve', dist], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '2' },
  });
  for await (const line of createInterface(child.stdout)) {
    if (line.startsWith('{')) return { child, ...JSON.parse(line), agent: new Agent({ keepAlive: true }) };
  }
  throw new Error(`${dist} did not start`);
}

/** Asks for tokens as fast as they come, for some seconds; resolves to how many came in each. */
async function load(build, seconds) {
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: build.clientId,
    client_secret: build.clientSecret,
  }).toString();
  const started = performance.now();
  const end = started + seconds * 1000;
  let count = 0;
  const worker = async () => {
    while (performance.now() < end) {
      await ask(build, body);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return (count * 1000) / (performance.now() - started);
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

// npm run bench [-- --quick] [--rounds N] [--seconds N]
//
// Measures the service as shipped against the ceiling of signatures alone and against node-oidc-provider, in turn, on one
// machine, and prints medians of ratios within a round: machines swing, ratios hold. Writes test/bench/results/.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { signatureCeiling } from './ceiling.mjs';
import { report } from './report.mjs';

const HERE = import.meta.dirname;
const ROOT = path.join(HERE, '../..');
const CLIENT_ID = '11111111-1111-4111-8111-111111111111';
const CLIENT_SECRET = 'bench-secret-0123456789-abcdefghijklmnop';

const { values } = parseArgs({
  options: { quick: { type: 'boolean' }, rounds: { type: 'string' }, seconds: { type: 'string' } },
});
const rounds = Number(values.rounds ?? (values.quick ? 2 : 5));
const seconds = Number(values.seconds ?? (values.quick ? 3 : 8));

const children = [];
const data = fs.mkdtempSync(path.join(os.tmpdir(), 'agentidp-bench-'));
try {
  await main();
} finally {
  await Promise.all(children.map(stop));
  fs.rmSync(data, { recursive: true, force: true });
}

async function main() {
  if (process.getuid?.() === 0) fs.chmodSync(data, 0o711);
  const results = [];
  for (const alg of values.quick ? ['RS256'] : ['RS256', 'ES256']) results.push(...(await measureAlgorithm(alg)));
  const about = {
    rounds,
    seconds,
    node: process.version,
    cpu: os.cpus()[0]?.model ?? '',
    cores: os.availableParallelism(),
  };
  report(path.join(HERE, 'results'), about, results);
}

async function measureAlgorithm(alg) {
  const ours = await startOurs(alg);
  const rival = await startRival(alg);
  const form = `grant_type=client_credentials&client_id=${CLIENT_ID}&client_secret=${CLIENT_SECRET}&scope=agents%3Aread`;
  const oursToken = (await post(`${ours}/api/v1/token`, form.replace('agents%3Aread', 'tokens%3Aread'))).access_token;
  const rivalOpaque = (await post(`${rival}/token`, form)).access_token;
  const cases = [16, 64].flatMap((connections) => [
    {
      name: `token ${alg} c=${connections}`,
      connections,
      ours: { url: `${ours}/api/v1/token`, body: form },
      rival: { url: `${rival}/token`, body: `${form}&resource=urn%3Abench%3Aapi` },
      ceiling: true,
    },
    ...(alg === 'RS256'
      ? [
          {
            name: `introspection c=${connections}`,
            connections,
            ours: { url: `${ours}/api/v1/token/introspect`, body: `token=${oursToken}`, bearer: oursToken },
            rival: {
              url: `${rival}/token/introspection`,
              body: `token=${rivalOpaque}&client_id=${CLIENT_ID}&client_secret=${CLIENT_SECRET}`,
            },
            ceiling: false,
          },
        ]
      : []),
  ]);
  const results = cases.map(({ name }) => ({ name, rounds: [] }));
  for (const side of ['ours', 'rival']) for (const one of cases) await load(one[side], one.connections, 2);
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, one] of cases.entries()) {
      const before = one.ceiling ? await signatureCeiling(alg, 1) : null;
      const first = round % 2 === 0 ? 'ours' : 'rival';
      const second = first === 'ours' ? 'rival' : 'ours';
      const measured = { [first]: await load(one[first], one.connections, seconds) };
      measured[second] = await load(one[second], one.connections, seconds);
      const after = one.ceiling ? await signatureCeiling(alg, 1) : null;
      results[index].rounds.push({ ...measured, ceiling: before === null ? null : (before + after) / 2 });
      console.error(
        `${one.name}: round ${round + 1}: ${Math.round(measured.ours.rate)} to ${Math.round(measured.rival.rate)} a second`,
      );
    }
  }
  await Promise.all(children.splice(0).map(stop));
  return results;
}

async function startOurs(alg) {
  const port = await freePort();
  const child = run(path.join(ROOT, 'dist/src/main.js'), {
    PORT: String(port),
    DATA_DIR: path.join(data, alg),
    SIGNING_ALG: alg,
    BOOTSTRAP_CLIENT_ID: CLIENT_ID,
    BOOTSTRAP_CLIENT_SECRET: CLIENT_SECRET,
    UV_THREADPOOL_SIZE: String(os.availableParallelism()),
  });
  await line(child, 'listens on');
  return `http://127.0.0.1:${port}`;
}

async function startRival(alg) {
  const port = await freePort();
  const child = run(path.join(HERE, 'rivals/oidc-provider.mjs'), {
    PORT: String(port),
    ALG: alg,
    CLIENT_ID,
    CLIENT_SECRET,
    NODE_ENV: 'production',
  });
  await line(child, 'listening');
  return `http://127.0.0.1:${port}`;
}

function run(file, env) {
  const child = spawn(process.execPath, [file], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

/** Resolves when the child has written a line with `text`; what it writes afterwards is read and dropped. */
function line(child, text) {
  return new Promise((resolve, reject) => {
    let seen = '';
    child.once('exit', (code) => reject(new Error(`a server ended with ${code} before it listened`)));
    child.stdout.on('data', (chunk) => {
      if (seen === null) return;
      seen += chunk;
      if (!seen.includes(text)) return;
      seen = null;
      resolve();
    });
  });
}

function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return undefined;
  return new Promise((resolve) => {
    child.once('exit', resolve);
    child.kill('SIGTERM');
  });
}

async function post(url, body) {
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  const response = await fetch(url, { method: 'POST', headers, body });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}

/** Drives one endpoint from a process of its own; any answer but 200 is an error that ends the run. */
async function load({ url, body, bearer }, connections, duration) {
  const args = [
    ...[path.join(HERE, 'node_modules/autocannon/autocannon.js'), '--json', '-c', String(connections)],
    ...['-d', String(duration), '-m', 'POST', '-b', body, '-H', 'content-type=application/x-www-form-urlencoded'],
    ...(bearer === undefined ? [] : ['-H', `authorization=Bearer ${bearer}`]),
    url,
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let output = '';
  for await (const chunk of child.stdout) output += chunk;
  const { requests, latency, non2xx, errors, timeouts } = JSON.parse(output);
  if (non2xx + errors + timeouts > 0)
    throw new Error(`${url}: ${non2xx} refusals, ${errors} errors, ${timeouts} timeouts`);
  return { rate: requests.average, p50: latency.p50, p99: latency.p99 };
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/*
 * node test/bench/webhooks.mjs: 10,000 events to 5 subscriptions, and what that costs the token path. Starts the built
 * service with a PostgreSQL of its own in a temporary folder; receivers and load generator are two further processes
 * of this file. Prints JSON.
 */
import { fork, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';

const EVENTS = 10_000;
const SUBSCRIPTIONS = 5;
const CONNECTIONS = 32;
const ROUNDS = 5;
/** Rounds before them that are not counted, until the code that delivers is compiled for good. */
const WARM_UP_ROUNDS = 1;
const MEASURE_MS = 6000;
/** How long each answer takes while the events of a round are made, so that they wait for the window. */
const HOLD_MS = 1000;
/** A folder that no PostgreSQL runs on. */
const NOWHERE = '\0';

if (process.argv[2] === 'receiver') receive();
else if (process.argv[2] === 'load') generateLoad();
else await main();

/**
 * Counts what arrives at each path; tells when asked. It reads HTTP by hand: a receiver runs elsewhere in earnest, so it
 * is to take as little of the machine as it can.
 */
function receive() {
  const seen = new Map();
  let repeated = 0;
  let held = false;
  const take = (head) => {
    const [path] = /\/\S*/.exec(head);
    const [, id] = /\r\nwebhook-id: (\S+)/i.exec(head);
    const ids = seen.get(path) ?? new Set();
    seen.set(path, ids);
    if (ids.has(id)) repeated += 1;
    ids.add(id);
  };
  const server = createServer((socket) => {
    let text = '';
    const accept = () => socket.write('HTTP/1.1 204 No Content\r\n\r\n');
    socket.setNoDelay(true).setEncoding('latin1');
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      text += chunk;
      const end = text.indexOf('\r\n\r\n') + 4;
      if (end === 3 || text.length < end + Number(/\r\ncontent-length: (\d+)/i.exec(text)[1])) return;
      take(text.slice(0, end));
      text = '';
      if (held) setTimeout(accept, HOLD_MS);
      else accept();
    });
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
  process.on('message', (told) => {
    if (told !== 'tell') held = told === 'hold';
    process.send({ count: [...seen.values()].reduce((sum, ids) => sum + ids.size, 0), repeated });
  });
}

/** Asks for tokens over kept connections until it is told to stop. */
function generateLoad() {
  const [, , , url, body] = process.argv;
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let count = 0;
  const paused = [];
  let isPaused = false;
  const next = () => (isPaused ? paused.push(one) : setImmediate(one));
  const one = () =>
    post(url, body, agent).then((status) => {
      if (status === 200) count += 1;
      next();
    }, next);
  for (let connection = 0; connection < CONNECTIONS; connection += 1) void one();
  process.on('message', (told) => {
    if (told === 'pause') isPaused = true;
    if (told === 'resume') {
      isPaused = false;
      for (const resumed of paused.splice(0)) void resumed();
    }
    process.send({ count });
  });
  process.send({});
}

function post(url, body, agent, headers = {}) {
  return new Promise((resolve, reject) => {
    const type = 'application/x-www-form-urlencoded';
    const options = {
      method: 'POST',
      agent,
      headers: { 'content-type': type, 'content-length': body.length, ...headers },
    };
    const outgoing = request(url, options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function main() {
  const data = mkdtempSync(join(tmpdir(), 'agentidp-bench-'));
  chmodSync(data, 0o711);
  const port = 3900 + (process.pid % 100);
  const base = `http://127.0.0.1:${port}/api/v1`;
  const clientId = randomUUID();
  const clientSecret = randomUUID() + randomUUID();
  const children = [];
  try {
    const service = spawn(process.execPath, ['dist/src/main.js'], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...process.env,
        ...{ PORT: String(port), DATA_DIR: join(data, 'data'), LOG_LEVEL: 'silent', NODE_ENV: 'development' },
        ...{ BOOTSTRAP_CLIENT_ID: clientId, BOOTSTRAP_CLIENT_SECRET: clientSecret },
        ...{ WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1', UV_THREADPOOL_SIZE: String(availableParallelism()) },
      },
    });
    children.push(service);
    const form = `grant_type=client_credentials&client_id=${clientId}&client_secret=${clientSecret}`;
    while (
      !(await fetch(`http://127.0.0.1:${port}/health/ready`).then(
        ({ ok }) => ok,
        () => false,
      ))
    )
      await delay(100);
    const receiver = fork(import.meta.filename, ['receiver']);
    children.push(receiver);
    const { port: receiverPort } = await answer(receiver);
    const load = fork(import.meta.filename, ['load', `${base}/token`, form]);
    children.push(load);
    await answer(load);

    await delay(8000);
    const token = await accessToken(base, form);
    // The events are the tokens of another organization: those of the load have no subscription.
    const { organizationId } = await create(base, token, '/organizations', {
      ...{ name: 'Subscribed', slug: 'subscribed', tier: 'enterprise' },
    });
    for (let index = 0; index < SUBSCRIPTIONS; index += 1) {
      const url = `http://127.0.0.1:${receiverPort}/${index}`;
      await create(base, token, '/webhooks', { url, events: ['token.issued'], organizationId });
    }
    const { agentId } = await create(base, token, '/agents', { name: 'subscribed', organizationId });
    const { clientSecret: secret } = await create(base, token, `/agents/${agentId}/credentials`, {});
    const subscribed = `grant_type=client_credentials&client_id=${agentId}&client_secret=${secret}`;
    const rounds = [];
    // With and without deliveries in turn, so that whatever else the machine does falls on both.
    const cpu = () => cpuSeconds(data, [service.pid, load.pid, receiver.pid]);
    const receiverCpu = () => cpuSeconds(NOWHERE, [receiver.pid]);
    for (let round = 1; round <= WARM_UP_ROUNDS + ROUNDS; round += 1) {
      const cpuFirst = cpu();
      const quiet = await rate(load, MEASURE_MS);
      const quietCpu = cpu() - cpuFirst;
      await ask(load, 'pause');
      await ask(receiver, 'hold');
      await makeEvents(base, subscribed, EVENTS / ROUNDS);
      await ask(load, 'resume');
      await delay(1000);
      await ask(receiver, 'go');
      await delay(500);
      const [cpuThen, receiverThen] = [cpu(), receiverCpu()];
      const { count: had } = await ask(receiver);
      const started = performance.now();
      const busy = await rate(load, MEASURE_MS);
      const { count: then } = await ask(receiver);
      const seconds = (performance.now() - started) / 1000;
      const busyCpu = cpu() - cpuThen;
      const receivedCpu = receiverCpu() - receiverThen;
      await ask(load, 'pause');
      while ((await ask(receiver)).count < (round * EVENTS * SUBSCRIPTIONS) / ROUNDS) await delay(100);
      await ask(load, 'resume');
      await delay(500);
      rounds.push({ quiet, busy, meanwhile: (then - had) / seconds, quietCpu, busyCpu, receivedCpu, seconds });
      console.error(`${Math.round(performance.now() / 1000)} s: ${inShort(rounds[round - 1])}`);
    }
    rounds.splice(0, WARM_UP_ROUNDS);
    const of = (name) => mean(rounds.map((one) => one[name]));
    const { count, repeated } = await ask(receiver);
    const seconds = MEASURE_MS / 1000;
    const cpuMsAToken = (of('quietCpu') * 1000) / (of('quiet') * seconds);
    const cpuMsADelivery =
      (of('busyCpu') * 1000 - of('busy') * seconds * cpuMsAToken) / (of('meanwhile') * of('seconds'));
    const report = {
      hardware: `${cpus()[0]?.model}, ${availableParallelism()} cores`,
      loadAverage: round(loadavg()[0]),
      deliveries: count,
      repeated,
      deliveriesPerSecondUnderLoad: round(of('meanwhile')),
      tokensPerSecondWithoutDeliveries: round(of('quiet')),
      tokensPerSecondWithDeliveries: round(of('busy')),
      tokenThroughputFallsByPercent: round((1 - of('busy') / of('quiet')) * 100),
      // Service, PostgreSQL, receiver and load generator together: independent of what else the machine does.
      cpuMillisecondsAToken: round(cpuMsAToken * 100) / 100,
      cpuMillisecondsADelivery: round(cpuMsADelivery * 100) / 100,
      ofWhichTheReceiver: round((of('receivedCpu') * 1e5) / (of('meanwhile') * of('seconds'))) / 100,
      shareOfTwoCoresAt500DeliveriesASecondInPercent: round((500 * cpuMsADelivery * 100) / 2000),
      rounds: rounds.map(inShort),
    };
    console.log(JSON.stringify(report, null, 2));
    service.kill('SIGTERM');
    await new Promise((resolve) => service.once('exit', resolve));
  } finally {
    for (const child of children) child.kill('SIGKILL');
    rmSync(data, { recursive: true, force: true });
  }
}

/** Tokens a second without and with deliveries, and deliveries a second. */
function inShort({ quiet, busy, meanwhile }) {
  return [quiet, busy, meanwhile].map(Math.round).join(' / ');
}

/** Has tokens issued: each is one event. */
async function makeEvents(base, form, count) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let left = count;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      // On a machine that does other things too the service may be overloaded for a moment.
      while ((await post(`${base}/token`, form, agent)) === 503) await delay(100);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
  agent.destroy();
}

async function create(base, token, path, members) {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const response = await fetch(base + path, { method: 'POST', headers, body: JSON.stringify(members) });
  if (response.status !== 201) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

async function accessToken(base, form) {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const response = await fetch(`${base}/token`, { method: 'POST', headers, body: form });
  return (await response.json()).access_token;
}

async function rate(load, milliseconds) {
  const started = performance.now();
  const { count: first } = await ask(load);
  await delay(milliseconds);
  const { count: last } = await ask(load);
  return (last - first) / ((performance.now() - started) / 1000);
}

function ask(child, what = 'tell') {
  child.send(what);
  return answer(child);
}

function answer(child) {
  return new Promise((resolve) => child.once('message', resolve));
}

/** The processor time that the processes and PostgreSQL under `data` have used so far; NaN where there is no /proc. */
function cpuSeconds(data, pids) {
  try {
    const running = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    const stats = new Map(running.map((pid) => [Number(pid), read(`/proc/${pid}/stat`)]));
    const masters = running.filter((pid) => {
      const [program = '', ...rest] = read(`/proc/${pid}/cmdline`).split('\0');
      return program.endsWith('postgres') && rest.some((argument) => argument.startsWith(data));
    });
    const counted = new Set([...pids, ...masters.map(Number)]);
    let ticks = 0;
    for (const [pid, stat] of stats) {
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (!counted.has(pid) && !masters.includes(fields[1])) continue;
      ticks += Number(fields[11]) + Number(fields[12]);
    }
    return ticks / 100;
  } catch {
    return Number.NaN;
  }
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function round(value) {
  return Math.round(value * 10) / 10;
}

// A load generator that costs little: kept connections, one request at a time on each, written and read on bare
// sockets. A process of its own: `drive` starts it, and it answers with what it measured.
import { fork } from 'node:child_process';
import { connect } from 'node:net';

/** Latencies are counted in steps of so many milliseconds, up to the last step. */
const STEP_MS = 0.02;
const STEPS = 500_000;
/** As Fastify and as Koa write it. */
const LENGTHS = ['\r\ncontent-length: ', '\r\nContent-Length: '].map((name) => Buffer.from(name, 'latin1'));
const END = Buffer.from('\r\n\r\n', 'latin1');

/**
 * Drives one endpoint; each connection asks again as soon as it has its answer.
 *
 * @param {{ port: number, requests: string[], connections: number, seconds: number, statuses?: number[], keep?: number,
 *   onBodies?: (bodies: string[]) => void }} options `requests` are whole HTTP requests, taken in turn; `statuses` are
 *   those that are no errors, only 200 unless given; after `keep` answers it ends, and hands their bodies to `onBodies`
 * @returns {Promise<{ rate: number, count: number, p50: number, p99: number, most: number, cpuSeconds: number }>}
 *   requests a second, latencies in milliseconds, and the generator's own processor time
 * @throws Error where a connection broke or an answer had another status
 */
export function drive(options) {
  const child = fork(import.meta.filename, ['generate'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  const { onBodies = () => undefined, ...sent } = options;
  return new Promise((resolve, reject) => {
    child.once('message', (message) => {
      child.disconnect();
      if (message.error === undefined) {
        onBodies(message.bodies);
        resolve(message);
      } else reject(new Error(message.error));
    });
    child.once('exit', (code) => reject(new Error(`the load generator ended with ${code}`)));
    child.send(sent);
  });
}

/** A whole HTTP/1.1 request. */
export function httpRequest({ method = 'POST', port, path, headers = {}, body = '' }) {
  const all = {
    host: `127.0.0.1:${port}`,
    ...(body === '' ? {} : { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length }),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`;
}

if (process.argv[2] === 'generate') process.once('message', (options) => void generate(options));

async function generate({ port, requests, connections, seconds, statuses = [200], keep = 0 }) {
  const latencies = new Uint32Array(STEPS);
  const bodies = [];
  let next = 0;
  let count = 0;
  let most = 0;
  const started = performance.now();
  const cpu = process.cpuUsage();
  const end = started + seconds * 1000;
  const one = () =>
    new Promise((resolve, reject) => {
      let sentAt = 0;
      let missing = 0;
      let text = '';
      const send = () => {
        const request = requests[next];
        next = next + 1 === requests.length ? 0 : next + 1;
        sentAt = performance.now();
        socket.write(request, 'latin1');
      };
      const receive = (size, buffer) => {
        if (missing === 0) {
          const status = (buffer[9] - 48) * 100 + (buffer[10] - 48) * 10 + buffer[11] - 48;
          if (!statuses.includes(status)) throw new Error(`status ${status}: ${buffer.toString('latin1', 0, size)}`);
          missing = wholeLength(buffer, size);
        }
        if (keep > 0) text += buffer.toString('latin1', 0, size);
        missing -= size;
        if (missing > 0) return true;
        if (missing < 0) throw new Error('an answer that nobody asked for');
        const now = performance.now();
        const took = now - sentAt;
        if (took > most) most = took;
        latencies[Math.min(STEPS - 1, (took / STEP_MS) | 0)] += 1;
        count += 1;
        if (keep > 0 && bodies.length < keep) bodies.push(text.slice(text.indexOf('\r\n\r\n') + 4));
        text = '';
        if (now < end && (keep === 0 || bodies.length < keep)) send();
        else resolve(socket.destroy());
        return true;
      };
      const socket = connect({
        host: '127.0.0.1',
        port,
        noDelay: true,
        onread: {
          buffer: Buffer.alloc(65_536),
          callback: (size, buffer) => {
            try {
              return receive(size, buffer);
            } catch (error) {
              reject(error);
              return false;
            }
          },
        },
      });
      socket.once('connect', send).once('error', reject);
      socket.once('close', () => reject(new Error('a connection was closed')));
    });
  try {
    await Promise.all(Array.from({ length: connections }, one));
    const took = (performance.now() - started) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const at = (share) => percentile(latencies, count, share);
    const cpuSeconds = (user + system) / 1e6;
    process.send({ rate: count / took, count, p50: at(0.5), p99: at(0.99), most, cpuSeconds, bodies });
  } catch (error) {
    process.send({ error: error.message });
  }
}

/** The length of an answer, by its head, which has to be in the first piece. */
function wholeLength(buffer, size) {
  const head = buffer.indexOf(END);
  const ends = head === -1 || head > size ? 0 : head;
  const at = LENGTHS.map((name) => buffer.subarray(0, ends).indexOf(name)).find((found) => found !== -1);
  if (at === undefined) throw new Error('an answer without a length');
  let length = 0;
  for (let digit = at + LENGTHS[0].length; buffer[digit] !== 13; digit += 1) length = length * 10 + buffer[digit] - 48;
  return head + END.length + length;
}

function percentile(latencies, count, share) {
  const wanted = share * count;
  let seen = 0;
  for (let step = 0; step < STEPS; step += 1) {
    seen += latencies[step];
    if (seen >= wanted) return (step + 1) * STEP_MS;
  }
  return STEPS * STEP_MS;
}

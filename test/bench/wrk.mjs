import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { text } from 'node:stream/consumers';

/** Whether there is a `wrk` on the PATH. */
export const isWrkThere = () => spawnSync('wrk', ['--version']).error === undefined;

/**
 * Drives one endpoint with wrk: a check of our own generator by one that others know.
 *
 * @param {{ port: number, requests: [string], connections: number, seconds: number }} options as those of `drive`; one
 *   request, whose answer is to be a success
 * @returns what `drive` returns
 * @throws Error where a connection broke or an answer was no success
 */
export async function driveByWrk({ port, requests: [request], connections, seconds }) {
  const script = path.join(import.meta.dirname, 'request.lua');
  // One thread, as our generator has. wrk takes whole seconds.
  const duration = `${Math.max(1, Math.round(seconds))}s`;
  const child = spawn('wrk', ['-t1', `-c${connections}`, `-d${duration}`, '-s', script, `http://127.0.0.1:${port}/`], {
    env: { ...process.env, BENCH_REQUEST: request },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const printed = await text(child.stdout);
  const last = printed.trimEnd().split('\n').at(-1);
  if (!last.startsWith('{')) throw new Error(`wrk failed: ${printed}`);
  const { count, micros, failed, p50, p99, most, cpuSeconds } = JSON.parse(last);
  if (failed > 0) throw new Error(`wrk: ${failed} of ${count} requests failed`);
  return { rate: (count / micros) * 1e6, count, p50: p50 / 1000, p99: p99 / 1000, most: most / 1000, cpuSeconds };
}

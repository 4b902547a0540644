import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { measure } from '../measure.mjs';
import { startOn, startPostgres, stopAll } from '../service.mjs';

/** Where JavaScript's own thread spends a token: a CPU profile by V8, added up by package. */
export async function profile({ seconds, warmUp }) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'agentidp-profile-'));
  const ours = await startOn(await startPostgres(), {
    nodeArguments: ['--cpu-prof', `--cpu-prof-dir=${folder}`],
  });
  await measure(ours, [ours.tokenRequest()], 64, warmUp);
  const { count, cost } = await measure(ours, [ours.tokenRequest()], 64, seconds);
  await ours.stop();
  const [file] = readdirSync(folder);
  const shares = byPackage(JSON.parse(readFileSync(path.join(folder, file), 'utf8')), seconds * 1e6);
  await stopAll();
  rmSync(folder, { recursive: true, force: true });
  const busy = [...shares.values()].reduce((sum, time) => sum + time, 0);
  return {
    name: 'profile',
    title: `Where the script's ${cost === null ? '' : `${Math.round(cost.script)} µs `}of a token go (64 connections, the profiler included)`,
    head: ['part', 'share of the script, %', 'µs a token'],
    rows: [...shares]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 20)
      .map(([name, time]) => [
        name,
        ((time / busy) * 100).toFixed(1),
        cost === null ? '' : ((time / busy) * cost.script).toFixed(1),
      ]),
    data: { count, cost },
  };
}

/** Without what came before the last `lastMicroseconds`: the start and the warm-up. */
function byPackage({ nodes, samples, timeDeltas, startTime, endTime }, lastMicroseconds) {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, partOf(callFrame)]));
  const shares = new Map();
  let at = startTime;
  for (const [index, id] of samples.entries()) {
    at += timeDeltas[index];
    if (at < endTime - lastMicroseconds) continue;
    const name = names.get(id);
    if (name === '(idle)') continue;
    shares.set(name, (shares.get(name) ?? 0) + timeDeltas[index]);
  }
  return shares;
}

function partOf({ url, functionName }) {
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*node_modules\/)/.exec(url);
  if (inPackage !== null) return inPackage[1];
  if (url.includes('/dist/src/')) return `ours: ${/dist\/src\/(?:platform\/)?([^/]+)/.exec(url)[1]}`;
  if (url.startsWith('node:'))
    return url.startsWith('node:internal/crypto')
      ? 'node: crypto'
      : `node: ${url.slice(5).replace('internal/', '').split('/')[0]}`;
  return ['writev', 'writeString', 'writeBuffer'].includes(functionName)
    ? 'system calls that write'
    : functionName || 'other';
}

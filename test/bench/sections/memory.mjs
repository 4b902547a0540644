import { setTimeout as delay } from 'node:timers/promises';
import { drive } from '../load.mjs';
import { residentMemory } from '../processor-time.mjs';
import { startService, stopAll } from '../service.mjs';

const MB = 1_048_576;

/** Resident memory under tokens and introspections in turn, for some minutes. */
export async function memory({ minutes }) {
  const ours = await startService();
  const bearer = await ours.token('tokens:read');
  const idle = residentMemory(ours.pid) / MB;
  const kinds = [[ours.tokenRequest()], [ours.introspectionRequest(bearer, bearer)]];
  const samples = [];
  const end = performance.now() + minutes * 60_000;
  const sampling = new AbortController();
  const sampled = (async () => {
    while (!sampling.signal.aborted) {
      samples.push(residentMemory(ours.pid) / MB);
      await delay(500);
    }
  })();
  for (let turn = 0; performance.now() < end; turn += 1) {
    const seconds = Math.min(10, Math.max(1, (end - performance.now()) / 1000));
    await drive({ port: ours.port, requests: kinds[turn % 2], connections: 64, seconds });
  }
  sampling.abort();
  await sampled;
  await stopAll();
  const quarter = Math.ceil(samples.length / 4);
  const most = (part) => Math.max(...part).toFixed(0);
  return {
    name: 'memory',
    title: `Resident memory of the service in MB, 64 connections, ${minutes} minutes (asked for: under 200 and 300, flat)`,
    head: ['after the start', 'most under load', 'most in the first quarter', 'most in the last quarter'],
    rows: [[idle.toFixed(0), most(samples), most(samples.slice(0, quarter)), most(samples.slice(-quarter))]],
    data: samples.map(Math.round),
  };
}

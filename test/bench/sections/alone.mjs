import os from 'node:os';
import { signatureCeiling } from '../ceiling.mjs';
import { measure } from '../measure.mjs';
import { startService, stopAll } from '../service.mjs';

/** One connection: what a caller waits for when nobody else asks. */
export async function alone({ seconds, warmUp }) {
  const ours = await startService();
  const bearer = await ours.token('tokens:read agents:read');
  const signatureMs = (1000 * os.availableParallelism()) / (await signatureCeiling('RS256', 1));
  const rows = [];
  for (const [name, request, wanted] of [
    ['token RS256', ours.tokenRequest(), `signature ${signatureMs.toFixed(2)} + 2 = ${(signatureMs + 2).toFixed(2)}`],
    ['introspection', ours.introspectionRequest(bearer, bearer), '1.20'],
  ]) {
    await measure(ours, [request], 8, warmUp);
    const { rate, p50, p99 } = await measure(ours, [request], 1, seconds);
    rows.push([name, wanted, p50.toFixed(2), p99.toFixed(2), Math.round(rate)]);
  }
  await stopAll();
  return {
    name: 'alone',
    title: 'One connection',
    head: ['case', 'p50 asked for, ms', 'p50 ms', 'p99 ms', 'requests a second'],
    rows,
  };
}

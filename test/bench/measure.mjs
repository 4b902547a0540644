import { signatureCeiling } from './ceiling.mjs';
import { drive } from './load.mjs';
import { processorTime } from './processor-time.mjs';
import { driveByWrk } from './wrk.mjs';

/**
 * Drives a service and tells what it cost.
 *
 * @param generate `drive`, or what takes and returns the same
 * @returns what `drive` measured, and `cost`: microseconds of processor time a request, null where there is no /proc
 */
export async function measure(service, requests, connections, seconds, statuses = [200], generate = drive) {
  const before = processorTime(service.pid, service.poolSize);
  const measured = await generate({ port: service.port, requests, connections, seconds, statuses });
  const after = processorTime(service.pid, service.poolSize);
  if (before === null || after === null) return { ...measured, cost: null };
  const each = (name) => ((after[name] - before[name]) / measured.count) * 1e6;
  const cost = { script: each('script'), pool: each('pool'), helpers: each('helpers'), postgres: each('postgres') };
  return { ...measured, cost: { ...cost, generator: (measured.cpuSeconds / measured.count) * 1e6 } };
}

/**
 * Measures cases in turn, the sides of a case one after the other and in changing order, so that what else the machine
 * does falls on all of them.
 *
 * @param {{ name: string, ceiling?: 'RS256' | 'ES256', sides: Record<string, { service: object, requests: string[],
 *   connections: number, statuses?: number[] }> }[]} cases
 * @param options `wrk`: whether wrk drives the cases that it can; their names say so then
 * @returns for each case its rounds: what each side came to, and `ceiling`, the signatures a second around the round
 */
export async function inTurn(cases, { rounds, seconds, warmUp, wrk }) {
  const generators = cases.map(({ sides }) => (wrk && canBeDrivenByWrk(sides) ? driveByWrk : drive));
  const results = cases.map(({ name }, index) => ({
    name: generators[index] === driveByWrk ? `${name} (wrk)` : name,
    rounds: [],
  }));
  for (const [index, { sides }] of cases.entries()) {
    for (const { service, requests, connections, statuses } of Object.values(sides)) {
      await measure(service, requests, connections, warmUp, statuses, generators[index]);
    }
  }
  for (let round = 0; round < rounds; round += 1) {
    for (const [index, { name, ceiling, sides }] of cases.entries()) {
      const measured = {};
      const before = ceiling === undefined ? null : await signatureCeiling(ceiling, 1);
      const order = Object.entries(sides);
      if (round % 2 === 1) order.reverse();
      for (const [side, { service, requests, connections, statuses }] of order) {
        measured[side] = await measure(service, requests, connections, seconds, statuses, generators[index]);
      }
      if (ceiling !== undefined) measured.ceiling = (before + (await signatureCeiling(ceiling, 1))) / 2;
      results[index].rounds.push(measured);
      const rates = order.map(([side]) => `${side} ${Math.round(measured[side].rate)}`).join(', ');
      console.error(`${name}, round ${round + 1}: ${rates}`);
    }
  }
  return results;
}

/** wrk repeats one request, and takes every success for an answer and nothing else. */
function canBeDrivenByWrk(sides) {
  return Object.values(sides).every(({ requests, statuses }) => requests.length === 1 && statuses === undefined);
}

import { inTurn } from '../measure.mjs';
import { cells, median, ratioBars, spread } from '../report.mjs';
import { startRival, startService, stopAll } from '../service.mjs';
import { honestMix } from './honest-mix.mjs';

/** The processor time of a request without the load generator's, in microseconds. */
const total = ({ cost }) => cost.slice(0, 4).reduce((sum, one) => sum + Number(one), 0);

/** Tokens and introspections beside node-oidc-provider and the ceiling of signatures alone. */
export async function rivals(options) {
  const results = [];
  for (const alg of options.quick ? ['RS256'] : ['RS256', 'ES256']) {
    const ours = await startService({ alg });
    const rival = await startRival(alg);
    const bearer = await ours.token('tokens:read');
    const mix = alg === 'RS256' && !options.quick ? await honestMix(ours, bearer) : null;
    const cases = [16, 64].flatMap((connections) => {
      const side = (service, requests) => ({ service, requests, connections });
      const tokens = {
        name: `token ${alg}, ${connections} connections`,
        ceiling: alg,
        sides: { ours: side(ours, [ours.tokenRequest()]), rival: side(rival, [rival.tokenRequest()]) },
      };
      if (alg !== 'RS256') return [tokens];
      const theirs = side(rival, [rival.introspectionRequest()]);
      const one = side(ours, [ours.introspectionRequest(bearer, bearer)]);
      const introspections = { name: `introspection, ${connections} connections`, sides: { ours: one, rival: theirs } };
      if (mix === null) return [tokens, introspections];
      const mixed = {
        name: `introspection, honest mix, ${connections}`,
        sides: { ours: side(ours, mix), rival: theirs },
      };
      return [tokens, introspections, mixed];
    });
    results.push(...(await inTurn(cases, options)));
    await stopAll();
  }
  const ratio = ({ ours, rival }) => ours.rate / rival.rate;
  return {
    name: 'rivals',
    title: `Tokens and introspections, medians of ${options.rounds} rounds of ${options.seconds} s`,
    head: [
      ...['case', 'ours /s', 'p50 ms', 'p99 ms', 'oidc-provider /s', 'its p99 ms', 'ours : its', 'ours : ceiling'],
      ...['µs: script', 'signature', 'V8 helpers', 'PostgreSQL', 'load generator'],
      ...['its: script', 'signature', 'V8 helpers', 'its µs : ours, generator left out'],
    ],
    rows: results.map(({ name, rounds }) => {
      const [ours, rival] = [cells(rounds, 'ours'), cells(rounds, 'rival')];
      const ofCeiling =
        rounds[0].ceiling === undefined ? '' : spread(rounds, (round) => round.ours.rate / round.ceiling);
      return [
        ...[name, ours.rate, ours.p50, ours.p99, rival.rate, rival.p99, spread(rounds, ratio), ofCeiling],
        ...[...ours.cost, ...rival.cost.slice(0, 3), (total(rival) / total(ours)).toFixed(2)],
      ];
    }),
    data: results,
    svg: ratioBars(
      'Requests a second, ours : node-oidc-provider (line: equal)',
      results.map(({ name, rounds }) => ({ name, value: median(rounds.map(ratio)), text: spread(rounds, ratio) })),
    ),
  };
}

import { inTurn } from '../measure.mjs';
import { cells, median, ratioBars, spread } from '../report.mjs';
import { startNodeOauth, startPlainNest, startService, stopAll } from '../service.mjs';

const RIVALS = { plain: 'plain NestJS', nodeOauth: '@node-oauth/oauth2-server' };

/** Tokens and checks beside the plain NestJS way and @node-oauth/oauth2-server, all three on the same PostgreSQL. */
export async function others(options) {
  const ours = await startService();
  const plain = await startPlainNest(ours.postgres);
  const nodeOauth = await startNodeOauth(ours.postgres);
  const bearer = await ours.token('tokens:read');
  const results = await inTurn(
    [16, 64].flatMap((connections) => {
      const side = (service, request) => ({ service, requests: [request], connections });
      return [
        {
          name: `token, ${connections} connections`,
          sides: {
            ours: side(ours, ours.tokenRequest()),
            plain: side(plain, plain.tokenRequest()),
            nodeOauth: side(nodeOauth, nodeOauth.tokenRequest()),
          },
        },
        {
          name: `check, ${connections} connections`,
          sides: {
            ours: side(ours, ours.introspectionRequest(bearer, bearer)),
            nodeOauth: side(nodeOauth, nodeOauth.authenticateRequest()),
          },
        },
      ];
    }),
    options,
  );
  await stopAll();
  const pairs = results.flatMap(({ name, rounds }) =>
    Object.keys(RIVALS)
      .filter((rival) => rival in rounds[0])
      .map((rival) => ({ name, rounds, rival, ratio: (round) => round.ours.rate / round[rival].rate })),
  );
  return {
    name: 'others',
    title:
      'Tokens (RS256; of @node-oauth/oauth2-server opaque ones) and checks of them, beside others on the same PostgreSQL',
    head: [
      ...['case', 'ours /s', 'p99 ms', 'µs: Node', 'PostgreSQL'],
      ...['beside', 'its /s', 'its p99 ms', 'its µs: Node', 'its PostgreSQL', 'ours : its'],
    ],
    rows: pairs.map(({ name, rounds, rival, ratio }) => [
      ...[name, ...figures(rounds, 'ours')],
      ...[RIVALS[rival], ...figures(rounds, rival), spread(rounds, ratio)],
    ]),
    data: results,
    svg: ratioBars(
      'Requests a second, ours : others (line: equal)',
      pairs.map(({ name, rounds, rival, ratio }) => ({
        name: `${name}: ${rival}`,
        value: median(rounds.map(ratio)),
        text: spread(rounds, ratio),
      })),
    ),
  };
}

/** Rate, latency, and the processor time of a request: of Node with all its threads, and of PostgreSQL. */
function figures(rounds, side) {
  const { rate, p99, cost } = cells(rounds, side);
  const [script, pool, threads, postgres] = cost;
  return [rate, p99, cost[0] === '' ? '' : script + pool + threads, postgres];
}

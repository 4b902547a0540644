import { inTurn } from '../measure.mjs';
import { cells, spread } from '../report.mjs';
import { startOn, startPostgres, startService, stopAll } from '../service.mjs';

/** Two workers on one hot organization beside one process. */
export async function workers(options) {
  const one = await startService();
  const two = await startOn(await startPostgres(), { env: { WEB_CONCURRENCY: '2', UV_THREADPOOL_SIZE: '2' } });
  const bearers = [await one.token('tokens:read'), await two.token('tokens:read')];
  const results = await inTurn(
    [16, 64].flatMap((connections) => [
      {
        name: `token RS256, ${connections} connections`,
        sides: {
          one: { service: one, requests: [one.tokenRequest()], connections },
          two: { service: two, requests: [two.tokenRequest()], connections },
        },
      },
      {
        name: `introspection, ${connections} connections`,
        sides: {
          one: { service: one, requests: [one.introspectionRequest(bearers[0], bearers[0])], connections },
          two: { service: two, requests: [two.introspectionRequest(bearers[1], bearers[1])], connections },
        },
      },
    ]),
    options,
  );
  await stopAll();
  return {
    name: 'workers',
    title: 'WEB_CONCURRENCY=2 beside 1, one hot organization (asked for: 0.90)',
    head: ['case', '1 process /s', '2 workers /s', '2 : 1', 'p99 ms of 1', 'p99 ms of 2'],
    rows: results.map(({ name, rounds }) => {
      const [single, double] = [cells(rounds, 'one'), cells(rounds, 'two')];
      const ratio = spread(rounds, (round) => round.two.rate / round.one.rate);
      return [name, single.rate, double.rate, ratio, single.p99, double.p99];
    }),
    data: results,
  };
}

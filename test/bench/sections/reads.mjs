import { inTurn } from '../measure.mjs';
import { cells, spread } from '../report.mjs';
import { CLIENT_ID, startHello, startService, stopAll } from '../service.mjs';

/** A management read beside a route of NestJS on Fastify that answers a constant. */
export async function reads(options) {
  const ours = await startService();
  const hello = await startHello();
  const bearer = await ours.token('agents:read');
  const results = await inTurn(
    [16, 64].map((connections) => ({
      name: `GET /agents/{id}, ${connections} connections`,
      sides: {
        ours: { service: ours, requests: [ours.readRequest(`/agents/${CLIENT_ID}`, bearer)], connections },
        hello: { service: hello, requests: [hello.request], connections },
      },
    })),
    options,
  );
  await stopAll();
  return {
    name: 'reads',
    title: 'Management reads beside the hello of NestJS on Fastify (asked for: 0.50)',
    head: [
      'case',
      'ours /s',
      'p50 ms',
      'p99 ms',
      'hello /s',
      'ours : hello',
      'µs: script',
      'PostgreSQL',
      'hello script',
    ],
    rows: results.map(({ name, rounds }) => {
      const [ours, hello] = [cells(rounds, 'ours'), cells(rounds, 'hello')];
      const ratio = spread(rounds, (round) => round.ours.rate / round.hello.rate);
      return [name, ours.rate, ours.p50, ours.p99, hello.rate, ratio, ours.cost[0], ours.cost[3], hello.cost[0]];
    }),
    data: results,
  };
}

import { inTurn } from '../measure.mjs';
import { cells } from '../report.mjs';
import { startService, stopAll } from '../service.mjs';

/** Token requests of an organization whose quota is used up, beside those of one that gets its tokens. */
export async function quota(options) {
  const ours = await startService();
  const [spender, payer] = await ours.agents(2);
  const admin = await ours.postgres.admin();
  await admin.query('UPDATE organizations SET limit_tokens_per_month = 0 WHERE organization_id = $1', [
    spender.organizationId,
  ]);
  const requests = (agent) => [ours.tokenRequest('agents:read', agent)];
  const results = await inTurn(
    [16, 64].map((connections) => ({
      name: `${connections} connections`,
      sides: {
        refused: { service: ours, requests: requests(spender), connections, statuses: [403] },
        issued: { service: ours, requests: requests(payer), connections },
      },
    })),
    options,
  );
  await stopAll();
  return {
    name: 'quota',
    title: 'Refusals over the quota',
    head: ['case', 'refused /s', 'p99 ms', 'µs: script', 'signature', 'PostgreSQL', 'issued /s', 'its signature'],
    rows: results.map(({ name, rounds }) => {
      const [refused, issued] = [cells(rounds, 'refused'), cells(rounds, 'issued')];
      return [
        name,
        refused.rate,
        refused.p99,
        refused.cost[0],
        refused.cost[1],
        refused.cost[3],
        issued.rate,
        issued.cost[1],
      ];
    }),
    data: results,
  };
}

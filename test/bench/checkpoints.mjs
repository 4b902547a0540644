// Checkpoints of many organizations: node test/bench/checkpoints.mjs [--organizations 100000] [--seconds 15], after
// `npm run build`. What one page of the pass over all ledgers costs, idle and with an event waiting in each; then how many
// checkpoints one replica signs a second.
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startPostgres, stopAll } from './service.mjs';

const { values } = parseArgs({
  options: { organizations: { type: 'string', default: '100000' }, seconds: { type: 'string', default: '15' } },
});
const ORGANIZATIONS = Number(values.organizations);
const PAGE = 5000;
const dist = (file) => import(new URL(`../../dist/src/${file}`, import.meta.url));

const postgres = await startPostgres();
const admin = await postgres.admin();
let app;
try {
  await measure();
} finally {
  await app?.close();
  await stopAll();
}

async function measure() {
  const { migrate } = await dist('platform/database/migrate.js');
  await migrate(postgres.owningUrl, postgres.servingUrl);
  console.log(`${cpus().length} x ${cpus()[0].model}, Node ${process.version}, ${ORGANIZATIONS} organizations`);
  await admin.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      SELECT gen_random_uuid(), 'many', 'many-' || n, 'free', 'active', now(), now() FROM generate_series(1, $1::integer) n`,
    [ORGANIZATIONS],
  );
  await admin.query(
    `INSERT INTO organization_ledgers (organization_id, head_hash)
      SELECT organization_id, sha256(convert_to(organization_id::text, 'UTF8')) FROM organizations`,
  );
  await admin.query('INSERT INTO audit_trees (organization_id) SELECT organization_id FROM organizations');
  await admin.query('VACUUM ANALYZE');
  const { createApp } = await dist('app.js');
  const { loadConfig } = await dist('platform/config/load-config.js');
  const { SystemClock } = await dist('platform/kernel/clock.js');
  const { DueChainsRepository } = await dist('evidence/due-chains.repository.js');
  const { KeysService } = await dist('keys/keys.service.js');
  const { CheckpointFollower } = await dist('evidence/checkpoint-follower.js');
  const config = loadConfig({ NODE_ENV: 'test', LOG_LEVEL: 'silent', PORT: '0', ISSUER: 'http://bench.test' });
  const masterKey = createHash('sha256').update('bench').digest();
  const { servingUrl } = postgres;
  // A service first, for its keys; then one without timers, so that nothing but the page runs.
  app = await createApp({ config, clock: new SystemClock(), masterKey, servingUrl });
  await app.close();
  app = await createApp({ config, clock: new SystemClock(), masterKey, servingUrl }, 'command');
  await pages(app.get(DueChainsRepository), 'no event waiting');
  await admin.query(
    `SELECT count(*) FROM organizations o CROSS JOIN LATERAL append_audit_events(ARRAY[o.organization_id], ARRAY['{'],
      ARRAY['}'], ARRAY[gen_random_uuid()], ARRAY['agent.created'], ARRAY['success'], ARRAY[NULL::uuid], ARRAY['agent'],
      ARRAY['x'], ARRAY[NULL], ARRAY[NULL], ARRAY['{}'::jsonb], ARRAY[date_trunc('milliseconds', now())])
      WHERE o.slug LIKE 'many-%'`,
  );
  await admin.query('VACUUM ANALYZE');
  await pages(app.get(DueChainsRepository), 'one event waiting in each');
  await app.close();

  // Nothing was asked for a minute: all are due.
  class LaterClock extends SystemClock {
    nowMs() {
      return super.nowMs() + 60_000;
    }
  }
  app = await createApp({ config, clock: new LaterClock(), masterKey, servingUrl });
  await app.get(KeysService).auditSigner();
  await delay(1000);
  const count = async () => Number((await admin.query('SELECT count(*) FROM audit_checkpoints')).rows[0].count);
  const [before, started, used] = [await count(), performance.now(), process.cpuUsage()];
  await delay(Number(values.seconds) * 1000);
  const made = (await count()) - before;
  const { user, system } = process.cpuUsage(used);
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${(made / seconds).toFixed(0)} checkpoints a second, ${((user + system) / 1e3 / made).toFixed(2)} ms of Node each`,
  );
  await app.get(CheckpointFollower).beforeApplicationShutdown();
}

/** The pass over all ledgers, page by page, several times. */
async function pages(repository, what) {
  const took = [];
  for (let pass = 0; pass < 3; pass += 1) {
    for (let after = '00000000-0000-0000-0000-000000000000', end = ''; end !== null; after = end ?? '') {
      const started = performance.now();
      end = await repository.pageEnd(after, PAGE);
      await repository.due(after, end ?? 'ffffffff-ffff-ffff-ffff-ffffffffffff', 700, new Date(Date.now() - 50_000));
      took.push(performance.now() - started);
    }
  }
  took.sort((a, b) => a - b);
  console.log(
    `a page of ${PAGE}, ${what}: median ${took[took.length >> 1].toFixed(1)} ms, most ${took.at(-1).toFixed(1)} ms`,
  );
}

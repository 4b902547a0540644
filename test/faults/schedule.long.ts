import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Api, claimsOf } from '../support/api.js';
import { cleanUpProcesses } from '../support/service-process.js';
import { underLoad } from '../support/under-load.js';
import { until } from './conditions.js';
import { FaultCluster, FULL_DISK, type Fault } from './fault-cluster.js';
import { faultLoad, nothingAcknowledged, type Acknowledged, type LoadedOrganization } from './fault-load.js';
import { SeededRandom } from './random.js';

const MINUTES = Number(process.env['TEST_MINUTES'] ?? 1);
const SEED = Number(process.env['TEST_SEED'] ?? randomInt(1, 2 ** 31));
/** After so many rounds the organizations are new ones, so that chains do not grow for ever. */
const ROUNDS_OF_ORGANIZATIONS = 10;
/** What one of the organizations may have; it reaches it. */
const SMALL_LIMIT = 250;

describe(`a schedule of faults, seed ${SEED}`, () => {
  const random = new SeededRandom(SEED);
  let cluster: FaultCluster;
  let operatorToken: string;
  let organizations: LoadedOrganization[];
  const totals = {
    ...{ rounds: 0, tokens: 0, revoked: 0, agents: 0, unavailable: 0, lost: 0, slowestRecoveryMs: 0 },
    refusalsForRoom: 0,
  };
  const faultsSeen = new Map<string, number>();

  beforeAll(async () => {
    process.stderr.write(`faults: seed ${SEED}, for ${MINUTES} minute(s); again with -- --seed ${SEED}\n`);
    cluster = await FaultCluster.start(512 + Math.ceil(MINUTES) * 150);
    operatorToken = await api(0).token(cluster.operator);
  }, 90_000);
  afterAll(async () => {
    process.stderr.write(`faults: ${JSON.stringify({ ...totals, faults: Object.fromEntries(faultsSeen) })}\n`);
    await cluster.stop();
    await cleanUpProcesses();
  }, 60_000);

  const api = (replica: number): Api => new Api(cluster.url(replica));

  async function addOrganization(limit?: number): Promise<LoadedOrganization> {
    const slug = `o-${random.integer(1, 2 ** 30)}-${totals.rounds}`;
    const limits = limit === undefined ? {} : { limits: { tokensPerMonth: limit } };
    const made = await api(0).call('POST', '/organizations', operatorToken, {
      ...{ name: 'under faults', slug, tier: 'enterprise' },
      ...limits,
    });
    if (made.status !== 201) throw new Error(`no organization: ${made.status} ${made.text}`);
    const organizationId = made.body['organizationId'] as string;
    return { organizationId, agent: await api(0).agent(operatorToken, { organizationId, scopes: ['tokens:read'] }) };
  }

  it(
    'loses nothing that was answered, exceeds no quota, and breaks no chain',
    async () => {
      const endsAt = performance.now() + MINUTES * 60_000;
      while (performance.now() < endsAt) {
        if (totals.rounds % ROUNDS_OF_ORGANIZATIONS === 0) {
          organizations = [await addOrganization(), await addOrganization(), await addOrganization(SMALL_LIMIT)];
        }
        const told = await round();
        await expectKept(told);
        totals.rounds += 1;
      }
      expect(totals.tokens).toBeGreaterThan(100);
    },
    MINUTES * 60_000 + 120_000,
  );

  /** Load, one or two faults, an end to them, and load again until both replicas answer. */
  async function round(): Promise<Acknowledged> {
    const told = nothingAcknowledged();
    await underLoad(
      (isOver) => faultLoad((replica) => cluster.url(replica), organizations, operatorToken, isOver, told),
      () => hurtAndMend(told),
    );
    await cluster.setClocksRight();
    return told;
  }

  async function hurtAndMend(told: Acknowledged): Promise<void> {
    await delay(random.integer(300, 900));
    const refusalsBefore = await cluster.refusalsForRoom();
    const faults: Fault[] = [];
    try {
      const count = random.integer(1, 2);
      for (let number = 0; number < count; number += 1) {
        faults.push(await cluster.hurt(random));
        await delay(random.integer(100, 600));
      }
      await delay(random.integer(200, 2500));
      // Beside another fault nobody may come to write before the disk is free again.
      if (faults.every(({ what }) => what === FULL_DISK)) {
        await until('PostgreSQL to find no room', async () => {
          await cluster.fillDiskAgain();
          return (await cluster.refusalsForRoom()) > refusalsBefore;
        });
        await until('an answer of 503', () => (told.statuses.get(503) ?? 0) > 0);
      }
      totals.refusalsForRoom += (await cluster.refusalsForRoom()) - refusalsBefore;
      for (const { what } of faults) {
        const kind = what.replace(/-?\d+/g, 'n');
        faultsSeen.set(kind, (faultsSeen.get(kind) ?? 0) + 1);
      }
      process.stderr.write(`faults: round ${totals.rounds + 1}: ${faults.map(({ what }) => what).join('; ')}\n`);
    } finally {
      // All at once: a replica that was killed starts only where PostgreSQL answers, and that may be the other fault.
      await Promise.all(faults.map(({ mend }) => mend()));
    }
    const mendedAt = performance.now();
    await Promise.all([0, 1].map((replica) => until(`replica ${replica} to answer`, () => answers(replica))));
    totals.slowestRecoveryMs = Math.max(totals.slowestRecoveryMs, Math.round(performance.now() - mendedAt));
    await delay(300);
  }

  function answers(replica: number): Promise<boolean> {
    return api(replica)
      .requestToken(cluster.operator)
      .then(
        ({ status }) => status === 200,
        () => false,
      );
  }

  async function expectKept(told: Acknowledged): Promise<void> {
    const unexpected = [...told.statuses.keys()].filter((status) => ![200, 201, 403, 503].includes(status));
    if (unexpected.length > 0) process.stderr.write(cluster.lastWords());
    expect(unexpected).toEqual([]);
    const { database } = cluster.postgres;
    for (const { organizationId } of organizations) {
      const rows = await database.query<{ target_id: string }>(
        "SELECT target_id FROM audit_events WHERE organization_id = $1 AND action = 'token.issued'",
        [organizationId],
      );
      const issued = new Set(rows.map(({ target_id: id }) => id));
      const missing = (told.tokens.get(organizationId) ?? []).filter((id) => !issued.has(id));
      expect(missing).toEqual([]);
      const [ledger] = await database.query<{ used: string; allowed: string | null }>(
        `SELECT tokens_used AS used, limit_tokens_per_month AS allowed
          FROM organization_ledgers JOIN organizations USING (organization_id) WHERE organization_id = $1`,
        [organizationId],
      );
      expect(Number(ledger?.used)).toBe(issued.size);
      expect(issued.size).toBeLessThanOrEqual(Number(ledger?.allowed ?? Infinity));
      const verdict = await api(0).call('GET', `/audit/verify?organizationId=${organizationId}`, operatorToken);
      expect(verdict.body).toMatchObject({ valid: true, brokenAt: null });
    }
    const rows = await database.query<{ jti: string }>('SELECT jti FROM token_revocations');
    const revoked = new Set(rows.map(({ jti }) => jti));
    expect(told.revoked.map((token) => String(claimsOf(token)['jti'])).filter((id) => !revoked.has(id))).toEqual([]);
    for (const token of told.revoked.slice(-10)) {
      for (const replica of [0, 1])
        expect(await api(replica).introspect(operatorToken, token)).toEqual({ active: false });
    }
    for (const token of told.alive.slice(-5)) {
      for (const replica of [0, 1]) {
        expect(await api(replica).introspect(operatorToken, token)).toMatchObject({ active: true });
      }
    }
    const [half] = await database.query<{ rows: string; told: string; lost: string }>(
      `SELECT (SELECT count(*) FROM agents) AS rows,
        (SELECT count(*) FROM audit_events WHERE action = 'agent.created') AS told,
        (SELECT count(*) FROM unnest($1::uuid[]) AS acknowledged WHERE acknowledged NOT IN (SELECT agent_id FROM agents)) AS lost`,
      [told.agents],
    );
    expect(half).toEqual({ rows: half?.told, told: half?.told, lost: '0' });
    totals.tokens += [...told.tokens.values()].flat().length;
    totals.revoked += told.revoked.length;
    totals.agents += told.agents.length;
    totals.unavailable += told.statuses.get(503) ?? 0;
    totals.lost += told.lost;
  }
});

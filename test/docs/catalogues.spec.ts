import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AGENT_ENVIRONMENTS } from '../../src/agents/agent.entity.js';
import { CREDENTIAL_STATUSES } from '../../src/credentials/credential.entity.js';
import { generateSecret } from '../../src/credentials/secret-format.js';
import { loadConfig } from '../../src/platform/config/load-config.js';
import { AUDIT_ACTIONS } from '../../src/platform/kernel/audit-event.js';
import { oauthErrors } from '../../src/platform/kernel/oauth-error.js';
import { PROBLEM_KINDS } from '../../src/platform/kernel/problem.js';
import { BUILT_IN_SCOPES } from '../../src/platform/kernel/scopes.js';
import { freePort, startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';
import { codeOf, fences, read, table } from './markdown.js';

/** Lists that stand in the documents and in the code. */
describe('the documents list what the code has', () => {
  let service: TestApp;
  beforeAll(async () => {
    service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1' } });
  });
  afterAll(() => service.close());

  it('scopes, with what they allow', () => {
    const rows = table(read('docs/scopes.md'), 'Scope').map((row) => [codeOf(row['Scope']), row['What it allows']]);
    expect(Object.fromEntries(rows)).toEqual(BUILT_IN_SCOPES);
    const guide = table(read('docs/issue-and-revoke-tokens.md'), 'Scope');
    for (const row of guide) expect(BUILT_IN_SCOPES).toMatchObject({ [codeOf(row['Scope'])]: row['What it allows'] });
  });

  it('audit actions', () => {
    const documented = table(read('docs/audit.md'), 'Action').map(({ Action }) => codeOf(Action));
    expect([...documented].sort()).toEqual([...AUDIT_ACTIONS].sort());
  });

  it('problem codes with their statuses', () => {
    const rows = table(read('docs/errors.md'), 'Status', 1).map((row) => [
      codeOf(row['`code`']),
      Number(row['Status']),
    ]);
    const kinds = Object.entries(PROBLEM_KINDS).map(([code, { status }]) => [code, status]);
    expect(Object.fromEntries(rows)).toEqual(Object.fromEntries(kinds));
  });

  it('OAuth errors with their statuses', () => {
    const rows = table(read('docs/errors.md'), 'Status', 0).map((row) => `${row['Status']} ${codeOf(row['`error`'])}`);
    const errors = Object.values(oauthErrors).map(({ status, error }) => `${status} ${error}`);
    expect([...rows].sort()).toEqual([...new Set(errors)].sort());
  });

  it('states of secrets, environments of agents', () => {
    const states = table(read('docs/credentials.md'), 'Status').map((row) => codeOf(row['Status']));
    expect(states).toEqual([...CREDENTIAL_STATUSES]);
    for (const environment of AGENT_ENVIRONMENTS) expect(read('docs/agents.md')).toContain(`\`${environment}\``);
  });

  it('metrics with their labels', async () => {
    // Metrics with labels show themselves once they have counted something.
    const token = await service.api.token(service.operator);
    await service.api.introspect(token, 'garbage');
    await service.api.requestToken({ ...service.operator, clientSecret: 'wrong' });
    const url = `http://127.0.0.1:${await freePort()}/`;
    const webhook = await service.api.call('POST', '/webhooks', token, { url, events: ['webhook.deleted'] });
    await service.api.call('POST', `/webhooks/${String(webhook.body['webhookId'])}/test`, token);
    const metrics = async (): Promise<string> => (await fetch(`${service.url}/metrics`)).text();
    await until('an attempt to deliver', async () => (await metrics()).includes('webhook_attempt_seconds_bucket'));
    const text = await metrics();
    const actual = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name = '']) => name);
    const rows = table(read('docs/operations.md'), 'Metric');
    expect(rows.map(({ Metric }) => codeOf(Metric)).sort()).toEqual([...actual].sort());
    for (const row of rows) {
      const name = codeOf(row['Metric']);
      const sample = new RegExp(`^${name}(?:_bucket)?\\{([^}]*)\\}`, 'm').exec(text)?.[1] ?? '';
      const labels = [...sample.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== 'le');
      const documented = [...(row['Labels'] ?? '').matchAll(/`(\w+)`/g)].map(([, label]) => label);
      // The collector has perhaps not run yet.
      if (name !== 'agentidp_nodejs_gc_duration_seconds') expect([name, ...documented]).toEqual([name, ...labels]);
    }
  });

  it('commands with what they do', () => {
    const source = read('src/cli/main.ts');
    const commands = [...source.matchAll(/^ {2}'?([\w:-]+)'?: \{\n\s+summary: '(.*)',$/gm)].map(([, name, what]) => [
      name,
      what,
    ]);
    const rows = table(read('docs/operations.md'), 'Command');
    expect(commands.length).toBeGreaterThan(2);
    expect(rows.map((row) => [codeOf(row['Command']), row['What it does']])).toEqual(commands);
  });

  it('tiers with their limits', async () => {
    const rows = await service.database.query<Record<string, string | null>>(
      'SELECT name, tokens_per_month, agents, audit_retention_days, webhooks FROM tiers',
    );
    const shown = (limit: string | null | undefined): string =>
      limit === null ? 'no limit' : Number(limit).toLocaleString('en-US');
    const actual = rows.map(({ name, ...limits }) => [name, ...Object.values(limits).map(shown)]);
    const documented = table(read('docs/quota.md'), 'Tier').map((row) => {
      const [name, ...limits] = Object.values(row);
      return [codeOf(name), ...limits];
    });
    expect(documented).toEqual(actual);
  });

  it('rates of tiers with the variables that set them', () => {
    const rows = table(read('docs/quota.md'), 'Rate of tier');
    const { requests } = loadConfig({}).abuse;
    const documented = rows.map((row) => [codeOf(row['Rate of tier']), row['Requests of an agent a minute']]);
    expect(documented).toEqual(Object.entries(requests).map(([tier, rate]) => [tier, rate.toLocaleString('en-US')]));
    for (const row of rows) {
      const { requests: changed } = loadConfig({ [codeOf(row['Variable'])]: '5' }).abuse;
      expect(changed).toEqual({ ...requests, [codeOf(row['Rate of tier'])]: 5 });
    }
  });

  it('the pattern of secrets', () => {
    const pattern = fences(read('docs/credentials.md')).find(({ text }) => text.startsWith('\\bsas_'))?.text ?? '';
    const secret = generateSecret();
    expect(new RegExp(pattern).exec(`a line with ${secret} in it`)?.[0]).toBe(secret);
    expect(new RegExp(pattern).test(`${secret}x`)).toBe(false);
  });

  it('rooms of the house', () => {
    const features = /const FEATURES = \[([^\]]*)\]/.exec(read('.dependency-cruiser.cjs'))?.[1] ?? '';
    const order = [...features.matchAll(/'(\w+)'/g)].map(([, name = '']) => name);
    const rooms = table(read('docs/architecture.md'), 'Room').map(({ Room }) => codeOf(Room).replace(/\/$/, ''));
    expect(rooms[0]).toBe('platform');
    expect(rooms.slice(1)).toEqual(order.filter((name) => rooms.includes(name)));
  });

  it('tables of the database, each in one room', async () => {
    const rows = await service.database.query<{ name: string }>(
      // A partition belongs to its table.
      `SELECT c.relname AS name FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1`,
    );
    const architecture = read('docs/architecture.md');
    const documented = table(architecture, 'Room').flatMap(({ Tables }) =>
      [...(Tables ?? '').matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
    );
    // One belongs to the migrations; the ledger belongs to nobody alone and is described by itself.
    expect([...documented, 'organization_ledgers', 'schema_migrations'].sort()).toEqual(rows.map(({ name }) => name));
    expect(architecture).toContain('`organization_ledgers`');
  });
});

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createHash, randomUUID } from 'node:crypto';
import { OperatorService } from '../../src/operator/operator.service.js';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

const ALL = [...BUILT_IN_SCOPE_NAMES];
const BUT_ONE = ALL.filter((scope) => scope !== 'webhooks:read');

describe('the operator', () => {
  let service: TestApp;
  let first: TestAgent;
  let token: string;

  let clientId: string;

  beforeAll(async () => {
    service = await startTestApp();
    clientId = service.operator.clientId;
  });
  afterAll(() => service.close());

  // Each test begins with one operator who has one secret.
  beforeEach(async () => {
    await service.database.query("UPDATE agents SET status = 'decommissioned' WHERE agent_id <> $1", [clientId]);
    await service.database.query("UPDATE agents SET status = 'active', scopes = $2 WHERE agent_id = $1", [
      clientId,
      ALL,
    ]);
    await service.database.query("UPDATE organizations SET status = 'active'");
    const credentials = await service.app.get(OperatorService).reset();
    token = await service.api.token(credentials);
    const { body } = await service.api.call('GET', `/agents/${clientId}/credentials`, token);
    const [credential] = body['data'] as { credentialId: string }[];
    first = { ...credentials, agentId: clientId, credentialId: credential?.credentialId ?? '' };
  });

  const call = (method: string, path: string, body?: unknown, as = token): Promise<Answer> =>
    service.api.call(method, path, as, body);
  const secretOf = ({ agentId, credentialId }: TestAgent): string => `/agents/${agentId}/credentials/${credentialId}`;

  async function addOrganization(): Promise<string> {
    const id = randomUUID();
    await service.database.query(
      `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
        VALUES ($1, 'Other', $2, 'enterprise', 'active', now(), now())`,
      [id, id],
    );
    await service.database.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
      id,
      createHash('sha256').update(id).digest(),
    ]);
    return id;
  }

  /** Every act that takes an operator out of use. */
  const ENDS: Record<string, (agent: TestAgent, as?: string) => Promise<Answer>> = {
    suspend: ({ agentId }, as) => call('POST', `/agents/${agentId}/suspend`, undefined, as),
    decommission: ({ agentId }, as) => call('DELETE', `/agents/${agentId}`, undefined, as),
    'take all scopes from': ({ agentId }, as) => call('PATCH', `/agents/${agentId}`, { scopes: [] }, as),
    'take one scope from': ({ agentId }, as) => call('PATCH', `/agents/${agentId}`, { scopes: BUT_ONE }, as),
    'delete the only secret of': (agent, as) => call('DELETE', secretOf(agent), undefined, as),
    'delete the only secret, but not the tokens, of': (agent, as) =>
      call('DELETE', `${secretOf(agent)}?keepTokens=true`, undefined, as),
  };

  async function state(): Promise<unknown> {
    return Promise.all(
      ['agents', 'credentials', 'organizations', 'audit_events'].map((table) =>
        service.database.query(`SELECT * FROM ${table} ORDER BY 1, 2`),
      ),
    );
  }
  const withoutUse = (rows: unknown): unknown =>
    JSON.parse(JSON.stringify(rows, (key, value: unknown) => (key === 'last_used_at' ? undefined : value)));

  it('cannot be left without one: each act that would is 409, and nothing of it happens', async () => {
    const before = withoutUse(await state());
    for (const [name, end] of Object.entries(ENDS)) {
      const { status, headers, body } = await end(first);
      expect([name, status, body['code']]).toEqual([name, 409, 'conflict']);
      expect(headers.get('content-type')).toBe('application/problem+json');
      expect(body['detail']).toContain('operator');
    }
    expect(withoutUse(await state())).toEqual(before);
    expect((await service.api.requestToken(first)).status).toBe(200);
  });

  it('does not count one who is suspended, lacks a scope, has no secret that works, or whose organization is suspended', async () => {
    const suspended = await service.api.agent(token, { scopes: ALL });
    await call('POST', `/agents/${suspended.agentId}/suspend`);
    await service.api.agent(token, { scopes: BUT_ONE });
    await call('POST', '/agents', { name: 'no secret', scopes: ALL });
    const revoked = await service.api.agent(token, { scopes: ALL });
    await call('DELETE', secretOf(revoked));
    const gone = await service.api.agent(token, { scopes: ALL });
    await call('DELETE', `/agents/${gone.agentId}`);

    const expired = await service.api.agent(token, { scopes: ALL });
    await call('DELETE', secretOf(expired));
    const expiresAt = new Date(service.clock.nowMs() + 5000).toISOString();
    await call('POST', `/agents/${expired.agentId}/credentials`, { expiresAt });
    service.clock.advance(6);

    const organization = await addOrganization();
    await service.api.agent(token, { scopes: ALL, organizationId: organization });
    await service.database.query("UPDATE organizations SET status = 'suspended' WHERE organization_id = $1", [
      organization,
    ]);

    for (const [name, end] of Object.entries(ENDS)) expect([name, (await end(first)).status]).toEqual([name, 409]);
  });

  it('can be taken out of use by each act while there is another', async () => {
    for (const [name, end] of Object.entries(ENDS)) {
      const other = await service.api.agent(token, { scopes: ALL });
      expect([name, (await end(other)).status < 300]).toEqual([name, true]);
    }
    const successor = await service.api.agent(token, { scopes: ALL });
    const as = await service.api.token(successor);
    expect((await service.api.call('DELETE', `/agents/${first.agentId}`, as)).status).toBe(204);
    expect((await service.api.call('DELETE', `/agents/${successor.agentId}`, as)).status).toBe(409);
  });

  it('may do to the last one all that leaves it usable', async () => {
    const rotated = await call('POST', `${secretOf(first)}/rotate`);
    expect(rotated.status).toBe(201);
    const { clientSecret, credentialId } = rotated.body as Record<string, string>;
    const next = { ...first, clientSecret: clientSecret ?? '', credentialId: credentialId ?? '' };
    expect((await service.api.requestToken(next)).status).toBe(200);

    expect((await call('PATCH', `/agents/${first.agentId}`, { name: 'Ops', tokenTtlSeconds: 600 })).status).toBe(200);
    const overlapping = await call('POST', `${secretOf(next)}/rotate`, { overlapSeconds: 60 });
    expect(overlapping.status).toBe(201);
    // The one that retires is of no use soon: the other may not go.
    const newest = { ...first, credentialId: String(overlapping.body['credentialId']) };
    expect((await call('DELETE', secretOf(newest))).status).toBe(409);
    expect((await call('DELETE', secretOf(next))).status).toBe(204);
    expect((await call('POST', `/agents/${first.agentId}/revoke-tokens`)).status).toBe(200);
    const own = { ...first, clientSecret: String(overlapping.body['clientSecret']) };
    expect((await service.api.requestToken(own)).status).toBe(200);
    const byItself = await service.api.send('POST', `/api/v1${secretOf(newest)}/rotate`, { headers: basic(own) });
    expect(byItself.status).toBe(201);
  });

  it('may not lose either of two secrets at once, but one of them', async () => {
    const second = { ...first, ...(await service.api.secret(token, first.agentId)) };
    const answers = await Promise.all([
      call('DELETE', `${secretOf(first)}?keepTokens=true`),
      call('DELETE', `${secretOf(second)}?keepTokens=true`),
    ]);
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([204, 409]);
  });

  it.each(Object.keys(ENDS))('is left with one when two race to %s each other', async (name) => {
    const end = ENDS[name];
    if (end === undefined) throw new Error('no such act');
    const organization = await addOrganization();
    // In another organization, so that no lock of one organization orders the two.
    const other = await service.api.agent(token, { scopes: ALL, organizationId: organization });
    const theirs = await service.api.token(other);
    const [left, right] = await Promise.all([end(other, token), end(first, theirs)]);
    const statuses = [left.status, right.status].sort((a, b) => a - b);
    expect(statuses[0]).toBeLessThan(300);
    // The later one finds itself the last operator, or its own token dead already.
    expect([401, 403, 409]).toContain(statuses[1]);
    const works = await Promise.all(
      [first, other].map(async (agent) => (await service.api.requestToken(agent)).status === 200),
    );
    const usable = await service.database.query(
      `SELECT 1 FROM agents a WHERE status = 'active' AND scopes @> $1 AND EXISTS (
        SELECT 1 FROM credentials c WHERE c.agent_id = a.agent_id AND c.status = 'active')`,
      [ALL],
    );
    expect(works).toContain(true);
    expect(usable).toHaveLength(1);
  });

  it('cannot lose the organization of the last one, also when two race to suspend each other’s', async () => {
    const own = claimsOf(token)['org'] as string;
    const suspend = (id: string, as?: string): Promise<Answer> =>
      call('POST', `/organizations/${id}/suspend`, undefined, as);
    expect((await suspend(own)).body).toMatchObject({ status: 409, code: 'conflict' });
    const made = await call('POST', '/organizations', { name: 'Other', slug: `o-${randomUUID()}`, tier: 'enterprise' });
    expect(made.status).toBe(201);
    const organizationId = made.body['organizationId'] as string;
    const other = await service.api.agent(token, { scopes: ALL, organizationId });
    const theirs = await service.api.token(other);
    const answers = await Promise.all([suspend(organizationId), suspend(own, theirs)]);
    const statuses = answers.map(({ status }) => status).sort((x, y) => x - y);
    expect(statuses[0]).toBe(200);
    expect([401, 409]).toContain(statuses[1]);
    const works = await Promise.all(
      [first, other].map(async (agent) => (await service.api.requestToken(agent)).status),
    );
    expect(works.sort((x, y) => x - y)).toEqual([200, 403]);
  });

  describe('who has lost every secret', () => {
    const reset = () => service.app.get(OperatorService).reset();
    const agentsNow = () =>
      service.database.query<{ agent_id: string; status: string; scopes: string[] }>('SELECT * FROM agents');
    const works = async (): Promise<{ clientId: string; token: string }> => {
      const credentials = await reset();
      const fresh = await service.api.token(credentials);
      expect(String(claimsOf(fresh)['scope']).split(' ').sort()).toEqual([...ALL].sort());
      expect((await service.api.call('GET', '/audit/verify', fresh)).body).toMatchObject({ valid: true });
      return { clientId: credentials.clientId, token: fresh };
    };

    it('gets a new one; the secrets and tokens from before are dead', async () => {
      const second = { ...first, ...(await service.api.secret(token, first.agentId)) };
      const { clientId, token: fresh } = await works();
      expect(clientId).toBe(first.agentId);
      expect((await service.api.requestToken(first)).status).toBe(401);
      expect((await service.api.requestToken(second)).status).toBe(401);
      expect((await call('GET', '/agents')).status).toBe(401);
      expect(await service.api.introspect(fresh, token)).toEqual({ active: false });
      const { body } = await service.api.call('GET', `/agents/${clientId}/credentials`, fresh);
      const [newest, ...rest] = (body['data'] as Json[]).map(({ status }) => status);
      expect([newest, ...new Set(rest)]).toEqual(['active', 'revoked']);
    });

    it('is active again with all built-in scopes, and keeps what else it has', async () => {
      const other = await service.api.agent(token, { scopes: ALL });
      const as = await service.api.token(other);
      await service.api.call('PATCH', `/agents/${first.agentId}`, as, { scopes: ['admin:orgs'], name: 'Ops' });
      await service.api.call('POST', `/agents/${first.agentId}/suspend`, as);
      const { clientId, token: fresh } = await works();
      expect(clientId).toBe(first.agentId);
      const { body } = await service.api.call('GET', `/agents/${clientId}`, fresh);
      expect(body).toMatchObject({ status: 'active', name: 'Ops' });
      expect(new Set(body['scopes'] as string[])).toEqual(new Set(ALL));
      // Other operators are left alone.
      expect((await service.api.requestToken(other)).status).toBe(200);
    });

    it('is made anew where none is left', async () => {
      await service.database.query("UPDATE agents SET status = 'decommissioned'");
      const before = (await agentsNow()).length;
      const { clientId } = await works();
      expect(clientId).not.toBe(first.agentId);
      expect(await agentsNow()).toHaveLength(before + 1);
    });

    it('leaves events of what was done, with nobody as actor and no secret', async () => {
      const credentials = await reset();
      const fresh = await service.api.token(credentials);
      const { body, text } = await service.api.call('GET', '/audit?limit=3', fresh);
      expect(body['data']).toMatchObject([
        { action: 'token.issued' },
        { action: 'credential.created', actor: null, ip: null, details: { agentId: credentials.clientId } },
        { action: 'agent.tokens_revoked', actor: null, ip: null, target: { id: credentials.clientId } },
      ]);
      expect(text).not.toContain(credentials.clientSecret.slice(0, 16));
    });

    it('may be helped twice at once', async () => {
      const both = await Promise.all([reset(), reset()]);
      const working = await Promise.all(
        both.map(async (each) => (await service.api.requestToken(each)).status === 200),
      );
      expect(working).toContain(true);
      expect(both[0].clientId).toBe(both[1].clientId);
    });
  });

  describe('the first one', () => {
    it('is not made again where there is one', async () => {
      const before = await service.database.query('SELECT 1 FROM organizations');
      expect(await service.app.get(OperatorService).ensure(null)).toBeNull();
      expect(
        await service.app.get(OperatorService).ensure({ clientId: randomUUID(), clientSecret: 'x'.repeat(32) }),
      ).toBeNull();
      expect(await service.database.query('SELECT 1 FROM organizations')).toHaveLength(before.length);
    });

    it('holds all built-in scopes in an enterprise organization', async () => {
      expect(claimsOf(token)['scope']).toBe(ALL.join(' '));
      expect((await call('GET', '/quota')).body).toMatchObject({ tier: 'enterprise', tokens: { limit: null } });
    });
  });

  it('may be fixed by the environment: id and secret', async () => {
    const fixed = { clientId: randomUUID(), clientSecret: 'A-fixed_secret-of-the-environment-0123' };
    const own = await startTestApp({
      env: { BOOTSTRAP_CLIENT_ID: fixed.clientId, BOOTSTRAP_CLIENT_SECRET: fixed.clientSecret },
    });
    try {
      expect(own.operator).toMatchObject(fixed);
      expect((await own.api.requestToken(fixed)).status).toBe(200);
    } finally {
      await own.close();
    }
  });
});

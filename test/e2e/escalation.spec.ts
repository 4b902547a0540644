import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../../src/platform/kernel/scopes.js';
import { basic, type Answer, type TestAgent } from '../support/api.js';
import { assertionKey } from '../support/partner-issuer.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

/** Who may grant what to whom, as one table of attempts. */
describe('escalation', () => {
  let service: TestApp;
  let operator: string;
  /** Two organizations, each with a resource server of its own. */
  let here: Tenant;
  let there: Tenant;

  interface Tenant {
    readonly organizationId: string;
    readonly scope: string;
    readonly identifier: string;
  }

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    here = await tenant();
    there = await tenant();
  });
  afterAll(() => service.close());

  async function tenant(): Promise<Tenant> {
    const mark = randomBytes(6).toString('hex');
    const { body } = await call(operator, 'POST', '/organizations', { name: 'x', slug: mark, tier: 'enterprise' });
    const organizationId = body['organizationId'] as string;
    const scope = `${mark}:use`;
    const identifier = `https://${mark}.example`;
    const made = await call(operator, 'POST', '/resources', {
      organizationId,
      identifier,
      name: 'x',
      scopes: [{ name: scope, description: 'x' }],
    });
    expect(made.status).toBe(201);
    return { organizationId, scope, identifier };
  }

  const call = (by: string, method: string, path: string, body?: Json): Promise<Answer> =>
    service.api.call(method, path, by, body);
  /** An agent of `here` with these scopes, made by the operator. */
  const agentWith = (...scopes: string[]): Promise<TestAgent> =>
    service.api.agent(operator, { organizationId: here.organizationId, scopes });
  /** A token of an agent of `here` with these scopes. */
  const holderOf = async (...scopes: string[]): Promise<string> => service.api.token(await agentWith(...scopes));
  const scopesOf = async ({ agentId }: TestAgent): Promise<unknown> =>
    (await call(operator, 'GET', `/agents/${agentId}`)).body['scopes'];
  const countAgents = async ({ organizationId }: Tenant): Promise<number> => {
    const [row] = await service.database.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM agents WHERE organization_id = $1',
      [organizationId],
    );
    return row?.count ?? 0;
  };
  const expectRefused = ({ status, headers, body }: Answer, missing?: string): void => {
    expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
    if (missing !== undefined) expect(headers.get('www-authenticate')).toContain(missing);
  };

  const GRANTED = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== 'agents:write');

  describe.each(GRANTED)('the built-in scope %s', (scope) => {
    it('is granted to new and old agents by a token that holds it, and by no other', async () => {
      const holder = await holderOf('agents:write', scope);
      const granted = await call(holder, 'POST', '/agents', { name: 'x', scopes: [scope] });
      expect(granted.status).toBe(201);
      const target = await agentWith();
      const patched = await call(holder, 'PATCH', `/agents/${target.agentId}`, { scopes: [scope] });
      expect([patched.status, patched.body['scopes']]).toEqual([200, [scope]]);

      // Everything but the scope: it is the scope itself that counts, not how many others there are.
      const others = BUILT_IN_SCOPE_NAMES.filter((name) => name !== scope && name !== OPERATOR_SCOPE);
      for (const lacking of [await holderOf('agents:write'), await holderOf(...others)]) {
        const before = await countAgents(here);
        for (const scopes of [[scope], ['agents:write', scope], [here.scope, scope]]) {
          expectRefused(await call(lacking, 'POST', '/agents', { name: 'x', scopes }), scope);
          const untouched = await agentWith();
          expectRefused(await call(lacking, 'PATCH', `/agents/${untouched.agentId}`, { scopes }), scope);
          expect(await scopesOf(untouched)).toEqual([]);
        }
        expect(await countAgents(here)).toBe(before + 3);
      }
    });

    it('is not added to itself by an agent that lacks it', async () => {
      const agent = await agentWith('agents:write');
      const token = await service.api.token(agent);
      expectRefused(await call(token, 'PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:write', scope] }), scope);
      expect(await scopesOf(agent)).toEqual(['agents:write']);
    });

    it('shields the agent that has it from everybody who lacks it, whatever they would do', async () => {
      const others = BUILT_IN_SCOPE_NAMES.filter((name) => name !== scope && name !== OPERATOR_SCOPE);
      const lacking = await holderOf(...others);
      const agent = await agentWith(scope);
      const earned = await service.api.token(agent);
      const at = `/agents/${agent.agentId}`;
      for (const [method, path, body] of [
        ['POST', `${at}/credentials`, {}],
        ['POST', `${at}/credentials/${agent.credentialId}/rotate`, {}],
        ['DELETE', `${at}/credentials/${agent.credentialId}`, undefined],
        ['POST', `${at}/keys`, { jwk: assertionKey().jwk }],
        ['DELETE', `${at}/keys/${agent.credentialId}`, undefined],
        ['POST', `${at}/federated-identities`, { partnerId: randomUUID(), subject: 'x' }],
        ['DELETE', `${at}/federated-identities/${agent.credentialId}`, undefined],
        ['PATCH', at, { scopes: [] }],
        ['PATCH', at, { name: 'mine' }],
        ['PATCH', at, { tokenTtlSeconds: 60 }],
        ['POST', `${at}/suspend`, undefined],
        ['POST', `${at}/reactivate`, undefined],
        ['POST', `${at}/revoke-tokens`, undefined],
        ['POST', '/revocations', { selector: { agentId: agent.agentId } }],
        ['POST', '/revocations', { selector: { agentId: agent.agentId }, dryRun: true }],
        ['POST', '/revocations', { selector: { credentialId: agent.credentialId } }],
        ['DELETE', at, undefined],
      ] as const) {
        expectRefused(await call(lacking, method, path, body), scope);
      }
      expect(await scopesOf(agent)).toEqual([scope]);
      expect(await service.api.introspect(operator, earned)).toMatchObject({ active: true });
      const [row] = await service.database.query('SELECT count(*)::int AS count FROM credentials WHERE agent_id = $1', [
        agent.agentId,
      ]);
      expect(row?.['count']).toBe(1);
    });
  });

  it('is not had without agents:write: a token with everything else a tenant has grants nothing', async () => {
    const lacking = await holderOf(...GRANTED.filter((scope) => scope !== OPERATOR_SCOPE));
    const target = await agentWith();
    for (const scopes of [[], ['agents:read'], ['agents:write'], [here.scope]]) {
      expectRefused(await call(lacking, 'POST', '/agents', { name: 'x', scopes }), 'agents:write');
      expectRefused(await call(lacking, 'PATCH', `/agents/${target.agentId}`, { scopes }), 'agents:write');
    }
    const holder = await holderOf('agents:write');
    expect((await call(holder, 'POST', '/agents', { name: 'x', scopes: ['agents:write'] })).status).toBe(201);
    expect((await call(holder, 'PATCH', `/agents/${target.agentId}`, { scopes: ['agents:write'] })).status).toBe(200);
  });

  it('has no way around by scopes that only look like the built-in ones', async () => {
    const token = await holderOf('agents:write');
    for (const name of ['ADMIN:ORGS', 'Admin:Orgs', 'admin:orgs2', 'admin:*', '*', 'admin', 'openid', '__proto__']) {
      expectRefused(await call(token, 'POST', '/agents', { name: 'x', scopes: [name] }));
      expectRefused(await call(operator, 'POST', '/agents', { name: 'x', scopes: [name] }));
    }
    for (const name of ['admin:orgs ', ' admin:orgs', 'agents:read admin:orgs', 'admin:orgs\n', '\u0430dmin:orgs']) {
      const { status } = await call(token, 'POST', '/agents', { name: 'x', scopes: [name] });
      expect([name, status]).toEqual([name, 400]);
    }
  });

  describe('the scopes of a resource server', () => {
    it('are granted in its own organization by whoever may write agents, though they lack them', async () => {
      const token = await holderOf('agents:write');
      expect((await call(token, 'POST', '/agents', { name: 'x', scopes: [here.scope] })).status).toBe(201);
      const target = await agentWith();
      expect((await call(token, 'PATCH', `/agents/${target.agentId}`, { scopes: [here.scope] })).status).toBe(200);
    });

    it('are granted to oneself, and give nothing at our own API', async () => {
      const agent = await agentWith('agents:write');
      const token = await service.api.token(agent);
      const scopes = ['agents:write', here.scope];
      expect((await call(token, 'PATCH', `/agents/${agent.agentId}`, { scopes })).status).toBe(200);
      const earned = await service.api.token(agent, { scope: here.scope });
      expect((await call(earned, 'PATCH', `/agents/${agent.agentId}`, { name: 'y' })).status).toBe(401);
    });

    it('are granted in no other organization, by nobody, by no way', async () => {
      const token = await holderOf('agents:read', 'agents:write', 'resources:read', 'resources:write');
      const target = await agentWith();
      for (const by of [token, operator]) {
        for (const scopes of [[there.scope], [here.scope, there.scope], [there.scope.toUpperCase()]]) {
          const organizationId = here.organizationId;
          expectRefused(await call(by, 'POST', '/agents', { name: 'x', scopes, organizationId }));
          expectRefused(await call(by, 'PATCH', `/agents/${target.agentId}`, { scopes }));
        }
      }
      expect(await scopesOf(target)).toEqual([]);
      const asked = await service.api.requestToken(target, { scope: there.scope });
      expect([asked.status, asked.body['error']]).toEqual([400, 'invalid_scope']);
    });

    it('may be declared by the same name in two organizations; a token is for one’s own', async () => {
      const token = await holderOf('agents:write', 'resources:write');
      const identifier = `https://${randomBytes(6).toString('hex')}.example`;
      const copied = await call(token, 'POST', '/resources', {
        identifier,
        name: 'x',
        scopes: [{ name: there.scope, description: 'the same name' }],
      });
      expect(copied.status).toBe(201);
      const agent = await service.api.agent(token, { scopes: [there.scope] });
      const earned = await service.api.token(agent);
      const seen = await service.api.introspect(operator, earned);
      expect(seen).toMatchObject({ aud: identifier, org: here.organizationId });
      const across = await service.api.requestToken(agent, { resource: there.identifier });
      expect([across.status, across.body['error']]).toEqual([400, 'invalid_target']);
    });
  });

  describe('organizationId in a body', () => {
    it('is taken from the operator, and from others only where it is their own', async () => {
      const token = await holderOf('agents:read', 'agents:write', 'resources:read', 'resources:write');
      const resource = (): Json => ({ identifier: `urn:${randomUUID()}`, name: 'x' });
      const before = await countAgents(there);
      for (const organizationId of [there.organizationId, there.organizationId.toUpperCase(), randomUUID()]) {
        expectRefused(await call(token, 'POST', '/agents', { name: 'x', organizationId }));
        expectRefused(await call(token, 'POST', '/resources', { ...resource(), organizationId }));
      }
      expect(await countAgents(there)).toBe(before);
      const { organizationId } = here;
      expect((await call(token, 'POST', '/agents', { name: 'x', organizationId })).status).toBe(201);
      expect((await call(token, 'POST', '/resources', { ...resource(), organizationId })).status).toBe(201);
      expect((await call(operator, 'POST', '/agents', { name: 'x', organizationId })).status).toBe(201);
    });

    it('moves nothing: a change does not know it, and nobody can name two', async () => {
      const token = await holderOf('agents:read', 'agents:write', 'resources:write');
      const agent = await service.api.agent(token);
      for (const by of [token, operator]) {
        const moved = await call(by, 'PATCH', `/agents/${agent.agentId}`, { organizationId: there.organizationId });
        expect([moved.status, moved.body['code']]).toEqual([400, 'validation_failed']);
      }
      for (const organizationId of [[there.organizationId], { id: there.organizationId }, null, '']) {
        const { status } = await call(token, 'POST', '/agents', { name: 'x', organizationId });
        expect([organizationId, status]).toEqual([organizationId, 400]);
      }
      const twice = await service.api.send('POST', '/api/v1/agents', {
        headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
        body: `{"name":"x","organizationId":"${there.organizationId}","organizationId":"${here.organizationId}"}`,
      });
      expect([201, 400]).toContain(twice.status);
      if (twice.status === 201) expect(twice.body['organizationId']).toBe(here.organizationId);
      expect((await call(operator, 'GET', `/agents/${agent.agentId}`)).body['organizationId']).toBe(
        here.organizationId,
      );
    });

    it('does not smuggle the operator’s own organization in', async () => {
      const { body } = await call(operator, 'GET', `/agents/${service.operator.clientId}`);
      const token = await holderOf('agents:read', 'agents:write');
      const organizationId = body['organizationId'] as string;
      expectRefused(await call(token, 'POST', '/agents', { name: 'x', organizationId }));
      expectRefused(await call(token, 'GET', `/agents?organizationId=${organizationId}`));
    });
  });

  it('gives nobody a credential of an agent of another organization', async () => {
    const victim = await service.api.agent(operator, { organizationId: there.organizationId });
    const token = await holderOf('agents:read', 'agents:write');
    const own = await agentWith();
    for (const [method, path] of [
      ['POST', `/agents/${victim.agentId}/credentials`],
      ['GET', `/agents/${victim.agentId}/credentials`],
      ['POST', `/agents/${victim.agentId}/credentials/${victim.credentialId}/rotate`],
      ['DELETE', `/agents/${victim.agentId}/credentials/${victim.credentialId}`],
      ['GET', `/agents/${victim.agentId}/keys`],
      ['DELETE', `/agents/${victim.agentId}/keys/${victim.credentialId}`],
      ['GET', `/agents/${victim.agentId}/federated-identities`],
      ['DELETE', `/agents/${victim.agentId}/federated-identities/${victim.credentialId}`],
      // An agent of one's own in the path does not open the credential of another.
      ['POST', `/agents/${own.agentId}/credentials/${victim.credentialId}/rotate`],
      ['DELETE', `/agents/${own.agentId}/credentials/${victim.credentialId}`],
    ] as const) {
      const { status, body } = await call(token, method, path);
      expect([path, status, body['code']]).toEqual([path, 404, 'not_found']);
    }
    expect((await service.api.requestToken(victim)).status).toBe(200);
    expect((await service.api.requestToken({ clientId: victim.agentId, clientSecret: own.clientSecret })).status).toBe(
      401,
    );
  });

  it('is not had by client authentication: a secret rotates itself and nothing else', async () => {
    const [one, other] = [await agentWith(), await agentWith()];
    const second = await service.api.secret(operator, one.agentId);
    const rotate = (agentId: string, credentialId: string): Promise<Answer> =>
      service.api.send('POST', `/api/v1/agents/${agentId}/credentials/${credentialId}/rotate`, { headers: basic(one) });
    expect((await rotate(other.agentId, other.credentialId)).status).toBe(403);
    expect((await rotate(one.agentId, second.credentialId)).status).toBe(403);
    expect((await rotate(other.agentId, one.credentialId)).status).toBe(403);
    const token = await service.api.token(one);
    expectRefused(await call(token, 'POST', `/agents/${one.agentId}/credentials/${one.credentialId}/rotate`));
    expect((await rotate(one.agentId, one.credentialId)).status).toBe(201);
  });

  describe('a token', () => {
    it('counts by its own scopes, not by those of its agent', async () => {
      const strong = await agentWith(...BUILT_IN_SCOPE_NAMES);
      const narrow = await service.api.token(strong, { scope: 'agents:write' });
      expectRefused(await call(narrow, 'POST', '/agents', { name: 'x', scopes: ['audit:read'] }), 'audit:read');
      expectRefused(await call(narrow, 'GET', '/agents'), 'agents:read');
      expectRefused(await call(narrow, 'POST', `/agents/${strong.agentId}/credentials`, {}));
      const { organizationId } = there;
      expectRefused(await call(narrow, 'POST', '/agents', { name: 'x', organizationId }));
      const victim = await service.api.agent(operator, { organizationId });
      expect((await call(narrow, 'DELETE', `/agents/${victim.agentId}`)).status).toBe(404);
    });

    it('is dead once its agent lost one of its scopes, so that it grants nothing any more', async () => {
      const agent = await agentWith('agents:read', 'agents:write', 'audit:read');
      const wide = await service.api.token(agent);
      const narrow = await service.api.token(agent, { scope: 'agents:write' });
      const before = await countAgents(here);
      await call(operator, 'PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:read', 'agents:write'] });
      for (const scopes of [['audit:read'], ['agents:read'], []]) {
        const answer = await call(wide, 'POST', '/agents', { name: 'x', scopes });
        expect([answer.status, answer.body['code']]).toEqual([401, 'invalid_token']);
      }
      expect(await service.api.introspect(operator, wide)).toEqual({ active: false });
      expect(await countAgents(here)).toBe(before);
      expectRefused(await call(narrow, 'POST', '/agents', { name: 'x', scopes: ['audit:read'] }), 'audit:read');
      expect((await call(narrow, 'POST', '/agents', { name: 'x', scopes: ['agents:write'] })).status).toBe(201);
    });

    it('gains nothing when its agent does', async () => {
      const agent = await agentWith('agents:write');
      const token = await service.api.token(agent);
      await call(operator, 'PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:write', OPERATOR_SCOPE] });
      expectRefused(await call(token, 'GET', '/organizations'), OPERATOR_SCOPE);
      expectRefused(await call(token, 'POST', '/agents', { name: 'x', scopes: [OPERATOR_SCOPE] }), OPERATOR_SCOPE);
      const other = await service.api.agent(operator, { organizationId: there.organizationId });
      expect((await call(token, 'POST', `/agents/${other.agentId}/suspend`)).status).toBe(404);
    });

    it('of an agent that weakened itself is dead, and the next one is weaker', async () => {
      const agent = await agentWith('agents:read', 'agents:write');
      const token = await service.api.token(agent);
      expect((await call(token, 'PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:write'] })).status).toBe(200);
      expect((await call(token, 'GET', '/agents')).status).toBe(401);
      const next = await service.api.token(agent);
      expectRefused(
        await call(next, 'PATCH', `/agents/${agent.agentId}`, { scopes: ['agents:read', 'agents:write'] }),
        'agents:read',
      );
    });
  });

  describe('admin:orgs', () => {
    it('reaches every organization, and still grants only what it holds', async () => {
      const token = await holderOf('agents:read', 'agents:write', OPERATOR_SCOPE);
      const { organizationId } = there;
      expect((await call(token, 'GET', `/agents?organizationId=${organizationId}`)).status).toBe(200);
      for (const scope of BUILT_IN_SCOPE_NAMES) {
        const held = ['agents:read', 'agents:write', OPERATOR_SCOPE].includes(scope);
        const { status } = await call(token, 'POST', '/agents', { name: 'x', organizationId, scopes: [scope] });
        expect([scope, status]).toEqual([scope, held ? 201 : 403]);
      }
      expectRefused(await call(token, 'POST', `/agents/${service.operator.clientId}/credentials`, {}));
    });

    it('is no key to routes that take other scopes', async () => {
      const token = await holderOf(OPERATOR_SCOPE);
      for (const [path, scope] of [
        ['/agents', 'agents:read'],
        ['/audit', 'audit:read'],
        ['/resources', 'resources:read'],
        ['/quota', 'agents:read'],
      ] as const) {
        expectRefused(await call(token, 'GET', path), scope);
      }
      expectRefused(await call(token, 'POST', '/agents', { name: 'x' }), 'agents:write');
      const introspection = await service.api.form(
        '/api/v1/token/introspect',
        { token },
        { Authorization: `Bearer ${token}` },
      );
      expect([introspection.status, introspection.body['error']]).toEqual([403, 'insufficient_scope']);
    });
  });

  it('is not had at once either: of two who race, none ends with more than it was granted', async () => {
    const agent = await agentWith('agents:write');
    const token = await service.api.token(agent);
    const target = await agentWith();
    const path = `/agents/${target.agentId}`;
    const answers = await Promise.all([
      call(operator, 'PATCH', path, { scopes: ['audit:read'] }),
      call(token, 'PATCH', path, { scopes: ['agents:write'] }),
      call(token, 'POST', `${path}/credentials`, {}),
      call(token, 'PATCH', path, { scopes: ['agents:write'] }),
    ]);
    const [, first, secret, second] = answers.map(({ status }) => status);
    for (const status of [first, secret, second]) expect([200, 201, 403]).toContain(status);
    const scopes = (await scopesOf(target)) as string[];
    expect([['audit:read'], ['agents:write']]).toContainEqual(scopes);
  });
});

import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Controller, Get, Injectable, Module, Post } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { DiscoveryModule, DiscoveryService, HttpAdapterHost, MetadataScanner } from '@nestjs/core';
import { ApiExcludeController } from '@nestjs/swagger';
import type { FastifyInstance } from 'fastify';
import { createHash, randomUUID } from 'node:crypto';
import { AppModule } from '../../src/app.module.js';
import { ACCESS, type Access } from '../../src/platform/kernel/access.js';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../../src/platform/kernel/scopes.js';
import { basic, claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { assertionKey } from '../support/partner-issuer.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** A route as Fastify knows it, with what its handler declares. */
interface Route {
  readonly method: string;
  readonly url: string;
  readonly access: Access | undefined;
}

/** What serves the API document; registered on Fastify itself, so no guard stands before it. */
const OUTSIDE_NEST = /^\/api\/(docs(\/.*)?|openapi\.json)$/;
/** What writes of credentials take, that are refused for whom they are for and not for what they are. */
const BODIES: Readonly<Record<string, object>> = {
  keys: { jwk: assertionKey().jwk },
  'federated-identities': { partnerId: randomUUID(), subject: 'system:serviceaccount:payments:agent' },
};
const HTTP_METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'ALL', 'OPTIONS', 'HEAD'];

let undeclaredRan = 0;

@ApiExcludeController()
@Controller('undeclared')
class UndeclaredController {
  @Get()
  read(): string {
    undeclaredRan += 1;
    return 'open';
  }

  @Post(':anything')
  write(): string {
    undeclaredRan += 1;
    return 'open';
  }
}

/** Notes every route that Fastify is given. */
@Injectable()
class RouteTable {
  readonly entries: { method: string; url: string }[] = [];

  constructor(host: HttpAdapterHost) {
    const fastify = host.httpAdapter.getInstance<FastifyInstance>();
    fastify.addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) this.entries.push({ method: each, url });
    });
  }
}

@Module({ imports: [DiscoveryModule], controllers: [UndeclaredController], providers: [RouteTable] })
class ProbeModule {}

/** Starts the application as it is, with the probe beside its modules. */
async function startProbedApp(): Promise<TestApp> {
  const build = AppModule.forRoot.bind(AppModule);
  const wired = jest.spyOn(AppModule, 'forRoot').mockImplementation((parts) => {
    const { imports = [], ...rest } = build(parts);
    return { ...rest, imports: [...imports, ProbeModule] };
  });
  try {
    return await startTestApp();
  } finally {
    wired.mockRestore();
  }
}

/** Joins Fastify's route table with what each handler declares. */
function routesOf({ app }: TestApp): Route[] {
  const declared = new Map<string, Access | undefined>();
  for (const { metatype, instance } of app.get(DiscoveryService).getControllers()) {
    if (typeof metatype !== 'function') continue;
    const prototype = Object.getPrototypeOf(instance) as Record<string, object>;
    for (const name of app.get(MetadataScanner).getAllMethodNames(prototype)) {
      const handler = prototype[name] as object;
      const method = Reflect.getMetadata(METHOD_METADATA, handler) as number | undefined;
      if (method === undefined) continue;
      const [base, rest] = [metatype, handler].map((at) => String(Reflect.getMetadata(PATH_METADATA, at)));
      const path = `/${base}/${rest}`.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
      const access = (Reflect.getMetadata(ACCESS, handler) ?? Reflect.getMetadata(ACCESS, metatype)) as Access;
      for (const url of [path, `/api/v1${path}`]) declared.set(`${HTTP_METHODS[method]} ${url}`, access);
    }
  }
  return app.get(RouteTable).entries.map(({ method, url }) => {
    const key = `${method === 'HEAD' ? 'GET' : method} ${url}`;
    if (!declared.has(key) && !OUTSIDE_NEST.test(url)) throw new Error(`no handler is known for ${key}`);
    return { method, url, access: declared.get(key) };
  });
}

const bodyOf = ({ method, url }: Route): object | undefined =>
  method === 'POST' ? BODIES[url.split('/').at(-1) ?? ''] : undefined;

const withIds = (url: string, ids: Record<string, string> = {}): string =>
  url.replace(/:(\w+)/g, (_, name: string) => ids[name] ?? randomUUID());

/** Adds an organization in SQL. */
async function addOrganization({ database }: TestApp): Promise<string> {
  const id = randomUUID();
  await database.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      VALUES ($1, 'Other', $2, 'free', 'active', now(), now())`,
    [id, id],
  );
  await database.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
    id,
    createHash('sha256').update(id).digest(),
  ]);
  return id;
}

describe('access to the routes of the running application', () => {
  let service: TestApp;
  let operator: string;
  let routes: Route[];

  beforeAll(async () => {
    service = await startProbedApp();
    operator = await service.api.token(service.operator);
    routes = routesOf(service);
  });
  afterAll(() => service.close());

  const send = ({ method, url }: Route, headers: Record<string, string> = {}, query = ''): Promise<Answer> =>
    service.api.send(method, withIds(url) + query, { headers });
  const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` });
  const undeclared = (): Route[] => routes.filter(({ access, url }) => access === undefined && !OUTSIDE_NEST.test(url));
  const guarded = (): (Route & { access: Extract<Access, { kind: 'scopes' }> })[] =>
    routes.flatMap((route) => (route.access?.kind === 'scopes' ? [{ ...route, access: route.access }] : []));
  const codeOf = ({ body, headers }: Answer): unknown =>
    headers.get('content-type') === 'application/problem+json' ? body['code'] : body['error'];

  it('is declared by every route but the probe’s', () => {
    expect(routes.length).toBeGreaterThan(40);
    expect(new Set(undeclared().map(({ url }) => url))).toEqual(
      new Set(['/api/v1/undeclared', '/api/v1/undeclared/:anything']),
    );
    const open = routes.filter(({ access, method }) => access?.kind === 'public' && method !== 'HEAD');
    expect(open.map(({ method, url }) => `${method} ${url}`).sort()).toEqual([
      'GET /.well-known/jwks.json',
      'GET /.well-known/oauth-authorization-server',
      'GET /.well-known/oauth-authorization-server/*',
      'GET /api/v1/authorize',
      'GET /health/live',
      'GET /health/ready',
      'GET /metrics',
      'POST /api/v1/authorize',
    ]);
    const byClient = routes.filter(({ access }) => access?.kind === 'client');
    expect(byClient.map(({ method, url }) => `${method} ${url}`)).toEqual(['POST /api/v1/token']);
  });

  it('is refused without a token, with a bare challenge', async () => {
    for (const route of guarded()) {
      const answer = await send(route);
      expect([route.method, route.url, answer.status, answer.headers.get('www-authenticate')]).toEqual([
        route.method,
        route.url,
        401,
        'Bearer',
      ]);
      if (route.method !== 'HEAD') expect(codeOf(answer)).toBe('invalid_token');
    }
  });

  it('is refused with a token that is garbage, revoked, expired, foreign or of a suspended agent', async () => {
    const scopes = [...BUILT_IN_SCOPE_NAMES];
    const [revoked, suspended, expiring] = await Promise.all([
      service.api.agent(operator, { scopes }),
      service.api.agent(operator, { scopes }),
      service.api.agent(operator, { scopes, tokenTtlSeconds: 60 }),
    ]);
    const dead = await Promise.all([revoked, suspended, expiring].map((agent) => service.api.token(agent)));
    await service.api.revoke(operator, dead[0] ?? '');
    await service.api.call('POST', `/agents/${suspended.agentId}/suspend`, operator);
    service.clock.advance(61);
    const [header, payload, signature = ''] = operator.split('.');
    const tampered = `${header}.${payload}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`;
    const unsigned = `${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.${payload}.`;
    const tokens = [...dead, tampered, unsigned, 'garbage', ''];
    for (const route of guarded()) {
      const answers = await Promise.all(tokens.map((token) => send(route, bearer(token))));
      expect([route.method, route.url, ...answers.map(({ status }) => status)]).toEqual([
        route.method,
        route.url,
        ...tokens.map(() => 401),
      ]);
      for (const { headers } of answers) {
        expect(headers.get('www-authenticate')).toMatch(/^Bearer( error="invalid_token")?$/);
      }
    }
  });

  it('is refused with a token in the query string', async () => {
    for (const route of guarded()) {
      expect((await send(route, {}, `?access_token=${operator}&token=${operator}`)).status).toBe(401);
    }
  });

  it('is refused with a token that lacks one of the scopes, before anything else is looked at', async () => {
    const all = await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    const tokens = new Map<string, string>();
    for (const scope of BUILT_IN_SCOPE_NAMES) {
      const rest = BUILT_IN_SCOPE_NAMES.filter((each) => each !== scope);
      tokens.set(scope, await service.api.token(all, { scope: rest.join(' ') }));
    }
    const scopeless = await service.api.token(await service.api.agent(operator));
    let refusals = 0;
    for (const route of guarded()) {
      for (const scope of route.access.scopes) {
        const lacking = route.access.orOperator === true ? [] : [tokens.get(scope) ?? ''];
        for (const token of [...lacking, scopeless]) {
          const answer = await send(route, bearer(token));
          expect([route.method, route.url, answer.status]).toEqual([route.method, route.url, 403]);
          expect(answer.headers.get('www-authenticate')).toBe(
            `Bearer error="insufficient_scope", scope="${route.access.scopes.join(' ')}"`,
          );
          if (route.method !== 'HEAD') expect(codeOf(answer)).toBe('insufficient_scope');
          refusals += 1;
        }
      }
    }
    expect(refusals).toBeGreaterThan(30);
  });

  it('is given with the operator’s scope alone where the route says so', async () => {
    const all = await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    const token = await service.api.token(all, { scope: OPERATOR_SCOPE });
    const open = guarded().filter(({ access }) => access.orOperator === true);
    expect(open.map(({ method, url }) => `${method} ${url}`)).toEqual(
      expect.arrayContaining(['GET /api/v1/federation/partners', 'GET /api/v1/federation/partners/:partnerId']),
    );
    for (const route of open) expect([401, 403]).not.toContain((await send(route, bearer(token))).status);
  });

  it('is given with exactly the scopes that the route declares', async () => {
    const all = await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    for (const route of guarded()) {
      const scope = route.access.scopes.join(' ');
      const token = await service.api.token(scope === '' ? await service.api.agent(operator) : all, { scope });
      const { status } = await send(route, bearer(token));
      expect([route.url, [401, 403, 500].includes(status)]).toEqual([route.url, false]);
    }
  });

  it('is given with client authentication only where the route takes it', async () => {
    const agent = await service.api.agent(operator, { scopes: [...BUILT_IN_SCOPE_NAMES] });
    for (const route of guarded()) {
      const { status } = await send(route, basic(agent));
      expect([route.method, route.url, status === 401]).toEqual([
        route.method,
        route.url,
        route.access.clientScopes === null,
      ]);
    }
  });

  it('needs client authentication at the token endpoint, whatever Bearer token there is', async () => {
    const answer = await service.api.form('/api/v1/token', { grant_type: 'client_credentials' }, bearer(operator));
    expect([answer.status, answer.body['error']]).toEqual([401, 'invalid_client']);
  });

  it('is open to everybody where the route says so', async () => {
    for (const route of routes.filter(({ access, url }) => access?.kind === 'public' || OUTSIDE_NEST.test(url))) {
      for (const headers of [{}, bearer('garbage')]) {
        const { status } = await send(route, headers);
        // The path of an issuer that has one; this issuer has none.
        const closed = route.url.endsWith('/*') ? [401, 403, 500] : [401, 403, 404, 500];
        expect([route.url, closed.includes(status)]).toEqual([route.url, false]);
      }
    }
  });

  it('is refused to everybody at a route that declares nothing, and its handler never runs', async () => {
    for (const route of undeclared()) {
      for (const headers of [{}, bearer(operator), basic(service.operator)]) {
        const answer = await send(route, headers);
        expect([answer.status, route.method === 'HEAD' || codeOf(answer) === 'insufficient_scope']).toEqual([
          403,
          true,
        ]);
      }
    }
    expect(undeclaredRan).toBe(0);
  });

  describe('nobody grants what they lack', () => {
    const HELD = ['agents:read', 'agents:write', 'tokens:read'];
    let manager: TestAgent;
    let token: string;
    let subject: TestAgent;

    beforeAll(async () => {
      // Holds audit:read too, but not in this token.
      manager = await service.api.agent(operator, { scopes: [...HELD, 'audit:read'] });
      token = await service.api.token(manager, { scope: HELD.join(' ') });
      subject = await service.api.agent(token);
    });

    it.each([...BUILT_IN_SCOPE_NAMES])('%s, neither when registering nor when changing an agent', async (scope) => {
      const held = HELD.includes(scope);
      for (const scopes of [[scope], ['agents:read', scope].filter((each, at, all) => all.indexOf(each) === at)]) {
        const created = await service.api.call('POST', '/agents', token, { name: 'x', scopes });
        expect([created.status, created.body['code']]).toEqual(held ? [201, undefined] : [403, 'insufficient_scope']);
        const changed = await service.api.call('PATCH', `/agents/${subject.agentId}`, token, { scopes });
        expect([changed.status, changed.body['code']]).toEqual(held ? [200, undefined] : [403, 'insufficient_scope']);
        if (!held) expect(created.headers.get('www-authenticate')).toContain(`scope="${scope}"`);
      }
    });

    it('nor to themselves', async () => {
      const own = await service.api.agent(operator, { scopes: HELD });
      const ownToken = await service.api.token(own);
      for (const scope of BUILT_IN_SCOPE_NAMES.filter((each) => !HELD.includes(each))) {
        const { status } = await service.api.call('PATCH', `/agents/${own.agentId}`, ownToken, {
          scopes: [...HELD, scope],
        });
        expect([scope, status]).toEqual([scope, 403]);
      }
      expect((await service.api.call('GET', `/agents/${own.agentId}`, ownToken)).body['scopes']).toEqual(HELD);
    });

    it.each(['invoices:read', 'openid', 'admin:*', 'AGENTS:READ', 'constructor', '__proto__'])(
      'nor anybody the unknown scope %s, the operator included',
      async (scope) => {
        const { status, body } = await service.api.call('POST', '/agents', operator, { name: 'x', scopes: [scope] });
        expect([status, body['code']]).toEqual([403, 'insufficient_scope']);
      },
    );

    it('may take scopes away from an agent that is not stronger', async () => {
      const agent = await service.api.agent(token, { scopes: HELD });
      const { status, body } = await service.api.call('PATCH', `/agents/${agent.agentId}`, token, { scopes: [] });
      expect([status, body['scopes']]).toEqual([200, []]);
    });
  });

  describe('nobody manages an agent that is stronger', () => {
    /** Every route that changes what is below an agent. */
    const writes = (): Route[] =>
      routes.filter(({ url, method }) => url.includes('/agents/:agentId') && !['GET', 'HEAD'].includes(method));
    const change = (route: Route, agent: TestAgent, caller: string): Promise<Answer> =>
      service.api.call(
        route.method,
        withIds(route.url, agent as never).replace('/api/v1', ''),
        caller,
        route.method === 'PATCH' ? { name: 'taken over' } : bodyOf(route),
      );
    const rowsOf = async ({ agentId }: TestAgent): Promise<unknown> => [
      await service.database.query('SELECT * FROM agents WHERE agent_id = $1', [agentId]),
      await service.database.query('SELECT * FROM credentials WHERE agent_id = $1', [agentId]),
    ];

    it('by any write route, in whatever state the agent is', async () => {
      const manager = await service.api.token(
        await service.api.agent(operator, { scopes: ['agents:read', 'agents:write', 'audit:read'] }),
      );
      const stronger: TestAgent[] = [];
      for (const scope of BUILT_IN_SCOPE_NAMES.filter(
        (each) => !['agents:read', 'agents:write', 'audit:read'].includes(each),
      )) {
        stronger.push(await service.api.agent(operator, { scopes: ['agents:read', scope] }));
      }
      const [, suspended, gone] = stronger;
      await service.api.call('POST', `/agents/${suspended?.agentId}/suspend`, operator);
      await service.api.call('DELETE', `/agents/${gone?.agentId}`, operator);
      expect(writes().length).toBeGreaterThanOrEqual(8);
      for (const agent of [
        ...stronger,
        { ...service.operator, agentId: service.operator.clientId, credentialId: randomUUID() },
      ]) {
        const before = await rowsOf(agent);
        for (const route of writes()) {
          const { status, body } = await change(route, agent, manager);
          expect([route.method, route.url, status, body['code']]).toEqual([
            route.method,
            route.url,
            403,
            'insufficient_scope',
          ]);
        }
        expect(await rowsOf(agent)).toEqual(before);
        expect((await service.api.call('GET', `/agents/${agent.agentId}`, manager)).status).toBe(200);
      }
    });

    it('though it may manage one that is as strong, or weaker', async () => {
      const scopes = ['agents:read', 'agents:write', 'audit:read'];
      const manager = await service.api.token(await service.api.agent(operator, { scopes }));
      for (const held of [scopes, ['audit:read'], []]) {
        for (const route of writes()) {
          const agent = await service.api.agent(operator, { scopes: held });
          if (route.url.endsWith('/reactivate'))
            await service.api.call('POST', `/agents/${agent.agentId}/suspend`, manager);
          const { status } = await change(route, agent, manager);
          expect([route.method, route.url, [401, 403].includes(status)]).toEqual([route.method, route.url, false]);
        }
      }
    });
  });

  describe('organizations do not see each other', () => {
    let organizationId: string;
    let ownId: string;
    /** All scopes but the operator's, one in each organization. */
    let ours: string;
    let theirs: string;
    let theirAgent: TestAgent;
    let ourAgent: TestAgent;

    beforeAll(async () => {
      organizationId = await addOrganization(service);
      ownId = claimsOf(operator)['org'] as string;
      const scopes = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== 'admin:orgs');
      ours = await service.api.token(await service.api.agent(operator, { scopes }));
      theirs = await service.api.token(await service.api.agent(operator, { scopes, organizationId }));
      theirAgent = await service.api.agent(operator, { organizationId });
      ourAgent = await service.api.agent(operator);
    });

    it('puts what the operator makes for another organization there', async () => {
      expect(claimsOf(theirs)['org']).toBe(organizationId);
      const read = await service.api.call('GET', `/agents/${theirAgent.agentId}`, operator);
      expect([read.status, read.body['organizationId']]).toEqual([200, organizationId]);
      expect((await service.api.call('POST', `/agents/${theirAgent.agentId}/revoke-tokens`, operator)).status).toBe(
        200,
      );
      const log = await service.api.call('GET', '/audit?action=agent.tokens_revoked', theirs);
      expect(log.body['data']).toMatchObject([{ actor: service.operator.clientId, organizationId }]);
    });

    it('answers 404 for an agent of the other, by every path and method', async () => {
      const below = routes.filter(({ url }) => url.includes(':agentId'));
      expect(below.length).toBeGreaterThan(10);
      for (const [caller, agent] of [
        [ours, theirAgent],
        [theirs, ourAgent],
      ] as const) {
        for (const route of below) {
          const body = route.method === 'PATCH' ? { name: 'x' } : bodyOf(route);
          const answer = await service.api.send(route.method, withIds(route.url, agent as never), {
            headers: { ...bearer(caller), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          });
          expect([route.method, route.url, answer.status]).toEqual([route.method, route.url, 404]);
          if (route.method !== 'HEAD') expect(answer.body['code']).toBe('not_found');
        }
      }
      expect((await service.api.requestToken(theirAgent)).status).toBe(200);
    });

    it('answers 404 alike for an agent that there is not: nothing tells the two apart', async () => {
      const [foreign, unknown] = await Promise.all(
        [theirAgent.agentId, randomUUID()].map((id) => service.api.call('GET', `/agents/${id}`, ours)),
      );
      expect(foreign?.body).toEqual(unknown?.body);
    });

    it('answers 404 for an audit event of the other', async () => {
      const page = await service.api.call('GET', '/audit?limit=1', theirs);
      const [event] = page.body['data'] as { eventId: string }[];
      expect((await service.api.call('GET', `/audit/${event?.eventId}`, ours)).status).toBe(404);
      expect((await service.api.call('GET', `/audit/${event?.eventId}`, operator)).status).toBe(200);
    });

    it('answers 404 to a client of the other that rotates by client authentication', async () => {
      const path = `/api/v1/agents/${ourAgent.agentId}/credentials/${ourAgent.credentialId}/rotate`;
      const { status } = await service.api.send('POST', path, { headers: basic(theirAgent) });
      expect([403, 404]).toContain(status);
      expect((await service.api.requestToken(ourAgent)).status).toBe(200);
    });

    it('lists its own only', async () => {
      for (const [token, own] of [
        [ours, ownId],
        [theirs, organizationId],
      ] as const) {
        for (const path of ['/agents?limit=200', '/audit?limit=200']) {
          const { body } = await service.api.call('GET', path, token);
          const data = body['data'] as { organizationId: string }[];
          expect(data.length).toBeGreaterThan(0);
          expect([...new Set(data.map((each) => each.organizationId))]).toEqual([own]);
        }
      }
      const cursor = (await service.api.call('GET', '/agents?limit=1', ours)).body['nextCursor'];
      expect((await service.api.call('GET', `/agents?cursor=${String(cursor)}`, theirs)).status).toBe(400);
    });

    it('refuses a foreign organizationId to all but the operator, and takes one’s own', async () => {
      for (const path of ['/agents', '/audit', '/audit/verify', '/quota']) {
        for (const foreign of [organizationId, randomUUID()]) {
          const { status, body } = await service.api.call('GET', `${path}?organizationId=${foreign}`, ours);
          expect([path, status, body['code']]).toEqual([path, 403, 'insufficient_scope']);
        }
        for (const own of [ownId, ownId.toUpperCase()]) {
          expect((await service.api.call('GET', `${path}?organizationId=${own}`, ours)).status).toBe(200);
        }
        expect((await service.api.call('GET', `${path}?organizationId=${organizationId}`, operator)).status).toBe(200);
      }
      const make = (token: string, id: string): Promise<Answer> =>
        service.api.call('POST', '/agents', token, { name: 'x', organizationId: id });
      expect((await make(ours, organizationId)).body).toMatchObject({ status: 403, code: 'insufficient_scope' });
      expect((await make(ours, randomUUID())).body).toMatchObject({ status: 403, code: 'insufficient_scope' });
      expect((await make(ours, ownId)).body['organizationId']).toBe(ownId);
      expect((await make(operator, organizationId.toUpperCase())).body['organizationId']).toBe(organizationId);
      expect((await make(operator, randomUUID())).status).toBe(404);
    });

    it('lets the operator read quota and log of the other, as the other sees them', async () => {
      for (const path of ['/quota', '/audit/verify']) {
        const asOperator = await service.api.call('GET', `${path}?organizationId=${organizationId}`, operator);
        expect(asOperator.body).toEqual((await service.api.call('GET', path, theirs)).body);
      }
      for (const path of ['/quota', '/audit/verify']) {
        expect((await service.api.call('GET', `${path}?organizationId=${randomUUID()}`, operator)).status).toBe(404);
      }
    });

    it('neither tells nor revokes tokens of the other', async () => {
      const token = await service.api.token(theirAgent);
      expect(await service.api.introspect(ours, token)).toEqual({ active: false });
      const refused = await service.api.revoke(ours, token);
      expect([refused.status, refused.body['error']]).toEqual([403, 'insufficient_scope']);
      expect(await service.api.introspect(theirs, token)).toMatchObject({ active: true });
      expect(await service.api.introspect(operator, token)).toMatchObject({ active: true });
    });

    it('gives nothing to anybody of a suspended organization', async () => {
      const organization = await addOrganization(service);
      const agent = await service.api.agent(operator, {
        organizationId: organization,
        scopes: ['agents:read', 'tokens:read'],
      });
      const token = await service.api.token(agent);
      await service.database.query("UPDATE organizations SET status = 'suspended' WHERE organization_id = $1", [
        organization,
      ]);
      expect((await service.api.call('GET', '/agents', token)).status).toBe(401);
      expect(await service.api.introspect(operator, token)).toEqual({ active: false });
      const refused = await service.api.requestToken(agent);
      expect([refused.status, refused.body['error_description']]).toEqual([
        403,
        'Organization is currently suspended and cannot obtain tokens.',
      ]);
      expect((await service.api.form('/api/v1/token/introspect', { token: operator }, basic(agent))).status).toBe(401);
      expect((await service.api.form('/api/v1/token/revoke', { token }, basic(agent))).status).toBe(401);
    });
  });
});

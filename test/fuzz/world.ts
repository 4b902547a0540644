import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../../src/platform/kernel/scopes.js';
import { basic, claimsOf, type TestAgent } from '../support/api.js';
import { addOrganization } from '../support/organizations.js';
import type { TestApp } from '../support/test-app.js';
import { isForTheOperator, type ApiDocument, type Json, type Operation } from './api-document.js';
import { Pool, thingOf, type Place } from './pool.js';
import { render, type Authentication, type Rendered } from './render.js';
import type { CallerName, Plan } from './request.js';
import { type Ref, validMembers, variantOf, type Value } from './values.js';
import type { Reply, Wire } from './wire.js';

const TENANT_SCOPES = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== OPERATOR_SCOPE);
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
/** After how long everybody gets new tokens, in milliseconds: well before they expire. */
const TOKENS_LAST_MS = 1_800_000;
/** How many things of a kind there are before requests about them are made. */
const ENOUGH = 4;

/** What is answered about things that are no more, or that nothing can be done with. */
const GONE: ReadonlySet<number> = new Set([204, 404, 409]);

/** An organization and who acts for it. */
interface Tenant {
  readonly organizationId: string;
  admin: TestAgent;
  token: string;
  readonly pool: Pool;
  /** Honest requests so far; each has a seed of its own. */
  acts: number;
}

/** The installation that is fuzzed: a tenant that calls, another that must not be seen, and the platform's operator. */
export class World {
  /** Texts and ids of the other tenant. */
  readonly marks = new Set<string>();
  private operatorToken = '';
  private reader = '';
  private revivedAt = 0;
  private reviving: Promise<void> | null = null;

  private constructor(
    private readonly service: TestApp,
    private readonly document: ApiDocument,
    private readonly wire: Wire,
    private readonly seed: number,
    private readonly spared: Set<string>,
    private readonly own: Tenant,
    private readonly foreign: Tenant,
  ) {}

  static async make(service: TestApp, document: ApiDocument, wire: Wire, seed: number): Promise<World> {
    const operator = await service.api.token(service.operator);
    const spared = new Set([service.operator.clientId, String(claimsOf(operator)['org'])]);
    const tenant = async (): Promise<Tenant> => {
      const organizationId = await addOrganization(service, operator);
      const admin = await service.api.agent(operator, { organizationId, scopes: TENANT_SCOPES, name: 'admin' });
      spared.add(organizationId).add(admin.agentId);
      return {
        organizationId,
        admin,
        token: await service.api.token(admin),
        pool: new Pool(document, organizationId, spared),
        acts: 0,
      };
    };
    const world = new World(service, document, wire, seed, spared, await tenant(), await tenant());
    world.operatorToken = operator;
    const reader = await service.api.agent(operator, { organizationId: world.own.organizationId, name: 'reader' });
    spared.add(reader.agentId);
    world.reader = await service.api.token(reader);
    await Promise.all([
      world.plant(world.foreign, (text) => world.marks.add(text)),
      world.plant(world.own, () => undefined),
    ]);
    const { organizationId, admin } = world.foreign;
    for (const id of [organizationId, admin.agentId, admin.credentialId]) world.marks.add(id);
    return world;
  }

  /** The request of a plan, as it is now, and the things that it is about. */
  prepare(operation: Operation, plan: Plan): { request: Rendered; place: Place } {
    const isAboutIt = operation.path.includes('{credentialId}');
    const client = this.clientFor(plan, isAboutIt);
    const place =
      plan.caller === 'client' && isAboutIt
        ? { agentId: client.clientId, credentialId: client.credentialId }
        : (this.own.pool.place(operation.path, plan.pick) ?? {});
    const isForm = operation.body?.mediaType === 'application/x-www-form-urlencoded';
    const authentication = this.authenticationOf(plan.caller, client, isForm && plan.pick % 2 === 0);
    const request = render(operation, plan, place, authentication, (reference) => this.find(reference));
    return { request, place };
  }

  /** Learns from an answer, and sets right what the request may have put out of order for the ones to come. */
  async digest(
    operation: Operation,
    place: Place,
    { caller }: Plan,
    sent: Rendered,
    { status, json }: Reply,
  ): Promise<void> {
    const isOurs = caller !== 'nobody' && caller !== 'impostor';
    if (isOurs && status < 300) this.own.pool.learn(operation, place, json);
    if (sent.untouched && GONE.has(status)) this.own.pool.forget(operation.path, place);
    if (isOurs && caller !== 'reader' && sent.untouched && (status === 401 || status === 403)) await this.revive();
  }

  /** Sees to it that there is something that an operation could be about. */
  async provide({ path, body }: Operation): Promise<void> {
    const needed = body === undefined ? [] : this.document.requiredBy(body.schema);
    for (const name of needed) {
      const thing = this.document.operations.find((each) => each.path.endsWith(`/{${name}}`));
      if (thing !== undefined && thing.path !== path) await this.provide({ ...thing, body: undefined });
    }
    if (!path.includes('{') || this.own.pool.count(path) >= ENOUGH) return;
    const thing = thingOf(path);
    const collection = thing.slice(0, thing.lastIndexOf('/'));
    const sources = this.document.operations.filter((each) => each.path === collection);
    for (const source of sources.sort((a, b) => b.method.localeCompare(a.method))) {
      await this.provide(source);
      for (let time = 0; time < ENOUGH; time += 1) await this.act(this.own, source, () => undefined);
    }
  }

  /** What of the other tenant stands in an answer to somebody of this one, and was not in the request. */
  leaksOf({ caller }: Plan, sent: Rendered, { text }: Reply): string[] {
    if (caller === 'operator') return [];
    const request = `${sent.target} ${String(sent.body)} ${sent.headers.join(' ')}`;
    const seen = new Set([...(text.match(UUID) ?? []), ...(text.match(/mark[0-9a-f]{12}/g) ?? [])]);
    return [...seen]
      .filter((each) => this.marks.has(each) && !request.includes(each))
      .map((each) => `leaks ${each}: ${excerpt(text, each)}`);
  }

  /** Some minutes, after which what others may remember of keys is old enough. */
  async letTimePass(): Promise<void> {
    this.service.clock.advance(600);
    if (this.service.clock.now().getTime() - this.revivedAt > TOKENS_LAST_MS) await this.revive();
  }

  /** Whether both chains are whole. */
  async verdicts(): Promise<unknown[]> {
    await this.revive();
    return Promise.all(
      [this.own, this.foreign].map(async ({ organizationId }) => {
        const path = `/audit/verify?organizationId=${organizationId}`;
        return (await this.service.api.call('GET', path, this.operatorToken)).body['valid'];
      }),
    );
  }

  private find({ whose, name, pick }: Ref): Value {
    if (whose === 'own') return this.own.pool.value(name, pick) ?? this.own.pool.value('agentId', pick) ?? 'unknown';
    const found = this.foreign.pool.value(name, pick) ?? this.foreign.pool.value('agentId', pick);
    // Lists that the operator reads name those who call as well: the operator would end them.
    return typeof found !== 'string' || this.spared.has(found) ? this.foreign.organizationId : found;
  }

  /** @param isAboutIt whether the request ends the secret that it shows: then not the administrator's */
  private clientFor({ pick }: Plan, isAboutIt: boolean): TestAgent {
    const { clients } = this.own.pool;
    if (!isAboutIt && pick % 3 === 1) return this.own.admin;
    const known = pick % 3 === 0 ? clients[pick % Math.max(1, clients.length)] : clients.at(-1);
    if (known === undefined) return this.own.admin;
    return { ...known, clientId: known.agentId };
  }

  private authenticationOf(caller: CallerName, client: TestAgent, inForm: boolean): Authentication {
    const bearer = (token: string): Authentication => ({ headers: ['Authorization', `Bearer ${token}`], form: [] });
    switch (caller) {
      case 'tenant':
        return bearer(this.own.token);
      case 'operator':
        return bearer(this.operatorToken);
      case 'reader':
        return bearer(this.reader);
      case 'impostor':
        return bearer(`${this.own.token.slice(0, -4)}AAAA`);
      case 'nobody':
        return { headers: [], form: [] };
      case 'client':
        if (!inForm) return { headers: ['Authorization', basic(client)['Authorization'] ?? ''], form: [] };
        return {
          headers: [],
          form: [
            ['client_id', client.clientId],
            ['client_secret', client.clientSecret],
          ],
        };
    }
  }

  /** New tokens, and a new administrator where the requests have ended the last one. */
  private revive(): Promise<void> {
    this.reviving ??= this.reviveNow().finally(() => {
      this.reviving = null;
    });
    return this.reviving;
  }

  private async reviveNow(): Promise<void> {
    const { service, own } = this;
    this.revivedAt = service.clock.now().getTime();
    this.operatorToken = await service.api.token(service.operator);
    const path = `/organizations/${own.organizationId}`;
    await service.api.call('POST', `${path}/reactivate`, this.operatorToken);
    const noLimits = { tokensPerMonth: null, agents: null, webhooks: null };
    await service.api.call('PATCH', path, this.operatorToken, { tier: 'enterprise', limits: noLimits });
    const again = await service.api.requestToken(own.admin);
    if (again.status !== 200) {
      const fields = { organizationId: own.organizationId, scopes: TENANT_SCOPES, name: 'admin' };
      own.admin = await service.api.agent(this.operatorToken, fields);
      this.spared.add(own.admin.agentId);
    }
    own.token = await service.api.token(own.admin);
  }

  /** Makes one of everything that can be made, and reads everything that can be read. */
  private async plant(tenant: Tenant, mark: (text: string) => void): Promise<void> {
    const depth = (path: string) => path.split('/').length;
    const makers = this.document.operations.filter(({ method, body }) => method === 'POST' && body !== undefined);
    const readers = this.document.operations.filter(({ method }) => method === 'GET');
    // Twice: what is made later may be what something else needs.
    for (const round of [makers, makers, readers, makers]) {
      for (const operation of [...round].sort((a, b) => depth(a.path) - depth(b.path))) {
        await this.act(tenant, operation, mark);
      }
    }
  }

  /** An honest request for a tenant, with texts that can be recognised. */
  private async act(tenant: Tenant, operation: Operation, mark: (text: string) => void): Promise<void> {
    const { pool } = tenant;
    const place = pool.place(operation.path, 0);
    if (place === undefined && operation.path.includes('{')) return;
    tenant.acts += 1;
    const seed = this.seed + tenant.acts;
    const schema = operation.body?.schema;
    const members =
      schema === undefined ? [] : (fc.sample(validMembers(this.document, schema), { seed, numRuns: 1 })[0] ?? []);
    const byOperator = isForTheOperator(operation);
    const ofTenant = byOperator && schema !== undefined && 'organizationId' in this.document.membersOf(schema);
    const body: Plan['body'] = [
      ...members
        .filter(([name]) => name !== 'organizationId')
        .map(([name, value]) => [name, this.marked(schema, name, value, mark)] as const),
      ...(ofTenant ? [['organizationId', tenant.organizationId] as const] : []),
    ];
    const plan: Plan = { caller: 'tenant', pick: 0, query: [], body, mutations: [] };
    const token = byOperator ? this.operatorToken : tenant.token;
    const authentication: Authentication =
      operation.path === '/api/v1/token'
        ? { headers: ['Authorization', basic(tenant.admin)['Authorization'] ?? ''], form: [] }
        : { headers: ['Authorization', `Bearer ${token}`], form: [] };
    const request = render(
      operation,
      plan,
      place ?? {},
      authentication,
      ({ name, pick }) => pool.value(name, pick) ?? 'unknown',
    );
    const { status, text, json } = await this.wire.send(request);
    if (status >= 300) return;
    pool.learn(operation, place ?? {}, json);
    if (operation.method === 'POST') for (const id of text.match(UUID) ?? []) if (!this.isShared(id)) mark(id);
  }

  /** Texts of one's own choice become marks. */
  private marked(schema: Json | undefined, name: string, value: Value, mark: (text: string) => void): Value {
    const { example } = schema === undefined ? {} : (this.document.membersOf(schema)[name] ?? {});
    if (typeof value !== 'string' || typeof example !== 'string') return value;
    const text = `mark${randomBytes(6).toString('hex')}`;
    mark(text);
    return variantOf(example, text);
  }

  private isShared(id: string): boolean {
    return id === this.service.operator.clientId || id === this.own.organizationId || id === this.own.admin.agentId;
  }
}

/** Where in an answer a text stands. */
function excerpt(text: string, part: string): string {
  const at = text.indexOf(part);
  return text.slice(Math.max(0, at - 120), at + 120);
}

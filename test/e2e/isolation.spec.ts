import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../../src/platform/kernel/scopes.js';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { assertionKey } from '../support/partner-issuer.js';
import { Receiver } from '../support/receiver.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema?: Readonly<Record<string, unknown>>;
}
interface Operation {
  readonly method: string;
  readonly path: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Json }> };
  readonly security?: readonly Record<string, readonly string[]>[];
}
interface Request {
  readonly method: string;
  readonly url: string;
  readonly body?: Json;
}

/** Everything that a tenant may hold. */
const TENANT_SCOPES = BUILT_IN_SCOPE_NAMES.filter((scope) => scope !== OPERATOR_SCOPE);
const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';
/** Answers every request with the same refusal, and says so. */
const ALWAYS_REFUSED = '/api/v1/authorize';
/** What the dispatcher of webhooks moves by itself while an organization's chain goes on. */
const MOVED_BY_THE_DISPATCHER = ['sequence', 'lease_owner', 'lease_until', 'served_at'];

/** An organization with one of everything, each thing named so that nobody could guess it. */
interface Plant {
  readonly organizationId: string;
  /** An agent of it with every scope that a tenant can hold. */
  readonly admin: TestAgent;
  readonly token: string;
  /**
   * Its objects by the names that parameters and members have. A test that fails for want of one here is to be given
   * the object, planted below.
   */
  readonly ids: Readonly<Record<string, string>>;
  /** Values that filters may name. */
  readonly filters: Readonly<Record<string, string>>;
  /** What forms of the OAuth endpoints may name. */
  readonly form: Readonly<Record<string, string>>;
  /** All that must not be seen elsewhere. */
  readonly marks: readonly string[];
}

describe('another tenant', () => {
  let service: TestApp;
  let operator: string;
  let operations: Operation[];
  let schemas: Record<string, Json>;
  let ours: Plant;
  let theirs: Plant;
  let receiver: Receiver;

  beforeAll(async () => {
    service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1' } });
    receiver = await Receiver.start();
    operator = await service.api.token(service.operator);
    const { body } = await service.api.send('GET', '/api/openapi.json');
    operations = Object.entries(body['paths'] as Record<string, Record<string, Operation>>).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ ...operation, method: method.toUpperCase(), path })),
    );
    schemas = (body['components'] as { schemas: Record<string, Json> }).schemas;
    ours = await plant();
    theirs = await plant();
    for (const each of [ours, theirs]) await until('the test event is delivered', () => isSettled(each));
  });
  afterAll(async () => {
    await service.close();
    await receiver.close();
  });

  async function isSettled({ token, ids }: Plant): Promise<boolean> {
    const { body } = await service.api.call<{ data: Json[] }>('GET', `/webhooks/${ids['webhookId']}/deliveries`, token);
    if (body.data[0]?.['status'] !== 'delivered') return false;
    // The dispatcher has given the lane back: nothing is due any more.
    const sql = 'SELECT 1 FROM webhook_lanes WHERE webhook_id = $1 AND next_due_at IS NULL AND lease_owner IS NULL';
    return (await service.database.query(sql, [ids['webhookId']])).length === 1;
  }

  async function plant(): Promise<Plant> {
    const marks: string[] = [];
    const mark = (): string => {
      const text = `mark${randomBytes(9).toString('hex')}`;
      marks.push(text);
      return text;
    };
    const must = async (method: string, path: string, by: string, body?: Json): Promise<Json> => {
      const answer = await service.api.call(method, path, by, body);
      if (answer.status >= 300) throw new Error(`nothing planted: ${method} ${path} ${answer.status} ${answer.text}`);
      return answer.body;
    };
    const organization = await must('POST', '/organizations', operator, {
      name: mark(),
      slug: mark(),
      tier: 'enterprise',
    });
    const organizationId = organization['organizationId'] as string;
    const admin = await service.api.agent(operator, { organizationId, scopes: TENANT_SCOPES, name: mark() });
    const token = await service.api.token(admin);
    const scope = mark();
    const identifier = `https://${mark()}.example/`;
    const resource = await must('POST', '/resources', token, {
      identifier,
      name: mark(),
      scopes: [{ name: scope, description: mark() }],
    });
    await must('PATCH', `/agents/${admin.agentId}`, token, { scopes: [...TENANT_SCOPES, scope] });
    const filters = { owner: mark(), type: mark(), label: mark() };
    const agent = await service.api.agent(token, {
      name: mark(),
      description: mark(),
      owner: filters.owner,
      type: filters.type,
      version: mark(),
      capabilities: [mark()],
      labels: { [filters.label]: mark() },
      scopes: [scope],
    });
    const named = await service.api.secret(token, agent.agentId, { name: mark() });
    const earned = await service.api.token(agent);
    // For events that do not happen here, so that nothing is sent but what the tests ask for.
    const webhook = await must('POST', '/webhooks', token, {
      url: `${receiver.url}/${mark()}`,
      events: ['organization.reactivated'],
      description: mark(),
    });
    const delivery = await must('POST', `/webhooks/${webhook['webhookId'] as string}/test`, token);
    const secrets = await must('GET', `/agents/${agent.agentId}/credentials`, token);
    const log = await must('GET', '/audit?action=agent.created&limit=1', token);
    const [event] = log['data'] as Json[];
    const partner = await must('POST', '/federation/partners', operator, {
      organizationId,
      name: mark(),
      issuer: `https://${mark()}.example`,
      jwks: { keys: [assertionKey().jwk] },
      audience: mark(),
    });
    const partnerId = partner['partnerId'] as string;
    const key = await must('POST', `/agents/${agent.agentId}/keys`, token, { jwk: assertionKey('ES256', mark()).jwk });
    const identity = await must('POST', `/agents/${agent.agentId}/federated-identities`, token, {
      partnerId,
      subject: mark(),
      claims: { [mark()]: mark() },
    });
    const ids = {
      organizationId,
      agentId: agent.agentId,
      credentialId: agent.credentialId,
      'keys/credentialId': key['credentialId'] as string,
      keyId: key['credentialId'] as string,
      'federated-identities/credentialId': identity['credentialId'] as string,
      partnerId,
      resourceId: resource['resourceId'] as string,
      eventId: event?.['eventId'] as string,
      webhookId: webhook['webhookId'] as string,
      deliveryId: delivery['deliveryId'] as string,
      jti: claimsOf(earned)['jti'] as string,
    };
    const last = await service.api.token(admin);
    // Covers the chain as it stays, so that none is made while the tests look.
    const signed = await must('GET', '/audit/checkpoint', last);
    const checkpoint = signed['checkpoint'] as string;
    const prefixes = (secrets['data'] as Json[]).map(({ prefix }) => prefix as string);
    return {
      organizationId,
      admin,
      token: last,
      ids: { ...ids, checkpointSequence: String(claimsOf(checkpoint)['sequence']) },
      filters,
      form: { client_id: agent.agentId, client_secret: agent.clientSecret, scope, resource: identifier, token: earned },
      marks: [
        ...marks,
        ...Object.values(ids),
        ...prefixes,
        admin.agentId,
        admin.credentialId,
        named.credentialId,
        event?.['hash'] as string,
        checkpoint,
        delivery['eventId'] as string,
      ],
    };
  }

  /**
   * A value that a schema describes: its example where it has one, else the least that fits.
   *
   * @param pick which of several ways, where a schema has them
   */
  function valueOf(schemaOrRef: Json, ids: Plant['ids'], at: string, pick = 0): unknown {
    const schema = resolve(schemaOrRef, at);
    const ways = schema['oneOf'] as Json[] | undefined;
    if (ways !== undefined) return valueOf(ways[pick % ways.length] as Json, ids, `${at}/${pick}`);
    if ('example' in schema) return schema['example'];
    if ('default' in schema) return schema['default'];
    if (Array.isArray(schema['enum'])) return (schema['enum'] as unknown[])[0];
    const type = [schema['type']].flat()[0];
    switch (type) {
      case 'object':
        return objectOf(schema, ids, at, pick);
      case 'array':
        return [valueOf(schema['items'] as Json, ids, `${at}/0`)];
      case 'number':
      case 'integer':
        return schema['minimum'] ?? 1;
      case 'boolean':
        return true;
      case 'string':
        if (schema['format'] === 'date-time') return '2099-01-01T00:00:00.000Z';
        if (schema['format'] === 'uuid') return randomUUID();
        return 'x'.repeat((schema['minLength'] as number | undefined) ?? 1);
      default:
        throw new Error(`${at}: nobody can tell a value of type ${String(type)} from the document`);
    }
  }

  /** An object with all members that the schema requires or gives an example of; members that are ids come from `ids`. */
  function objectOf(schema: Json, ids: Plant['ids'], at: string, pick = 0): Json {
    const required = (schema['required'] ?? []) as string[];
    const members = Object.entries((schema['properties'] ?? {}) as Record<string, Json>);
    return Object.fromEntries(
      members.flatMap(([name, member]): [string, unknown][] => {
        if (name in ids) return [[name, ids[name]]];
        const isId = name !== 'clientId' && name.endsWith('Id');
        if (isId && required.includes(name)) throw new Error(`${at}/${name}: plant such an object first`);
        const wanted = required.includes(name) || 'example' in resolve(member, at) || '$ref' in member;
        return wanted ? [[name, valueOf(member, ids, `${at}/${name}`, pick)]] : [];
      }),
    );
  }

  function resolve(schema: Json, at: string): Json {
    const [only, ...others] = (schema['allOf'] ?? []) as Json[];
    if (only !== undefined && others.length === 0) return { ...resolve(only, at), ...schema };
    const ref = schema['$ref'];
    if (typeof ref !== 'string') return schema;
    const found = schemas[ref.replace('#/components/schemas/', '')];
    if (found === undefined) throw new Error(`${at}: ${ref} is not in the document`);
    return found;
  }

  const label = ({ method, path }: Operation): string => `${method} ${path}`;
  const named = ({ parameters = [] }: Operation, place: string): string[] =>
    parameters.filter((each) => each.in === place).map(({ name }) => name);
  const takes = ({ requestBody }: Operation, type: string): Json | undefined => requestBody?.content[type]?.schema;
  const isForTheOperator = ({ security = [] }: Operation): boolean =>
    security.length > 0 && security.every(({ bearer }) => bearer?.includes(OPERATOR_SCOPE) === true);
  /** The URL with all parameters that are required: numbers are the places of checkpoints. */
  const urlOf = (operation: Operation, ids: Plant['ids'], query: Readonly<Record<string, string>> = {}): string => {
    const path = operation.path.replace(/([\w-]+)\/\{(\w+)\}/g, (_, list: string, name: string) => {
      // A name may mean another object below another list.
      const id = ids[`${list}/${name}`] ?? ids[name];
      if (id !== undefined) return `${list}/${id}`;
      // What is not a tenant's is the platform's, and out of reach by its scope.
      if (isForTheOperator(operation)) return `${list}/${randomUUID()}`;
      throw new Error(`${label(operation)}: plant an object for ${name} first`);
    });
    const required = (operation.parameters ?? []).filter((each) => each.in === 'query' && each.required === true);
    const given = required.map(({ name, schema }) => {
      const value = schema?.['type'] === 'number' ? ids['checkpointSequence'] : ids[name];
      if (value === undefined) throw new Error(`${label(operation)}: plant an object for ${name} first`);
      return [name, value] as const;
    });
    const parameters = new URLSearchParams({ ...Object.fromEntries(given), ...query }).toString();
    return parameters === '' ? path : `${path}?${parameters}`;
  };
  const bodyFor = (operation: Operation, ids: Plant['ids'], pick = 0): { body?: Json } => {
    const schema = takes(operation, JSON_TYPE);
    if (schema === undefined) return {};
    return { body: objectOf(resolve(schema, label(operation)), ids, label(operation), pick) };
  };
  /** In how many ways a body can be written. */
  const waysOf = (operation: Operation): number => {
    const schema = takes(operation, JSON_TYPE);
    if (schema === undefined) return 1;
    const members = Object.values((resolve(schema, label(operation))['properties'] ?? {}) as Record<string, Json>);
    return Math.max(1, ...members.map(({ oneOf }) => (oneOf as Json[] | undefined)?.length ?? 1));
  };
  /** The names of the ids that a body has anywhere. */
  const idsIn = (value: unknown): string[] =>
    typeof value !== 'object' || value === null
      ? []
      : Object.entries(value).flatMap(([name, member]) => [...(name in theirs.ids ? [name] : []), ...idsIn(member)]);

  /** Every request that an operation allows with at least one id of theirs, for a caller who knows them all. */
  function trespassesOf(operation: Operation): Request[] {
    const { method } = operation;
    const inPath = named(operation, 'path');
    const mixes = Array.from({ length: 2 ** inPath.length }, (_, bits) =>
      Object.fromEntries(inPath.map((name, index) => [name, (bits >> index) & 1 ? theirs : ours] as const)),
    ).slice(1);
    const ownBody = bodyFor(operation, ours.ids);
    const byPath = mixes.map((owners) => {
      const ids = { ...ours.ids };
      for (const [name, owner] of Object.entries(owners)) {
        for (const each of Object.keys(ids)) {
          if (each === name || each.endsWith(`/${name}`)) ids[each] = owner.ids[each] as string;
        }
      }
      return { method, url: urlOf(operation, ids), ...ownBody };
    });
    const byQuery = named(operation, 'query')
      .filter((name) => name in theirs.ids)
      .map((name) => ({
        method,
        url: urlOf(operation, ours.ids, { [name]: theirs.ids[name] as string }),
        ...ownBody,
      }));
    const byBody = Array.from({ length: waysOf(operation) }, (_, pick) =>
      [...new Set(idsIn(bodyFor(operation, ours.ids, pick).body))].map((name) => ({
        method,
        url: urlOf(operation, ours.ids),
        ...bodyFor(operation, { ...ours.ids, [name]: theirs.ids[name] as string }, pick),
      })),
    ).flat();
    return [...byPath, ...byQuery, ...byBody];
  }

  /** Requests that name values of theirs to filter by: what comes back is nothing. */
  function searchesOf(operation: Operation): Request[] {
    const values = { ...theirs.ids, ...theirs.filters };
    return named(operation, 'query')
      .filter((name) => name in values && name !== 'organizationId')
      .map((name) => ({
        method: operation.method,
        url: urlOf(operation, ours.ids, { [name]: values[name as keyof typeof values] as string }),
      }));
  }

  const send = ({ method, url, body }: Request, token: string): Promise<Answer> =>
    service.api.send(method, url, {
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'Content-Type': JSON_TYPE }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });

  /** What of theirs an answer shows, in its body or its headers. */
  const leaks = ({ text, headers }: Answer): string[] => {
    const seen = `${text}\n${[...headers].flat().join('\n')}`.toLowerCase();
    return theirs.marks.filter((mark) => seen.includes(mark.toLowerCase()));
  };

  /** All rows of an organization in all tables that have organizations. */
  async function rowsOf({ organizationId }: Plant, but: readonly string[] = []): Promise<Json> {
    const tables = await service.database.query<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_name = 'organization_id' ORDER BY 1`,
    );
    const rows: Json = {};
    for (const { name } of tables.filter((table) => !but.includes(table.name))) {
      const moving = ['last_used_at', ...(name === 'webhook_lanes' ? MOVED_BY_THE_DISPATCHER : [])];
      rows[name] = await service.database.query(
        `SELECT to_jsonb(t) - $2::text[] AS row FROM ${name} t WHERE organization_id = $1 ORDER BY t::text COLLATE "C"`,
        [organizationId, moving],
      );
    }
    return rows;
  }

  const isForm = (operation: Operation): boolean => takes(operation, FORM_TYPE) !== undefined;
  /** `agentId` of the audit log and the like: to narrow one's own list by, not to reach anything. */
  const isSearch = ({ url }: Request): boolean => url.includes('?') && !url.includes('organizationId=');

  it('is not reached by any operation with any of its ids, and nothing of it shows', async () => {
    const before = await rowsOf(theirs);
    const faults: string[] = [];
    let trespasses = 0;
    for (const operation of operations.filter((each) => !isForm(each))) {
      for (const request of [...trespassesOf(operation), ...searchesOf(operation)]) {
        trespasses += 1;
        const answer = await send(request, ours.token);
        const refused = answer.status === 403 || answer.status === 404;
        const nothingFound = isSearch(request) && answer.status === 200;
        if (!refused && !nothingFound) {
          faults.push(`${label(operation)}: ${answer.status} to ${request.url} ${JSON.stringify(request.body)}`);
        }
        for (const leak of leaks(answer)) faults.push(`${label(operation)}: ${request.url} shows ${leak}`);
      }
    }
    expect(faults).toEqual([]);
    expect(trespasses).toBeGreaterThanOrEqual(35);
    expect(await rowsOf(theirs)).toEqual(before);
  });

  it('does show to itself and to the operator: the marks that are looked for are there to be seen', async () => {
    const seen = new Set<string>();
    for (const operation of operations.filter(({ method }) => method === 'GET')) {
      const request = { method: 'GET', url: urlOf(operation, theirs.ids) };
      const answer = await send(request, isForTheOperator(operation) ? operator : theirs.token);
      for (const mark of leaks(answer)) seen.add(mark);
    }
    expect(theirs.marks.filter((mark) => !seen.has(mark))).toEqual([]);
  });

  it('does not show in the answer to any operation that names nothing of it', async () => {
    const faults: string[] = [];
    const mine = await plant();
    for (const operation of operations.filter((each) => !isForm(each) && each.method !== 'DELETE')) {
      const request = { method: operation.method, url: urlOf(operation, mine.ids), ...bodyFor(operation, mine.ids) };
      const answer = await send(request, mine.token);
      if (answer.status >= 500) faults.push(`${label(operation)}: ${answer.status} ${answer.text}`);
      for (const leak of leaks(answer)) faults.push(`${label(operation)}: shows ${leak}`);
    }
    expect(faults).toEqual([]);
  });

  it('is not reached by any form of the OAuth endpoints', async () => {
    const before = await rowsOf(theirs, ['audit_events', 'audit_refusals', 'organization_ledgers']);
    const faults: string[] = [];
    let sent = 0;
    for (const operation of operations.filter(isForm)) {
      const { properties = {}, required = [] } = resolve(takes(operation, FORM_TYPE) as Json, label(operation)) as {
        properties?: Record<string, Json>;
        required?: string[];
      };
      const own: Record<string, string> = {};
      const isTokenEndpoint = required.includes('grant_type');
      for (const name of required) {
        const value = name in ours.form ? ours.form[name] : valueOf(properties[name] as Json, ours.ids, name);
        own[name] = String(value);
      }
      if (isTokenEndpoint)
        Object.assign(own, { client_id: ours.admin.clientId, client_secret: ours.admin.clientSecret });
      for (const name of Object.keys(properties).filter((each) => each in theirs.form)) {
        sent += 1;
        const { status, ...rest } = await service.api.form(
          operation.path,
          { ...own, [name]: theirs.form[name] as string },
          isTokenEndpoint || name === 'client_secret' ? {} : { Authorization: `Bearer ${ours.token}` },
        );
        const about = `${label(operation)} with ${name} of theirs`;
        const inactive = rest.text === '{"active":false}';
        // Who names another client beside an own token asks about that token.
        const aboutOwn = name === 'client_id' && !isTokenEndpoint;
        if (![400, 401, 403].includes(status) && !(status === 200 && (inactive || aboutOwn))) {
          faults.push(`${about}: ${status} ${rest.text}`);
        }
        for (const leak of leaks({ status, ...rest })) faults.push(`${about}: shows ${leak}`);
      }
    }
    expect(faults).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(9);
    expect(await rowsOf(theirs, ['audit_events', 'audit_refusals', 'organization_ledgers'])).toEqual(before);
    expect(await service.api.introspect(theirs.token, theirs.form['token'] as string)).toMatchObject({ active: true });
  });

  it('is kept out by the ids alone: each generated request succeeds with ids of one’s own', async () => {
    const faults: string[] = [];
    let shared = await plant();
    for (const operation of operations.filter((each) => !isForm(each) && each.path !== ALWAYS_REFUSED)) {
      const unplanted = named(operation, 'path').some((name) => !(name in shared.ids));
      const request = {
        method: operation.method,
        url: urlOf(operation, shared.ids),
        ...bodyFor(operation, shared.ids),
      };
      const answer = await send(request, isForTheOperator(operation) ? operator : shared.token);
      // 409: understood and allowed, but not in this state. 404: the platform's own, of which none is planted.
      const exercised = answer.status < 300 || answer.status === 409 || (unplanted && answer.status === 404);
      if (!exercised) faults.push(`${label(operation)}: ${answer.status} ${answer.text}`);
      if (operation.method !== 'GET' && named(operation, 'path').length > 0) shared = await plant();
    }
    expect(faults).toEqual([]);
  });
});

describe('two organizations of a thousand agents each, side by side', () => {
  const AGENTS = 1000;
  let service: TestApp;
  let operator: string;
  let sides: { organizationId: string; token: string; agentId: string }[];

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    sides = [];
    for (const slug of ['left', 'right']) {
      const { body } = await service.api.call('POST', '/organizations', operator, {
        name: slug,
        slug,
        tier: 'enterprise',
      });
      const organizationId = body['organizationId'] as string;
      const admin = await service.api.agent(operator, { organizationId, scopes: TENANT_SCOPES });
      sides.push({ organizationId, token: await service.api.token(admin), agentId: admin.agentId });
    }
    // Made in the same instants, with the same types, owners and labels: only the organization tells them apart.
    await service.database.query(
      `INSERT INTO agents (organization_id, agent_id, name, owner, type, environment, labels, status, created_at, updated_at)
        SELECT o.organization_id, gen_random_uuid(), o.slug || ' ' || n, 'team-' || n % 4, 'type-' || n % 5,
            (ARRAY['development', 'staging', 'production'])[1 + n % 3], jsonb_build_object('shard', (n % 10)::text),
            (ARRAY['active', 'active', 'suspended', 'decommissioned'])[1 + n % 4], t.instant, t.instant
          FROM generate_series(1, $1) n, organizations o,
            LATERAL (SELECT timestamptz '2026-01-01Z' + (n / 7) * interval '1 second' AS instant) t
          WHERE o.slug IN ('left', 'right')`,
      [AGENTS],
    );
    await service.database.query('ANALYZE agents');
  });
  afterAll(() => service.close());

  /** All pages of a list. */
  async function all(token: string, query: string, path = '/agents'): Promise<Json[]> {
    const found: Json[] = [];
    let cursor = '';
    do {
      const { status, body, text } = await service.api.call('GET', `${path}?limit=200&${query}${cursor}`, token);
      if (status !== 200) throw new Error(`no list: ${status} ${text}`);
      found.push(...(body['data'] as Json[]));
      cursor = body['nextCursor'] === null ? '' : `&cursor=${body['nextCursor'] as string}`;
    } while (cursor !== '');
    return found;
  }

  it('list their own, each once, page by page', async () => {
    for (const { organizationId, token, agentId } of sides) {
      const found = await all(token, '');
      expect(found).toHaveLength(AGENTS + 1);
      expect(new Set(found.map((agent) => agent['agentId'])).size).toBe(AGENTS + 1);
      expect(new Set(found.map((agent) => agent['organizationId']))).toEqual(new Set([organizationId]));
      expect(found[0]?.['agentId']).toBe(agentId);
    }
  });

  it.each([
    ['type=type-3', 200],
    ['owner=team-1', 250],
    ['environment=staging', 334],
    ['status=suspended', 250],
    ['status=decommissioned', 250],
    ['label=shard:7', 100],
    ['label=shard', 1000],
    ['label=shard:7&owner=team-1', 50],
    ['type=type-0&status=active&environment=production', 34],
  ])('narrow their own by %s', async (query, count) => {
    for (const { organizationId, token } of sides) {
      const found = await all(token, query);
      expect(new Set(found.map((agent) => agent['organizationId']))).toEqual(new Set([organizationId]));
      expect(found).toHaveLength(count);
    }
  });

  it('count their own', async () => {
    for (const { organizationId, token } of sides) {
      const counted = { limit: null, used: 751 };
      expect((await service.api.call('GET', '/quota', token)).body['agents']).toEqual(counted);
      const usage = await service.api.call('GET', `/organizations/${organizationId}/usage`, operator);
      expect(usage.body['agents']).toEqual(counted);
      expect(usage.body['months']).toMatchObject([{ tokens: 1 }]);
    }
  });

  it('have cursors of their own: the other’s is refused, and a forged one leads nowhere else', async () => {
    const [left, right] = sides as [(typeof sides)[number], (typeof sides)[number]];
    for (const path of ['/agents', '/audit']) {
      const { body } = await service.api.call('GET', `${path}?limit=1`, left.token);
      const cursor = body['nextCursor'] as string;
      const refused = await service.api.call('GET', `${path}?cursor=${cursor}`, right.token);
      expect([path, refused.status, refused.body['code']]).toEqual([path, 400, 'validation_failed']);
      const [list, ...position] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as string[];
      const forged = [list?.replace(left.organizationId, right.organizationId), ...position];
      const query = `cursor=${Buffer.from(JSON.stringify(forged)).toString('base64url')}&limit=200`;
      const { body: page } = await service.api.call('GET', `${path}?${query}`, right.token);
      const owners = new Set((page['data'] as Json[]).map((each) => each['organizationId']));
      expect([path, [...owners].filter((owner) => owner !== right.organizationId)]).toEqual([path, []]);
    }
  });

  it('have logs of their own, also where they are narrowed by the other’s agent', async () => {
    const [left, right] = sides as [(typeof sides)[number], (typeof sides)[number]];
    for (const { organizationId, token } of sides) {
      const events = await all(token, '', '/audit');
      expect(events.length).toBeGreaterThan(2);
      expect(new Set(events.map((event) => event['organizationId']))).toEqual(new Set([organizationId]));
    }
    expect(await all(right.token, `agentId=${left.agentId}`, '/audit')).toEqual([]);
    expect((await all(left.token, `agentId=${left.agentId}`, '/audit')).length).toBeGreaterThan(0);
  });

  it('are both there for the operator, who names one, and are not in the operator’s own list', async () => {
    const own = await all(operator, '');
    expect(own).toHaveLength(1);
    for (const { organizationId } of sides) {
      const found = await all(operator, `organizationId=${organizationId}&label=shard:7`);
      expect(found).toHaveLength(100);
      expect(new Set(found.map((agent) => agent['organizationId']))).toEqual(new Set([organizationId]));
    }
  });

  it('keep apart what many ask at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const side = sides[index % 2] as (typeof sides)[number];
        const found = await all(side.token, `label=shard:${index % 10}`);
        return found.every((agent) => agent['organizationId'] === side.organizationId) ? found.length : -1;
      }),
    );
    expect(new Set(answers)).toEqual(new Set([100]));
  });
});

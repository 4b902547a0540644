import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { FastifyInstance } from 'fastify';
import { randomUUID } from 'node:crypto';
import { runInNewContext } from 'node:vm';
import { AppModule } from '../../src/app.module.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

type Json = Record<string, unknown>;

interface MediaType {
  schema?: Json;
  examples?: Record<string, { summary?: string; value?: Json }>;
}
interface Response {
  description?: string;
  content?: Record<string, MediaType>;
}
interface Operation {
  operationId?: string;
  summary?: string;
  tags?: string[];
  parameters?: { name: string; in: string; required?: boolean; schema?: Json }[];
  requestBody?: { content: Record<string, MediaType> };
  responses: Record<string, Response>;
  security?: Record<string, string[]>[];
}
interface ApiDocument {
  openapi: string;
  info: Json;
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Json>; securitySchemes: Record<string, Json> };
}

const DOCUMENT_ITSELF = /^\/api\/(docs(\/.*)?|openapi\.json)$/;
/** Answers every request with an error, and says so. */
const ALWAYS_REFUSED = '/api/v1/authorize';
const JSON_SCHEMA_TYPES = ['string', 'number', 'integer', 'boolean', 'object', 'array', 'null'];
/** Keywords of OpenAPI 3.0 that JSON Schema 2020-12, and with it OpenAPI 3.1, does not know. */
const OUTDATED_KEYWORDS = ['nullable', 'x-nullable'];

/** The types that a schema allows; none named: any. */
function typesOf(schema: Json): string[] {
  return [schema['type'] ?? []].flat() as string[];
}

/** Notes every route that Fastify is given. */
@Injectable()
class RouteTable {
  readonly entries: { method: string; url: string }[] = [];

  constructor(host: HttpAdapterHost) {
    host.httpAdapter.getInstance<FastifyInstance>().addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) this.entries.push({ method: each, url });
    });
  }
}

@Module({ providers: [RouteTable] })
class ProbeModule {}

describe('the API document', () => {
  let service: TestApp;
  let document: ApiDocument;
  let operations: { method: string; path: string; operation: Operation }[];

  beforeAll(async () => {
    const build = AppModule.forRoot.bind(AppModule);
    const wired = jest.spyOn(AppModule, 'forRoot').mockImplementation((parts) => {
      const { imports = [], ...rest } = build(parts);
      return { ...rest, imports: [...imports, ProbeModule] };
    });
    service = await startTestApp();
    wired.mockRestore();
    document = (await service.api.send<never>('GET', '/api/openapi.json')).body;
    operations = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ method, path, operation })),
    );
  });
  afterAll(() => service.close());

  /** Looks at each operation and gathers what is wrong, so that a failure names all of it. */
  function faultsOf(
    look: (operation: Operation, method: string, path: string) => string | false | undefined,
  ): string[] {
    return operations.flatMap(({ method, path, operation }) => {
      const fault = look(operation, method, path);
      return fault === undefined || fault === false ? [] : [`${method.toUpperCase()} ${path}: ${fault}`];
    });
  }
  function resolve(schema: Json | undefined): Json | undefined {
    const ref = schema?.['$ref'];
    if (typeof ref !== 'string') return schema;
    return document.components.schemas[ref.replace('#/components/schemas/', '')];
  }

  it('is JSON that everybody may read, with title, version and the issuer as server', async () => {
    const { status, headers } = await service.api.send('GET', '/api/openapi.json');
    expect([status, headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8']);
    expect(document).toMatchObject({
      openapi: expect.stringMatching(/^3\.1\.\d+$/),
      info: {
        title: 'SentryAgent AgentIdP',
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
        description: expect.any(String),
      },
      servers: [{ url: service.issuer }],
    });
  });

  it('has every route of the application, and no other', () => {
    const served = service.app
      .get(RouteTable)
      // OpenAPI has no template for a rest of a path: the metadata's second address (RFC 8414 §3.1) stands in its text.
      .entries.filter(({ method, url }) => method !== 'HEAD' && !DOCUMENT_ITSELF.test(url) && !url.endsWith('/*'))
      .map(({ method, url }) => `${method} ${url.replace(/:(\w+)/g, '{$1}')}`);
    const described = operations.map(({ method, path }) => `${method.toUpperCase()} ${path}`);
    expect(served.length).toBeGreaterThan(25);
    expect(described.sort()).toEqual(served.sort());
  });

  it('gives every operation a summary, a tag and an id of its own', () => {
    expect(faultsOf(({ summary }) => (summary ?? '').length < 10 && 'no summary')).toEqual([]);
    expect(faultsOf(({ tags }) => tags?.length !== 1 && 'not one tag')).toEqual([]);
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(ids).not.toContain(undefined);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('gives every success a schema, but those without content', () => {
    const faults = faultsOf(({ responses }, _method, path) => {
      const successes = Object.entries(responses).filter(([status]) => status.startsWith('2'));
      if (path === ALWAYS_REFUSED) return successes.length > 0 && 'promises a success that never comes';
      if (successes.length !== 1) return `${successes.length} successes`;
      const [status, { content }] = successes[0] as [string, Response];
      if (status === '204') return content !== undefined && 'content with 204';
      const media = Object.values(content ?? {});
      return (media.length !== 1 || resolve(media[0]?.schema) === undefined) && 'no schema';
    });
    expect(faults).toEqual([]);
  });

  it('gives every error the schema and examples of its status', () => {
    const faults = faultsOf(({ responses }, _method, path) => {
      for (const [status, { description, content = {} }] of Object.entries(responses)) {
        if (status.startsWith('2')) continue;
        const oauth = /^\/api\/v1\/(token|authorize)/.test(path);
        const media = content[oauth ? 'application/json' : 'application/problem+json'];
        if (media === undefined || Object.keys(content).length !== 1) return `${status}: wrong media type`;
        if (media.schema?.['$ref'] !== `#/components/schemas/${oauth ? 'OAuthError' : 'Problem'}`)
          return `${status}: no schema`;
        if (description === undefined || description === '') return `${status}: no description`;
        const examples = Object.values(media.examples ?? {});
        if (examples.length === 0) return `${status}: no example`;
        for (const { value } of examples) {
          const required = resolve(media.schema)?.['required'] as string[];
          if (value === undefined || required.some((name) => !(name in value))) return `${status}: incomplete example`;
          if (!oauth && String(value['status']) !== status) return `${status}: an example of another status`;
        }
      }
      return undefined;
    });
    expect(faults).toEqual([]);
  });

  it('gives every operation that needs authentication its scheme, and names the errors of it', () => {
    expect(document.components.securitySchemes).toEqual({
      bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
      clientBasic: { type: 'http', scheme: 'basic' },
    });
    const open = operations.filter(({ operation }) => operation.security === undefined);
    expect(open.map(({ path }) => path).sort()).toEqual([
      '/.well-known/jwks.json',
      '/.well-known/oauth-authorization-server',
      '/api/v1/authorize',
      '/api/v1/authorize',
      '/health/live',
      '/health/ready',
      '/metrics',
    ]);
    expect(
      faultsOf(({ security, responses }) => {
        if (security === undefined) return undefined;
        if (security.length === 0) return 'no scheme';
        const unknown = security
          .flatMap((each) => Object.keys(each))
          .filter((name) => !(name in document.components.securitySchemes));
        if (unknown.length > 0) return `unknown scheme ${unknown.join()}`;
        return (!('401' in responses) || !('403' in responses)) && 'no 401 or 403';
      }),
    ).toEqual([]);
  });

  it('describes the body of every operation that takes one', () => {
    const faults = faultsOf(({ requestBody, responses }, method) => {
      if (requestBody === undefined) return method === 'patch' && 'no body';
      const [[type, media] = ['', {}], ...more] = Object.entries(requestBody.content);
      if (more.length > 0 || !['application/json', 'application/x-www-form-urlencoded'].includes(type))
        return `body of ${type}`;
      const schema = resolve(media.schema);
      if (schema?.['type'] !== 'object' || Object.keys(schema['properties'] as Json).length === 0) return 'no schema';
      return (!('400' in responses) || !('413' in responses)) && 'no 400 or 413';
    });
    expect(faults).toEqual([]);
    const bodies = operations.filter(({ operation }) => operation.requestBody !== undefined);
    expect(bodies.length).toBeGreaterThanOrEqual(7);
  });

  it('says the truth about the status of each operation', async () => {
    const operator = await service.api.token(service.operator);
    const faults: string[] = [];
    for (const { method, path, operation } of operations) {
      const url = path.replace(/\{\w+\}/g, () => randomUUID());
      for (const headers of [{}, { Authorization: `Bearer ${operator}` }]) {
        const { status } = await service.api.send(method.toUpperCase(), url, { headers });
        if (!(String(status) in operation.responses)) faults.push(`${method.toUpperCase()} ${path}: answers ${status}`);
      }
    }
    expect(faults).toEqual([]);
  });

  it('has members in its schemas that answers really have, no more and no fewer', async () => {
    const operator = await service.api.token(service.operator);
    const { agentId } = await service.api.agent(operator);
    for (const path of [
      '/agents',
      `/agents/${agentId}`,
      `/agents/${agentId}/credentials`,
      '/quota',
      '/audit',
      '/audit/verify',
    ]) {
      const { body } = await service.api.call('GET', path, operator);
      const described = document.paths[`/api/v1${path.replace(agentId, '{agentId}')}`]?.['get'];
      const schema = described?.responses['200']?.content?.['application/json']?.schema;
      expect([path, faultsOfValue(body, schema)]).toEqual([path, []]);
    }
  });

  /** Whether a value has the members and types that its schema names. */
  function faultsOfValue(value: unknown, schemaOrRef: Json | undefined, at = ''): string[] {
    const schema = resolve(schemaOrRef);
    if (schema === undefined) return [`${at}: no schema`];
    const allOf = schema['allOf'] as Json[] | undefined;
    if (allOf?.length === 1) return faultsOfValue(value, allOf[0], at);
    if (schema['type'] === undefined) return [];
    const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
    const types = typesOf(schema).map((each) => (each === 'integer' ? 'number' : each));
    if (!types.includes(type)) return [`${at}: ${type} instead of ${types.join()}`];
    if (Array.isArray(value))
      return value.flatMap((item, index) => faultsOfValue(item, schema['items'] as Json, `${at}/${index}`));
    if (typeof value !== 'object' || value === null || schema['properties'] === undefined) return [];
    const properties = schema['properties'] as Record<string, Json>;
    const required = (schema['required'] ?? []) as string[];
    return [
      ...required.filter((name) => !(name in value)).map((name) => `${at}: lacks ${name}`),
      ...Object.entries(value).flatMap(([name, member]) =>
        name in properties ? faultsOfValue(member, properties[name], `${at}/${name}`) : [`${at}: has ${name}`],
      ),
    ];
  }

  it('is built as OpenAPI 3.1 wants it', () => {
    const faults: string[] = [];
    const walk = (value: unknown, at: string): void => {
      if (typeof value !== 'object' || value === null) return;
      for (const [name, member] of Object.entries(value)) {
        const here = `${at}/${name}`;
        if (name === '$ref' && typeof member === 'string') {
          if (resolve({ $ref: member }) === undefined) faults.push(`${here} leads nowhere: ${member}`);
        }
        if (OUTDATED_KEYWORDS.includes(name) && !at.endsWith('/properties'))
          faults.push(`${here} is no keyword of 3.1`);
        if (!here.includes('/example')) walk(member, here);
      }
    };
    walk(document, '');
    const checkSchema = (schema: Json, at: string): void => {
      const types = typesOf(schema);
      for (const type of types) if (!JSON_SCHEMA_TYPES.includes(type)) faults.push(`${at}: type ${type}`);
      if (types.includes('array') && schema['items'] === undefined) faults.push(`${at}: an array without items`);
      const names = Object.keys(schema['properties'] ?? {});
      for (const name of (schema['required'] ?? []) as string[]) {
        if (!names.includes(name) && schema['properties'] !== undefined)
          faults.push(`${at}: requires the unknown ${name}`);
      }
      for (const bound of ['exclusiveMinimum', 'exclusiveMaximum']) {
        if (typeof schema[bound] === 'boolean') faults.push(`${at}: ${bound} is a boolean`);
      }
      for (const [name, member] of Object.entries((schema['properties'] ?? {}) as Record<string, Json>)) {
        checkSchema(member, `${at}/${name}`);
      }
      if (schema['items'] !== undefined) checkSchema(schema['items'] as Json, `${at}/items`);
    };
    for (const [name, schema] of Object.entries(document.components.schemas)) {
      if (!/^[A-Za-z0-9._-]+$/.test(name)) faults.push(`the schema name ${name}`);
      checkSchema(schema, name);
    }
    for (const path of Object.keys(document.paths)) if (!path.startsWith('/')) faults.push(`the path ${path}`);
    faults.push(
      ...faultsOf(({ responses }) => {
        if (Object.keys(responses).length === 0) return 'no responses';
        for (const [status, { description }] of Object.entries(responses)) {
          if (!/^([1-5]\d\d|default)$/.test(status)) return `the status ${status}`;
          if (typeof description !== 'string') return `${status} without a description`;
        }
        return undefined;
      }),
      ...faultsOf(({ parameters = [] }, _method, path) => {
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '');
        const named = parameters.filter((each) => each.in === 'path');
        if (JSON.stringify(inPath.sort()) !== JSON.stringify(named.map(({ name }) => name).sort()))
          return 'path parameters';
        if (named.some(({ required }) => required !== true)) return 'a path parameter that is not required';
        if (parameters.some(({ schema }) => schema === undefined)) return 'a parameter without a schema';
        const keys = parameters.map((each) => `${each.in} ${each.name}`);
        return new Set(keys).size !== keys.length && 'a parameter twice';
      }),
      ...faultsOf(
        ({ requestBody }, method) => requestBody !== undefined && ['get', 'delete'].includes(method) && 'a body',
      ),
    );
    expect(faults).toEqual([]);
  });

  it('gives examples of the bodies that people write', () => {
    const without = Object.entries(document.components.schemas).filter(
      ([name, schema]) => /^(Create|Update).*Body$/.test(name) && !JSON.stringify(schema).includes('"example"'),
    );
    expect(without.map(([name]) => name).filter((name) => !name.includes('Limits'))).toEqual([]);
  });

  it('names neither secrets nor anything of the installation but its issuer', () => {
    const text = JSON.stringify(document);
    expect(text).not.toContain(service.operator.clientSecret);
    expect(text).not.toContain(service.operator.clientId);
    expect(text).not.toContain('postgres');
  });
});

describe('the page of the API document', () => {
  let service: TestApp;

  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  it('is HTML whose scripts, styles and images all load from our own server', async () => {
    const page = await service.api.send('GET', '/api/docs');
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(page.text).toContain('<title>SentryAgent AgentIdP</title>');
    const links = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? '');
    expect(links.length).toBeGreaterThanOrEqual(4);
    const types: Record<string, string> = { css: 'text/css', js: 'text/javascript', png: 'image/png' };
    for (const link of links) {
      const url = new URL(link, `${service.url}/api/docs`);
      expect(url.origin).toBe(service.url);
      const { status, headers, text } = await service.api.send('GET', url.pathname);
      expect([link, status]).toEqual([link, 200]);
      expect(headers.get('content-type')).toContain(types[link.split('.').at(-1) ?? '']);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(text.length).toBeGreaterThan(50);
      // Styles and our own script name nothing elsewhere.
      if (!link.endsWith('bundle.js')) expect(text).not.toMatch(/(?:@import|url\()\s*["']?(?:https?:)?\/\//);
    }
  });

  it.each(['', '/behind/a/proxy'])(
    'reads the document from where it is (%s), and asks there, under whatever name it was opened',
    async (prefix) => {
      const page = await service.api.send('GET', '/api/docs');
      const script = [...page.text.matchAll(/src="([^"]+)"/g)].map((match) => match[1] ?? '').at(-1) ?? '';
      const { text } = await service.api.send('GET', new URL(script, `${service.url}/api/docs`).pathname);
      const opened = `http://another.name:8080${prefix}`;
      const options = await new Promise<{ spec: { servers: unknown; info: unknown } }>((resolve) => {
        const location = new URL(`${opened}/api/docs`);
        runInNewContext(text, {
          URL,
          location,
          fetch: (place: string) => {
            const { pathname } = new URL(place, location);
            expect(pathname).toBe(`${prefix}/api/openapi.json`);
            return fetch(service.url + pathname.slice(prefix.length));
          },
          SwaggerUIBundle: Object.assign(resolve, { presets: { apis: [] } }),
        });
      });
      expect(options.spec.info).toMatchObject({ title: 'SentryAgent AgentIdP' });
      expect(options.spec.servers).toEqual([{ url: opened }]);
      expect(opened).not.toBe(service.issuer);
    },
  );

  it('lets browsers load nothing from elsewhere and run nothing inline', async () => {
    const page = await service.api.send('GET', '/api/docs');
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toMatch(/script-src[^;]*'unsafe/);
    expect(policy).not.toMatch(/https?:/);
    expect(page.text).not.toMatch(/<script>|<script [^>]*>[^<]+<\/script>| on\w+=/);
  });

  it('is also found with a slash at the end', async () => {
    const { status, url } = await fetch(`${service.url}/api/docs/`);
    expect([status, url]).toEqual([200, `${service.url}/api/docs`]);
  });

  it.each(['package.json', 'index.html', '..%2fpackage.json', 'swagger-ui.css.map'])('serves no %s', async (name) => {
    expect((await service.api.send('GET', `/api/docs/${name}`)).status).toBe(404);
  });
});

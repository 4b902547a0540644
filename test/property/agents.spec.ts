import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { check } from './check.js';

const SCOPES = ['agents:read', 'agents:write', 'tokens:read', 'audit:read', 'webhooks:read', 'admin:orgs'];

/** Any text that JSON and PostgreSQL can both hold. */
const text = (minLength: number, maxLength: number) =>
  fc
    .oneof(
      fc.string({ unit: 'binary', minLength, maxLength: Math.floor(maxLength / 2) }),
      fc.string({ minLength, maxLength }),
      fc.constantFrom('\u202e', '\ufeff', '\uffff', '\ufe0f', "'; --", '%00', '\\u0000', '\u0001', ' ', '\r\n', '😀'),
    )
    .filter((value) => !value.includes('\0') && value.length >= minLength);
const nullable = <T>(value: fc.Arbitrary<T>) => fc.option(value, { freq: 5 });

const fields = {
  description: nullable(text(0, 1024)),
  owner: nullable(text(0, 256)),
  type: nullable(text(0, 64)),
  version: nullable(text(0, 64)),
  environment: nullable(fc.constantFrom('development', 'staging', 'production')),
  capabilities: fc.uniqueArray(text(1, 128), { maxLength: 8 }),
  labels: fc.dictionary(
    fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/).filter((key) => key !== 'constructor'),
    text(0, 256),
    { maxKeys: 8 },
  ),
  scopes: fc.uniqueArray(fc.constantFrom(...SCOPES)),
  tokenTtlSeconds: nullable(fc.integer({ min: 60, max: 86_400 })),
};
const body = fc.record({ name: text(1, 128), ...fields }, { requiredKeys: ['name'] });
const change = fc.record({ name: text(1, 128), ...fields }, { requiredKeys: [] });

const EMPTY = {
  description: null,
  owner: null,
  type: null,
  version: null,
  environment: null,
  capabilities: [],
  labels: {},
  scopes: [],
  tokenTtlSeconds: null,
};

describe('agents, whatever they are made of', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it('any valid body is read back exactly, and so is any valid change', async () => {
    await check(
      fc.asyncProperty(body, change, async (first, second) => {
        const created = await service.api.call('POST', '/agents', operator, first);
        expect([created.status, created.text]).toEqual([201, expect.any(String)]);
        const path = `/agents/${String(created.body['agentId'])}`;
        const read = async () => (await service.api.call('GET', path, operator)).body;
        const expected = { ...EMPTY, ...plain(first) };
        expect(created.body).toMatchObject(expected);
        expect(await read()).toEqual(created.body);
        const changed = await service.api.call('PATCH', path, operator, second);
        expect(changed.status).toBe(200);
        const after = await read();
        expect(after).toEqual(changed.body);
        // `toMatchObject` takes labels for a part of others.
        expect(pick(after, Object.keys(EMPTY))).toEqual(pick({ ...expected, ...plain(second) }, Object.keys(EMPTY)));
        expect(after['name']).toBe(second.name ?? first.name);
      }),
      50,
    );
    expect((await service.api.call('GET', '/audit/verify', operator)).body).toMatchObject({ valid: true });
  });

  const wrong: Record<string, fc.Arbitrary<unknown>> = {
    name: fc.oneof(
      fc.constantFrom(null, '', 1, true, [], {}),
      text(129, 400).map((value) => value.padEnd(300, 'x')),
    ),
    description: fc.constantFrom(1, [], {}, false, 'x'.repeat(1025)),
    owner: fc.constantFrom(1, [], {}, 'x'.repeat(257)),
    type: fc.constantFrom(1, [], {}, 'x'.repeat(65)),
    version: fc.constantFrom(1, [], {}, 'x'.repeat(65)),
    environment: fc.oneof(fc.constantFrom(1, '', 'Production', []), fc.string({ minLength: 12 })),
    capabilities: fc.constantFrom(null, 'a', 1, {}, [''], [1], [null], ['a', 'a'], ['x'.repeat(129)], [['a']]),
    labels: fc.constantFrom(
      null,
      'a',
      1,
      [],
      ['a'],
      { '': 'a' },
      { a: 1 },
      { a: null },
      { 'a b': 'c' },
      { a: { b: 'c' } },
    ),
    scopes: fc.constantFrom(null, 'agents:read', 1, {}, [''], ['a b'], ['"'], [1], ['agents:read', 'agents:read']),
    tokenTtlSeconds: fc.oneof(
      fc.constantFrom('60', [], {}, true, 59, 86_401, 60.5, -60, 1e308, 2 ** 53),
      fc.integer().filter((value) => value < 60 || value > 86_400),
    ),
    surprise: fc.jsonValue(),
    status: fc.constantFrom('active', 'suspended'),
    agentId: fc.uuid(),
    organizationId: fc.constantFrom(null, '', 'mine', 1, []),
  };
  const fault = fc
    .constantFrom(...Object.keys(wrong))
    .chain((name) => (wrong[name] ?? fc.constant(null)).map((value) => [name, value] as const));

  it('any body with one fault is refused, and the fault named', async () => {
    await check(
      fc.asyncProperty(body, fault, async (valid, [name, value]) => {
        const answer = await service.api.call('POST', '/agents', operator, { ...valid, [name]: value });
        expect([answer.status, answer.body['code']]).toEqual([400, 'validation_failed']);
        const errors = answer.body['errors'] as { pointer: string; detail: string }[];
        expect(errors.length).toBeGreaterThan(0);
        for (const { pointer, detail } of errors) {
          expect(pointer === `/${name}` || pointer.startsWith(`/${name}/`)).toBe(true);
          expect(detail).not.toBe('');
        }
      }),
      100,
    );
  });

  it('any JSON at all is answered with 201, 400 or 403, and never with a 5xx', async () => {
    const hostile = fc.oneof(
      fc.json(),
      fc
        .dictionary(fc.constantFrom('name', ...Object.keys(fields), '__proto__'), fc.jsonValue())
        .map((o) => JSON.stringify(o)),
      fc.string({ unit: 'binary' }).map((name) => JSON.stringify({ name })),
      fc
        .string({ unit: fc.constantFrom('\\u0000', '\\ud800', '\\udc00', 'a', '\\n', '\\"') })
        .map((name) => `{"name":"${name}"}`),
      fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', ':', ',', '1', 'e', '9', 'null') }),
    );
    await check(
      fc.asyncProperty(hostile, async (json) => {
        const answer = await service.api.send('POST', '/api/v1/agents', {
          body: json,
          headers: { Authorization: `Bearer ${operator}`, 'Content-Type': 'application/json' },
        });
        expect([201, 400, 403]).toContain(answer.status);
        if (answer.status === 400) expect(answer.body['errors']).not.toHaveLength(0);
      }),
      120,
    );
  });

  it('any filter of the list is answered with 200 or 400, and never with a 5xx', async () => {
    const names = ['limit', 'cursor', 'status', 'type', 'owner', 'environment', 'label', 'organizationId', 'surprise'];
    const pair = fc.tuple(
      fc.constantFrom(...names),
      fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.base64String()),
    );
    await check(
      fc.asyncProperty(fc.array(pair, { maxLength: 4 }), async (pairs) => {
        const query = new URLSearchParams(pairs).toString();
        const answer = await service.api.call('GET', `/agents?${query}`, operator);
        expect([200, 400]).toContain(answer.status);
      }),
      100,
    );
  });
});

/** As JSON has it: fast-check makes objects without a prototype. */
function plain(value: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
}

function pick(value: Record<string, unknown>, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => [name, value[name]]));
}

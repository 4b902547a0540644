import fc from 'fast-check';
import { takesClients, isForTheOperator, type ApiDocument, type Operation } from './api-document.js';
import { hostileText, hostileValue, ref, validMembers, validValue, type Value } from './values.js';

/** Who calls. */
export type CallerName = 'tenant' | 'operator' | 'reader' | 'client' | 'nobody' | 'impostor';

/** A request before anything in it is known. */
export interface Plan {
  readonly caller: CallerName;
  /** Which of the caller's objects the path is to name. */
  readonly pick: number;
  readonly query: readonly (readonly [string, Value])[];
  readonly body: readonly (readonly [string, Value])[];
  readonly mutations: readonly Mutation[];
}

/** One thing that is done to a request that was right before. */
export type Mutation =
  | { readonly kind: 'path'; readonly at: number; readonly value: Value }
  | { readonly kind: 'rawPath'; readonly at: number; readonly text: string }
  | { readonly kind: 'query'; readonly name: string; readonly value: Value }
  | { readonly kind: 'rawQuery'; readonly text: string }
  | { readonly kind: 'header'; readonly name: string; readonly value: string }
  | { readonly kind: 'mediaType'; readonly value: string | null }
  | { readonly kind: 'set'; readonly at: number; readonly value: Value }
  | { readonly kind: 'drop'; readonly at: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly value: Value }
  | { readonly kind: 'wrap'; readonly at: number }
  | { readonly kind: 'add'; readonly name: string; readonly value: Value }
  | { readonly kind: 'wholeBody'; readonly value: Value }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'cut'; readonly at: number };

const FORM = 'application/x-www-form-urlencoded';

const index = fc.nat(40);
const foreignOrHostile = (name: string): fc.Arbitrary<Value> =>
  fc.oneof({ weight: 3, arbitrary: ref('foreign', name) }, { weight: 3, arbitrary: hostileValue });

const RAW_PATHS = ['%', '%00', '%ff', '%2e%2e%2f', '..', '.', '%c0%80', '%zz', ';', '%0d%0a', '*', ':id', '%5c', '%25'];
const RAW_QUERIES = [
  '%',
  '%00',
  'a=%ff',
  '&&&',
  '?',
  '=',
  '__proto__[x]=1',
  'a[]=1&a[]=2',
  'constructor=1',
  '%zz=1',
  '#',
];

const header: fc.Arbitrary<Mutation> = fc
  .oneof(
    fc.constantFrom<readonly [string, string]>(
      ['Accept', 'text/html'],
      ['Accept', '*/*;q=0'],
      ['Accept-Encoding', 'gzip'],
      ['Accept-Encoding', 'br;q=1, gzip;q=0, *;q=0.1'],
      ['Content-Encoding', 'gzip'],
      ['Content-Encoding', 'identity'],
      ['X-HTTP-Method-Override', 'DELETE'],
      ['X-Forwarded-For', "1' OR 1=1"],
      ['X-Forwarded-Host', 'evil.example'],
      ['X-Forwarded-Proto', 'gopher'],
      ['X-Original-URL', '/metrics'],
      ['Origin', 'https://evil.example'],
      ['Range', 'bytes=0-1'],
      ['If-None-Match', '*'],
      ['If-Modified-Since', 'Sat, 28 Nov 2026 00:00:00 GMT'],
      ['Cookie', 'session=1; __proto__=2'],
      ['DPoP', 'x.y.z'],
      ['Content-Type', 'text/plain'],
      ['Authorization', 'Bearer'],
      ['Authorization', 'Basic Og=='],
    ),
    fc.tuple(fc.constantFrom('Accept', 'User-Agent', 'X-Request-Id', 'X-Forwarded-For', 'Authorization'), hostileText),
    hostileText.map((text): readonly [string, string] => ['Authorization', `Bearer ${text}`]),
    hostileText.map((text): readonly [string, string] => [
      'Authorization',
      `Basic ${Buffer.from(`${text}:${text}`).toString('base64').slice(0, 4000)}`,
    ]),
  )
  .map(([name, value]) => ({ kind: 'header', name, value }));

const mediaType: fc.Arbitrary<Mutation> = fc
  .constantFrom(
    null,
    '',
    'text/plain',
    'application/json',
    FORM,
    'application/json; charset=utf-16',
    'application/json; charset="utf-8"',
    'multipart/form-data; boundary=x',
    'application/problem+json',
    'application/octet-stream',
    'application/',
    'nonsense',
  )
  .map((value) => ({ kind: 'mediaType', value }));

/** The requests of an operation: right ones, nearly right ones, and ones that nobody honest sends. */
export function plansOf(document: ApiDocument, operation: Operation): fc.Arbitrary<Plan> {
  const one = mutationsOf(operation);
  return fc.record({
    caller: callersOf(operation),
    pick: fc.nat(63),
    query: queriesOf(document, operation),
    body: operation.body === undefined ? fc.constant([]) : validMembers(document, operation.body.schema),
    mutations: fc.oneof(
      { weight: 4, arbitrary: fc.constant([]) },
      { weight: 5, arbitrary: fc.tuple(one) },
      { weight: 2, arbitrary: fc.array(one, { minLength: 2, maxLength: 4 }) },
    ),
  });
}

function callersOf(operation: Operation): fc.Arbitrary<CallerName> {
  const forOperator = isForTheOperator(operation);
  const one = (weight: number, name: CallerName) => ({ weight, arbitrary: fc.constant(name) });
  return fc.oneof(
    one(forOperator ? 2 : 10, 'tenant'),
    one(forOperator ? 10 : 3, 'operator'),
    one(1, 'reader'),
    one(1, 'nobody'),
    one(1, 'impostor'),
    ...(takesClients(operation) ? [one(14, 'client')] : []),
  );
}

function queriesOf(document: ApiDocument, { parameters }: Operation): fc.Arbitrary<(readonly [string, Value])[]> {
  const members = parameters
    .filter((parameter) => parameter.in === 'query')
    .map(({ name, required, schema }) => {
      const pair = validValue(document, schema, name).map((value) => [[name, value] as const]);
      if (required === true) return pair;
      return fc.oneof({ weight: 1, arbitrary: pair }, { weight: 4, arbitrary: fc.constant([]) });
    });
  return fc.tuple(...members).map((found) => found.flat());
}

function mutationsOf({ path, parameters, body }: Operation): fc.Arbitrary<Mutation> {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
  const inQuery = parameters.filter((each) => each.in === 'query').map(({ name }) => name);
  const kinds: { weight: number; arbitrary: fc.Arbitrary<Mutation> }[] = [
    { weight: 1, arbitrary: header },
    { weight: 1, arbitrary: mediaType },
    { weight: 1, arbitrary: fc.constantFrom(...RAW_QUERIES).map((text) => ({ kind: 'rawQuery', text })) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('query'), name: hostileText, value: hostileText }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('bytes'), bytes: fc.uint8Array({ maxLength: 60 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('wholeBody'), value: hostileValue }) },
  ];
  if (inPath.length > 0) {
    kinds.push({
      weight: 4,
      arbitrary: fc.oneof(
        fc
          .nat(inPath.length - 1)
          .chain((at) => foreignOrHostile(inPath[at] ?? '').map((value): Mutation => ({ kind: 'path', at, value }))),
        fc.record({
          kind: fc.constant('rawPath'),
          at: fc.nat(inPath.length - 1),
          text: fc.constantFrom(...RAW_PATHS),
        }),
      ),
    });
  }
  if (inQuery.length > 0) {
    const query = fc
      .constantFrom(...inQuery)
      .chain((name) => foreignOrHostile(name).map((value): Mutation => ({ kind: 'query', name, value })));
    kinds.push({ weight: 6, arbitrary: query });
  }
  if (body !== undefined) kinds.push({ weight: 10, arbitrary: bodyMutations() });
  return fc.oneof(...kinds);
}

function bodyMutations(): fc.Arbitrary<Mutation> {
  const anyValue = fc.oneof(
    { weight: 4, arbitrary: hostileValue },
    { weight: 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: ref('foreign', '') },
  );
  return fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('set'), at: index, value: anyValue }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop'), at: index }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('repeat'), at: index, value: anyValue }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('wrap'), at: index }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut'), at: fc.nat(400) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('add'), name: hostileText, value: hostileValue }) },
  );
}

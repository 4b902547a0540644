import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import type { ApiDocument, Json } from './api-document.js';

/** Something that is known only once the service runs. */
export class Ref {
  /**
   * @param whose the caller's organization's, or another's
   * @param name the name of the member or parameter that it is a value for
   * @param pick which of them
   */
  constructor(
    readonly whose: 'own' | 'foreign',
    readonly name: string,
    readonly pick: number,
  ) {}
}

/** JSON that `JSON.stringify` would not write. */
export class RawJson {
  constructor(readonly text: string) {}
}

/** An object by its members, in which a name may stand more than once. */
export class Members {
  constructor(readonly entries: readonly (readonly [string, Value])[]) {}
}

/** A value of JSON that may have the above in it. */
export type Value = unknown;

/** Names of members and parameters that name an object by its id, or something else that only the service can make. */
export const REFERENCE = /(?:Id|Ids|^kid|^jti|^checkpoint|^token|^cursor)$/;

export const ref = (whose: 'own' | 'foreign', name: string): fc.Arbitrary<Value> =>
  fc.nat(63).map((pick) => new Ref(whose, name, pick));

const KEYS: readonly Json[] = Array.from({ length: 64 }, () =>
  generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }),
).map((jwk) => ({ ...jwk }));

/** Texts that have undone other services. */
export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.constantFrom('', ' ', '\0', 'a\0b', '\ud800', '\udfff\ud800', '\u202e', '\ufeff', '\uffff', '\r\nSet-Cookie: a=b'),
  fc.constantFrom('__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'null', 'undefined', 'NaN'),
  fc.constantFrom("' OR 1=1 --", '"; DROP TABLE agents; --', '%', '_', '\\', '{}', '[]', '${1}', '{{1}}', '<script>'),
  fc.constantFrom(
    '../../etc/passwd',
    'file:///etc/passwd',
    'http://169.254.169.254/',
    'https://[::1]/',
    'data:text/html,x',
  ),
  fc.constantFrom('0', '-1', '1e3', '0x10', '1.5', '9007199254740993', '1e400', 'Infinity', '٣', '1_000', '+1', ' 1'),
  fc.constantFrom(
    '0000-01-01T00:00:00Z',
    '2026-02-30',
    '9999-12-31T23:59:59-23:59',
    '2026-11-28T24:00:00Z',
    '-271821-04-20',
  ),
  fc.constantFrom(33, 65, 129, 257, 513, 1025, 5000).map((length) => 'x'.repeat(length)),
  fc.constantFrom(50, 200, 3000).map((length) => `${'a'.repeat(length)}!`),
  fc.constantFrom(20, 600).map((length) => '😀'.repeat(length)),
  fc.uuid(),
);

const raw = (...texts: string[]): fc.Arbitrary<Value> => fc.constantFrom(...texts).map((text) => new RawJson(text));

/** Values of JSON that nobody expects. */
export const hostileValue: fc.Arbitrary<Value> = fc.oneof(
  { weight: 4, arbitrary: hostileText },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Value>(null, true, false, 0, -1, 1.5, 2 ** 31, 2 ** 53, 1e21, -1e308, 5e-324),
  },
  { weight: 1, arbitrary: raw('1e999', '-1e999', '-0', '123456789012345678901234567890', '1.0', '1e-400') },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Value>([], {}, [[]], [null], [{}], ['a', 'a'], { length: 1e9 }, { then: 1 }),
  },
  { weight: 1, arbitrary: raw('{"__proto__":{"admin":true}}', '{"constructor":{"prototype":{"admin":true}}}') },
  { weight: 1, arbitrary: raw('{"toString":1,"valueOf":1,"toJSON":1,"hasOwnProperty":1}', '{"a":1,"a":2}') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(3, 31, 33, 500, 9000).map((depth) => new RawJson('['.repeat(depth) + ']'.repeat(depth))),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(33, 3000).map((depth) => new RawJson('{"a":'.repeat(depth) + '1' + '}'.repeat(depth))),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(65, 201, 257, 4000).map((size) => Array.from({ length: size }, (_, at) => `i${at}`)),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(65, 2000)
      .map((size) => new Members(Array.from({ length: size }, (_, at) => [`m${at}`, 'x']))),
  },
);

/** Another text of the kind of `example`. */
export function variantOf(example: string, suffix: string): string {
  return /^https?:\/\//.test(example) ? `${example}/${suffix}` : `${example}${suffix}`;
}

/** The values that a schema describes, as well as it does. */
export function validValue(document: ApiDocument, reference: Json, name: string): fc.Arbitrary<Value> {
  const schema = document.resolve(reference);
  const choices = (schema['oneOf'] ?? schema['anyOf'] ?? []) as Json[];
  if (choices.length > 0) return fc.oneof(...choices.map((choice) => validValue(document, choice, name)));
  const types = [schema['type'] ?? 'string'].flat() as string[];
  const [type = 'string'] = types.filter((each) => each !== 'null');
  const present = presentValue(document, schema, type, name);
  if (!types.includes('null')) return present;
  return fc.oneof({ weight: 4, arbitrary: present }, { weight: 1, arbitrary: fc.constant(null) });
}

function presentValue(document: ApiDocument, schema: Json, type: string, name: string): fc.Arbitrary<Value> {
  if (type === 'string' && REFERENCE.test(name)) return ref('own', name);
  if (name === 'jwk') return fc.constantFrom<Value>(...KEYS);
  if (name === 'jwks') return fc.constantFrom(...KEYS).map((jwk) => ({ keys: [jwk] }));
  if (Array.isArray(schema['enum'])) return fc.constantFrom<Value>(...(schema['enum'] as Value[]));
  switch (type) {
    case 'string':
      return validText(schema);
    case 'integer':
    case 'number': {
      if (name === 'from' || name === 'to') return ref('own', 'checkpointSequence');
      const min = (schema['minimum'] ?? 0) as number;
      return fc.oneof(
        fc.integer({ min, max: min + 5 }),
        fc.integer({ min, max: (schema['maximum'] ?? min + 200) as number }),
      );
    }
    case 'boolean':
      return fc.boolean();
    case 'array': {
      const items = validValue(document, schema['items'] as Json, name);
      const some = fc.array(items, { minLength: (schema['minItems'] ?? 0) as number, maxLength: 4 });
      return 'example' in schema ? fc.oneof(fc.constant(schema['example']), some) : some;
    }
    default:
      return validObject(document, schema);
  }
}

/** Made once: the making of it takes longer than a thousand of its values. */
const SUFFIX = fc.stringMatching(/^[a-f0-9]{6}$/);

function validText(schema: Json): fc.Arbitrary<Value> {
  const day = fc.date({ min: new Date('2027-01-01'), max: new Date('2099-01-01'), noInvalidDate: true });
  if (schema['format'] === 'uuid') return fc.uuid();
  if (schema['format'] === 'date-time') return day.map((date) => date.toISOString());
  if (schema['format'] === 'date') return fc.constantFrom('2026-01-01', '2026-11-01', '2026-11-28', '2026-12-31');
  const example = schema['example'];
  if (typeof example === 'string') return SUFFIX.map((text) => variantOf(example, text));
  return SUFFIX;
}

function validObject(document: ApiDocument, schema: Json): fc.Arbitrary<Value> {
  const members = Object.entries(document.membersOf(schema));
  if (members.length === 0) return fc.constant(schema['example'] ?? {});
  return validMembers(document, schema).map((entries) => new Members(entries));
}

/** The members of an object that a schema describes: what it requires always, the rest now and then. */
export function validMembers(document: ApiDocument, reference: Json): fc.Arbitrary<(readonly [string, Value])[]> {
  const required = document.requiredBy(reference);
  const members = Object.entries(document.membersOf(reference)).map(([name, schema]) => {
    const member = validValue(document, schema, name).map((value) => [[name, value] as const]);
    if (required.includes(name)) return member;
    // An organization of one's own need not be named, and another only the operator may.
    const rate = name === 'organizationId' ? 1 : 4;
    return fc.oneof({ weight: rate, arbitrary: member }, { weight: 4, arbitrary: fc.constant([]) });
  });
  return fc.tuple(...members).map((found) => found.flat());
}

import type { Operation } from './api-document.js';
import type { Mutation, Plan } from './request.js';
import { Members, RawJson, Ref, REFERENCE, type Value } from './values.js';

/** A request as it is sent. */
export interface Rendered {
  readonly method: string;
  readonly target: string;
  /** Names and values in turn, so that a field may stand twice. */
  readonly headers: readonly string[];
  readonly body: Buffer | undefined;
  /** Whether nothing was done to it. */
  readonly untouched: boolean;
}

/** Finds what a reference stands for, for the caller. */
export type Lookup = (reference: Ref) => Value;

const FORM = 'application/x-www-form-urlencoded';
const JSON_TYPE = 'application/json';

/** What the caller's identity adds to a request. */
export interface Authentication {
  readonly headers: readonly string[];
  readonly form: readonly (readonly [string, string])[];
}

/**
 * Makes a request of a plan.
 *
 * @param place the values of the parameters in the path
 * @param lookup finds what a reference stands for
 */
export function render(
  operation: Operation,
  plan: Plan,
  place: Readonly<Record<string, string>>,
  authentication: Authentication,
  lookup: Lookup,
): Rendered {
  const { mutations } = plan;
  const isForm = operation.body?.mediaType === FORM;
  const members = mutated([...(isForm ? withoutSecrets(plan.body) : plan.body), ...authentication.form], mutations);
  const sent = sentBody(operation, members, isForm, mutations, lookup);
  const mediaType = mutations.find((each) => each.kind === 'mediaType');
  const type = mediaType === undefined ? (operation.body?.mediaType ?? JSON_TYPE) : mediaType.value;
  const headers = [...authentication.headers];
  if (sent !== undefined && type !== null) headers.push('Content-Type', type);
  for (const each of mutations) if (each.kind === 'header') headers.push(each.name, fieldValue(each.value));
  return {
    method: operation.method,
    target: targetOf(operation, plan, place, lookup),
    headers,
    body: sent,
    untouched: mutations.length === 0,
  };
}

/** The caller's own authentication is in the place of what a form may say of it. */
function withoutSecrets(body: Plan['body']): Plan['body'] {
  return body.filter(([name]) => !/^(client_|scope$|resource$)/.test(name));
}

function targetOf(
  { path }: Operation,
  { query, mutations }: Plan,
  place: Readonly<Record<string, string>>,
  lookup: Lookup,
): string {
  let at = -1;
  const rendered = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    at += 1;
    for (const each of mutations) {
      if (each.kind === 'path' && each.at === at) return escaped(textOf(named(each.value, name), lookup));
      if (each.kind === 'rawPath' && each.at === at) return each.text;
    }
    return escaped(place[name] ?? '');
  });
  const pairs = [
    ...query,
    ...mutations.flatMap((each) => (each.kind === 'query' ? [[each.name, each.value] as const] : [])),
  ].map(([name, value]) => `${escaped(name)}=${escaped(textOf(value, lookup))}`);
  const raw = mutations.flatMap((each) => (each.kind === 'rawQuery' ? [each.text] : []));
  const whole = [...pairs, ...raw].join('&');
  // Header fields and target together have at most 16 KiB.
  return (whole === '' ? rendered : `${rendered}?${whole}`).slice(0, 7000);
}

function mutated(members: Plan['body'], mutations: readonly Mutation[]): Plan['body'] {
  let entries = [...members];
  for (const each of mutations) {
    if (each.kind === 'add') entries.push([each.name, each.value]);
    if (!('at' in each) || entries.length === 0) continue;
    const at = each.at % entries.length;
    const [name, value] = entries[at] as readonly [string, Value];
    if (each.kind === 'set') entries[at] = [name, named(each.value, name)];
    if (each.kind === 'wrap') entries[at] = [name, [value]];
    if (each.kind === 'repeat') entries.push([name, named(each.value, name)]);
    if (each.kind === 'drop') entries = entries.filter((_, index) => index !== at);
  }
  return entries;
}

/** A reference that was made without knowing for what. In a text of one's own it would come back, and look like a leak. */
function named(value: Value, name: string): Value {
  if (!(value instanceof Ref) || value.name !== '') return value;
  return REFERENCE.test(name) ? new Ref(value.whose, name, value.pick) : 'a text';
}

function sentBody(
  { body }: Operation,
  members: Plan['body'],
  isForm: boolean,
  mutations: readonly Mutation[],
  lookup: Lookup,
): Buffer | undefined {
  for (const each of mutations) {
    if (each.kind === 'bytes') return Buffer.from(each.bytes);
    if (each.kind === 'wholeBody') return Buffer.from(jsonOf(each.value, lookup));
  }
  if (body === undefined) return undefined;
  const text = isForm
    ? members.map(([name, value]) => `${escaped(name)}=${escaped(textOf(value, lookup))}`).join('&')
    : jsonOf(new Members(members), lookup);
  const cut = mutations.find((each) => each.kind === 'cut');
  return Buffer.from(cut === undefined ? text : text.slice(0, cut.at));
}

/** JSON, written by hand: it may hold what no value of JavaScript can. */
function jsonOf(value: Value, lookup: Lookup): string {
  if (value instanceof Ref) return jsonOf(lookup(value), lookup);
  if (value instanceof RawJson) return value.text;
  if (value instanceof Members) {
    return `{${value.entries.map(([name, member]) => `${JSON.stringify(name)}:${jsonOf(member, lookup)}`).join(',')}}`;
  }
  if (Array.isArray(value)) return `[${value.map((item) => jsonOf(item, lookup)).join(',')}]`;
  if (typeof value === 'object' && value !== null) return jsonOf(new Members(Object.entries(value)), lookup);
  return JSON.stringify(value) ?? 'null';
}

/** A value where only text can stand. */
function textOf(value: Value, lookup: Lookup): string {
  const found = value instanceof Ref ? lookup(value) : value;
  return typeof found === 'string' ? found : jsonOf(found, lookup);
}

/** Percent-encoded; a lone surrogate as its own three bytes, which are no UTF-8. */
function escaped(text: string): string {
  return text
    .split(/([\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff])/)
    .map((part) => (/^[\ud800-\udfff]$/.test(part) ? '%ED%A0%80' : encodeURIComponent(part)))
    .join('');
}

/** What Node sends of a text in a header field. */
function fieldValue(text: string): string {
  return text.replace(/[^\x20-\x7e\x80-\xff]/g, '?').slice(0, 4000);
}

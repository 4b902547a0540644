import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import type { Api } from '../support/api.js';

export type Json = Record<string, unknown>;

/** A parameter of an operation. */
export interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema: Json;
}

/** The body that an operation takes. */
export interface BodyDescription {
  readonly mediaType: string;
  readonly schema: Json;
}

/** An operation as the document describes it. */
export interface Operation {
  /** In capitals. */
  readonly method: string;
  /** With parameters in braces. */
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly body: BodyDescription | undefined;
  /** The media types of each status; none: an answer without content. */
  readonly answers: ReadonlyMap<string, readonly string[]>;
  /** The schema of what it answers where it succeeds. */
  readonly success: Json | undefined;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
}

interface DescribedOperation {
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Json }> };
  readonly responses: Record<string, { readonly content?: Record<string, { readonly schema?: Json }> }>;
  readonly security?: Operation['security'];
}

const DOCUMENT_ID = 'https://api.example/openapi.json';

/** The OpenAPI document of a running service, as what requests are made from and answers are held against. */
export class ApiDocument {
  readonly operations: readonly Operation[];
  private readonly schemas: Record<string, Json>;
  private readonly closed: Json;
  private readonly ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: true });
  private readonly validators = new Map<string, ValidateFunction>();

  private constructor(document: Json) {
    const paths = document['paths'] as Record<string, Record<string, DescribedOperation>>;
    this.schemas = (document['components'] as { schemas: Record<string, Json> }).schemas;
    this.operations = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, described]) => operationOf(method.toUpperCase(), path, described)),
    );
    formats.default(this.ajv);
    this.closed = closed(document) as Json;
    this.ajv.addSchema({ $id: DOCUMENT_ID, ...this.closed });
  }

  static async read(api: Api): Promise<ApiDocument> {
    return new ApiDocument((await api.send('GET', '/api/openapi.json')).body);
  }

  /** The schema itself, in the place of a reference to it. */
  resolve(schema: Json): Json {
    const [only, ...others] = (schema['allOf'] ?? []) as Json[];
    if (only !== undefined && others.length === 0) return { ...this.resolve(only), ...schema };
    const ref = schema['$ref'];
    if (typeof ref !== 'string') return schema;
    return this.schemas[ref.replace('#/components/schemas/', '')] ?? {};
  }

  /** The members of an object's schema by name. */
  membersOf(schema: Json): Readonly<Record<string, Json>> {
    return (this.resolve(schema)['properties'] ?? {}) as Record<string, Json>;
  }

  /** The names of the members that an object has to have. */
  requiredBy(schema: Json): string[] {
    return (this.resolve(schema)['required'] ?? []) as string[];
  }

  /** The members of what an operation answers where it succeeds. */
  membersOfSuccess({ success }: Operation): [string, Json][] {
    return success === undefined ? [] : Object.entries(this.membersOf(success));
  }

  /** How a value differs from what the document says of an answer; empty: not at all. */
  faultsOfAnswer({ method, path }: Operation, status: number, mediaType: string, value: unknown): string[] {
    const inAnswer = ['responses', String(status), 'content', mediaType, 'schema'];
    return this.faultsAt(['paths', path, method.toLowerCase(), ...inAnswer], value);
  }

  /** How a value differs from what the document says of an operation's body. */
  faultsOfBody({ method, path, body }: Operation, value: unknown): string[] {
    if (body === undefined) return [];
    const inBody = ['requestBody', 'content', body.mediaType, 'schema'];
    return this.faultsAt(['paths', path, method.toLowerCase(), ...inBody], value);
  }

  /** Where a schema stands, or the one that it only refers to: most answers share a few, which are compiled once. */
  private placeOf(steps: readonly string[]): string {
    const found = steps.reduce<unknown>((at, step) => (at as Json | undefined)?.[step], this.closed) as
      Json | undefined;
    const shared = found?.['$ref'];
    if (typeof shared === 'string' && Object.keys(found ?? {}).length === 1) return shared;
    const pointer = steps.map((step) => `/${encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'))}`);
    return `#${pointer.join('')}`;
  }

  private faultsAt(steps: readonly string[], value: unknown): string[] {
    const ref = `${DOCUMENT_ID}${this.placeOf(steps)}`;
    const validate = this.validators.get(ref) ?? this.ajv.compile({ $ref: ref });
    this.validators.set(ref, validate);
    if (validate(value)) return [];
    return (validate.errors ?? []).map(({ instancePath, message, params }) =>
      `${instancePath} ${message ?? 'differs'} ${JSON.stringify(params)}`.trim(),
    );
  }
}

function operationOf(method: string, path: string, described: DescribedOperation): Operation {
  const [body] = Object.entries(described.requestBody?.content ?? {});
  return {
    method,
    path,
    parameters: described.parameters ?? [],
    body: body === undefined ? undefined : { mediaType: body[0], schema: body[1].schema },
    success: Object.entries(described.responses)
      .filter(([status]) => status.startsWith('2'))
      .flatMap(([, { content = {} }]) => Object.values(content).map(({ schema }) => schema))[0],
    answers: new Map(
      Object.entries(described.responses).map(([status, { content = {} }]) => [status, Object.keys(content)]),
    ),
    security: described.security ?? [],
  };
}

/** The document with every object closed: an answer has no member that its schema does not name. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([name, member]) => [name, closed(member)]));
  // One without members of its own only says that it is an object.
  const isObject = Object.keys(copy['properties'] ?? {}).length > 0 && [copy['type']].flat().includes('object');
  // Problems may carry members of their own (RFC 9457 §3.2).
  const isProblem = isObject && 'title' in (copy['properties'] as object) && 'code' in (copy['properties'] as object);
  return isObject && !isProblem && !('additionalProperties' in copy) ? { ...copy, additionalProperties: false } : copy;
}

/** Whether only the platform's operator may call the operation. */
export function isForTheOperator({ security }: Operation): boolean {
  return security.length > 0 && security.every(({ bearer }) => bearer?.includes('admin:orgs') === true);
}

/** Whether the operation takes client authentication. */
export function takesClients({ security }: Operation): boolean {
  return security.some((scheme) => 'clientBasic' in scheme);
}

/** One fault of a request, named by the JSON Pointer (RFC 6901) of the member or the query parameter at fault. */
export interface FieldFault {
  readonly pointer: string;
  readonly detail: string;
}

interface ProblemKind {
  readonly status: number;
  readonly title: string;
}

/** The catalogue of problem codes of the management API: each has one status and one title. */
export const PROBLEM_KINDS = {
  validation_failed: { status: 400, title: 'The request is not valid' },
  invalid_token: { status: 401, title: 'A valid access token is required' },
  insufficient_scope: { status: 403, title: 'The access token does not allow this' },
  limit_reached: { status: 403, title: 'A limit of the organization is reached' },
  not_found: { status: 404, title: 'Not found' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  conflict: { status: 409, title: 'The request conflicts with the present state' },
  payload_too_large: { status: 413, title: 'The request body is too large' },
  unsupported_media_type: { status: 415, title: 'The media type is not supported' },
  rate_limited: { status: 429, title: 'Too many requests' },
  internal_error: { status: 500, title: 'Internal error' },
  unavailable: { status: 503, title: 'The service is not available at the moment' },
} as const satisfies Record<string, ProblemKind>;

/** A machine-readable problem code. */
export type ProblemCode = keyof typeof PROBLEM_KINDS;

interface ProblemParts {
  readonly detail?: string;
  readonly privateDetail?: string;
  readonly errors?: readonly FieldFault[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly extensions?: Readonly<Record<string, unknown>>;
}

/**
 * An error of the management API, answered as RFC 9457 `application/problem+json`. Immutable: the `with…` methods give
 * copies. What is public (`detail`, `errors`, `extensions`, `headers`) is apart from what only the log may see
 * (`privateDetail`).
 */
export class Problem extends Error {
  readonly status: number;
  readonly title: string;
  readonly detail: string | undefined;
  readonly privateDetail: string | undefined;
  readonly errors: readonly FieldFault[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(
    readonly code: ProblemCode,
    parts: ProblemParts = {},
  ) {
    super(parts.detail ?? PROBLEM_KINDS[code].title);
    this.name = 'Problem';
    this.status = PROBLEM_KINDS[code].status;
    this.title = PROBLEM_KINDS[code].title;
    this.detail = parts.detail;
    this.privateDetail = parts.privateDetail;
    this.errors = parts.errors;
    this.headers = parts.headers ?? {};
    this.extensions = parts.extensions ?? {};
  }

  /** A copy with a description that the caller may read. */
  withDetail(detail: string): Problem {
    return new Problem(this.code, { ...this.parts(), detail });
  }

  /** A copy with a description that only the log may carry. */
  withPrivateDetail(privateDetail: string): Problem {
    return new Problem(this.code, { ...this.parts(), privateDetail });
  }

  /** A copy that names the faulty members. */
  withErrors(...errors: readonly FieldFault[]): Problem {
    return new Problem(this.code, { ...this.parts(), errors });
  }

  /** A copy with response headers. */
  withHeaders(headers: Readonly<Record<string, string>>): Problem {
    return new Problem(this.code, { ...this.parts(), headers: { ...this.headers, ...headers } });
  }

  /** A copy with extension members (RFC 9457 §3.2). */
  withExtensions(extensions: Readonly<Record<string, unknown>>): Problem {
    return new Problem(this.code, { ...this.parts(), extensions: { ...this.extensions, ...extensions } });
  }

  /** The body of the answer, RFC 9457 §3. The private detail is not part of it. */
  toBody(): Record<string, unknown> {
    return {
      type: `urn:sentryagent:problem:${this.code}`,
      title: this.title,
      status: this.status,
      ...(this.detail === undefined ? {} : { detail: this.detail }),
      code: this.code,
      ...(this.errors === undefined ? {} : { errors: this.errors }),
      ...this.extensions,
    };
  }

  private parts(): ProblemParts {
    return {
      ...(this.detail === undefined ? {} : { detail: this.detail }),
      ...(this.privateDetail === undefined ? {} : { privateDetail: this.privateDetail }),
      ...(this.errors === undefined ? {} : { errors: this.errors }),
      headers: this.headers,
      extensions: this.extensions,
    };
  }
}

/** The problems that several rooms answer with, ready to be copied with `with…`. */
export const problems = {
  validationFailed: new Problem('validation_failed', { detail: 'The request has faults; see errors.' }),
  invalidToken: new Problem('invalid_token', { detail: 'The access token is missing, expired, revoked or not valid.' }),
  insufficientScope: new Problem('insufficient_scope'),
  limitReached: new Problem('limit_reached'),
  notFound: new Problem('not_found', { detail: 'There is no such resource.' }),
  methodNotAllowed: new Problem('method_not_allowed'),
  conflict: new Problem('conflict'),
  payloadTooLarge: new Problem('payload_too_large', { detail: 'The body may have at most 65536 bytes.' }),
  unsupportedMediaType: new Problem('unsupported_media_type'),
  internalError: new Problem('internal_error', { detail: 'Something went wrong on our side.' }),
  unavailable: new Problem('unavailable', {
    detail: 'The service cannot answer at the moment. Try again shortly.',
    headers: { 'Retry-After': '1' },
  }),
} as const;

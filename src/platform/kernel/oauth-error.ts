/** The error codes that the OAuth endpoints answer with: RFC 6749 §5.2, RFC 6750 §3.1, RFC 8707 §2. */
export type OAuthErrorCode =
  | 'invalid_request'
  | 'invalid_client'
  | 'invalid_grant'
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  | 'unsupported_response_type'
  | 'invalid_scope'
  | 'invalid_target'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'temporarily_unavailable'
  | 'server_error';

interface OAuthErrorParts {
  readonly privateDetail?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * An error of an OAuth endpoint, answered as the JSON of RFC 6749 §5.2. Immutable: the `with…` methods give copies.
 * `description` is public; `privateDetail` is for the log only.
 */
export class OAuthError extends Error {
  readonly privateDetail: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly status: number,
    readonly error: OAuthErrorCode,
    readonly description: string,
    parts: OAuthErrorParts = {},
  ) {
    super(description);
    this.name = 'OAuthError';
    this.privateDetail = parts.privateDetail;
    this.headers = parts.headers ?? {};
  }

  /** A copy with another public description: ASCII without double quote and backslash (RFC 6749 §5.2). */
  withDescription(description: string): OAuthError {
    return new OAuthError(this.status, this.error, description, this.parts());
  }

  /** A copy with a description that only the log may carry. */
  withPrivateDetail(privateDetail: string): OAuthError {
    return new OAuthError(this.status, this.error, this.description, { ...this.parts(), privateDetail });
  }

  /** A copy with response headers. */
  withHeaders(headers: Readonly<Record<string, string>>): OAuthError {
    const merged = { ...this.headers, ...headers };
    return new OAuthError(this.status, this.error, this.description, { ...this.parts(), headers: merged });
  }

  /** The body of the answer, RFC 6749 §5.2. The private detail is not part of it. */
  toBody(): { error: OAuthErrorCode; error_description: string } {
    return { error: this.error, error_description: this.description };
  }

  private parts(): OAuthErrorParts {
    return {
      ...(this.privateDetail === undefined ? {} : { privateDetail: this.privateDetail }),
      headers: this.headers,
    };
  }
}

/** The errors of the OAuth endpoints, ready to be copied with `with…`. Texts that the user's guide fixes are its own. */
export const oauthErrors = {
  invalidRequest: new OAuthError(400, 'invalid_request', 'The request is malformed.'),
  invalidClient: new OAuthError(
    401,
    'invalid_client',
    'Client authentication failed. Invalid client_id or client_secret.',
  ),
  agentSuspended: new OAuthError(403, 'unauthorized_client', 'Agent is currently suspended and cannot obtain tokens.'),
  organizationSuspended: new OAuthError(
    403,
    'unauthorized_client',
    'Organization is currently suspended and cannot obtain tokens.',
  ),
  quotaReached: new OAuthError(403, 'unauthorized_client', 'The monthly token limit has been reached.'),
  unsupportedGrantType: new OAuthError(
    400,
    'unsupported_grant_type',
    "Only 'client_credentials' grant type is supported.",
  ),
  unsupportedResponseType: new OAuthError(
    400,
    'unsupported_response_type',
    'This authorization server has no authorization endpoint flow; use the client_credentials grant.',
  ),
  invalidScope: new OAuthError(400, 'invalid_scope', 'The requested scope is invalid, unknown or not granted.'),
  invalidTarget: new OAuthError(400, 'invalid_target', 'The requested resource is invalid or unknown.'),
  invalidToken: new OAuthError(401, 'invalid_token', 'The access token is missing, expired, revoked or not valid.'),
  insufficientScope: new OAuthError(403, 'insufficient_scope', 'The access token does not allow this.'),
  tooManyFailures: new OAuthError(429, 'temporarily_unavailable', 'Too many failed authentications. Try again later.', {
    headers: { 'Retry-After': '60' },
  }),
  payloadTooLarge: new OAuthError(413, 'invalid_request', 'The body may have at most 65536 bytes.'),
  methodNotAllowed: new OAuthError(405, 'invalid_request', 'The method is not allowed here.'),
  serverError: new OAuthError(500, 'server_error', 'Something went wrong on our side.'),
  temporarilyUnavailable: new OAuthError(
    503,
    'temporarily_unavailable',
    'The service cannot answer at the moment. Try again shortly.',
    { headers: { 'Retry-After': '1' } },
  ),
} as const;

import type { FastifyRequest } from 'fastify';
import { formOf, type OAuthForm } from '../platform/http/oauth-form.js';
import { oauthErrors } from '../platform/kernel/oauth-error.js';
import { SCOPE_TOKEN } from '../platform/kernel/scopes.js';

/** The one grant that there is. */
const CLIENT_CREDENTIALS = 'client_credentials';

/**
 * Refuses a token request by its shape (RFC 6749 §3.2, §4.4.2), before its client is authenticated: a repeated
 * parameter, a missing or an unsupported grant type. A repeated `resource` is left to the check of the target.
 *
 * @throws OAuthError `invalid_request`, `unsupported_grant_type`
 */
export function checkTokenRequestShape(request: FastifyRequest): void {
  const form = formOf(request);
  if (form.repeated('resource') !== undefined) {
    throw oauthErrors.invalidRequest.withDescription('A parameter is repeated.');
  }
  const grantType = form.get('grant_type');
  if (grantType === undefined) throw oauthErrors.invalidRequest.withDescription('grant_type is required.');
  if (grantType !== CLIENT_CREDENTIALS) throw oauthErrors.unsupportedGrantType;
}

/**
 * The scopes that a request names (RFC 6749 §3.3), each once, in the order in which they stand.
 *
 * @returns null where it names none
 */
export function requestedScopes(form: OAuthForm): readonly string[] | 'malformed' | null {
  const scope = form.get('scope');
  if (scope === undefined) return null;
  const names = scope.split(' ');
  if (!names.every((name) => SCOPE_TOKEN.test(name))) return 'malformed';
  return [...new Set(names)];
}

/**
 * The token that an introspection or a revocation is about.
 *
 * @throws OAuthError `invalid_request` where it is missing or repeated
 */
export function requiredToken(form: OAuthForm): string {
  if (form.repeated() !== undefined) throw oauthErrors.invalidRequest.withDescription('A parameter is repeated.');
  const token = form.get('token');
  if (token === undefined) throw oauthErrors.invalidRequest.withDescription('token is required.');
  return token;
}

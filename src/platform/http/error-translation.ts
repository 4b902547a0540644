import { HttpException } from '@nestjs/common';
import { OAuthError, oauthErrors } from '../kernel/oauth-error.js';
import { Problem, problems } from '../kernel/problem.js';
import { formRequired, jsonRequired } from './body-parsers.js';
import { isUnavailability } from './unavailability.js';

/** Fastify's errors about a URL that names nothing: malformed percent-encoding, a parameter that is too long. */
const UNKNOWN_PLACE: ReadonlySet<string> = new Set(['FST_ERR_BAD_URL', 'FST_ERR_MAX_PARAM_LENGTH']);

/**
 * Translates whatever was thrown into an error of the catalogue, in the shape of the endpoint that answers.
 *
 * @param error anything that was thrown
 * @param oauth whether the endpoint answers in the OAuth shape (RFC 6749 §5.2), else RFC 9457
 * @returns what the caller may see; what it may not is the private detail
 */
export function translateError(error: unknown, oauth: boolean): OAuthError | Problem {
  if (error instanceof OAuthError) return oauth ? error : problemFor(error);
  if (error instanceof Problem) return oauth ? oauthErrorFor(error) : error;
  const status = httpStatusOf(error);
  if (status !== undefined && status < 500) {
    const problem = problemForStatus(status, codeOf(error)).withPrivateDetail(messageOf(error));
    return oauth ? oauthErrorFor(problem) : problem;
  }
  const away = status === 503 || isUnavailability(error);
  if (oauth) {
    const shape = away ? oauthErrors.temporarilyUnavailable : oauthErrors.serverError;
    return shape.withPrivateDetail(messageOf(error));
  }
  return (away ? problems.unavailable : problems.internalError).withPrivateDetail(messageOf(error));
}

/** The management API's form of an OAuth error: same status where the catalogue has it, same text, same headers. */
function problemFor(error: OAuthError): Problem {
  return carryOver(problemForStatus(error.status).withDetail(error.description), error);
}

/** The OAuth form of a problem: same status but for media types, which OAuth answers with 400. */
function oauthErrorFor(problem: Problem): OAuthError {
  const description = describable(problem.detail ?? problem.title);
  return carryOver(oauthShapeFor(problem, description), problem);
}

function oauthShapeFor(problem: Problem, description: string): OAuthError {
  switch (problem.code) {
    case 'invalid_token':
      return oauthErrors.invalidToken.withDescription(description);
    case 'insufficient_scope':
      return oauthErrors.insufficientScope.withDescription(description);
    case 'limit_reached':
      return oauthErrors.quotaReached.withDescription(description);
    case 'unsupported_media_type':
      return formRequired;
    case 'payload_too_large':
      return oauthErrors.payloadTooLarge;
    case 'validation_failed':
      return oauthErrors.invalidRequest;
    case 'rate_limited':
      return new OAuthError(429, 'temporarily_unavailable', description);
    case 'internal_error':
      return oauthErrors.serverError;
    case 'unavailable':
      return oauthErrors.temporarilyUnavailable;
    case 'method_not_allowed':
      return oauthErrors.methodNotAllowed;
    case 'not_found':
    case 'conflict':
      return new OAuthError(problem.status, 'invalid_request', description);
  }
}

function problemForStatus(status: number, code?: string): Problem {
  if (code !== undefined && UNKNOWN_PLACE.has(code)) return problems.notFound;
  switch (status) {
    case 401:
      return problems.invalidToken;
    case 403:
      return problems.insufficientScope;
    case 404:
    case 410:
    case 414:
      return problems.notFound;
    case 405:
      return problems.methodNotAllowed;
    case 409:
      return problems.conflict;
    case 413:
      return problems.payloadTooLarge;
    case 415:
      return jsonRequired;
    case 429:
      return new Problem('rate_limited');
    case 503:
      return problems.unavailable;
    default:
      return status < 500
        ? new Problem('validation_failed', { detail: 'The request is malformed.' })
        : problems.internalError;
  }
}

function carryOver<Shape extends OAuthError | Problem>(shape: Shape, original: OAuthError | Problem): Shape {
  const withHeaders = shape.withHeaders(original.headers);
  const { privateDetail } = original;
  return (privateDetail === undefined ? withHeaders : withHeaders.withPrivateDetail(privateDetail)) as Shape;
}

/** The status that Nest, Fastify or a library of http-errors gave its error. */
function httpStatusOf(error: unknown): number | undefined {
  if (error instanceof HttpException) return error.getStatus();
  const { statusCode } = (error ?? {}) as { statusCode?: unknown };
  return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 600 ? statusCode : undefined;
}

function codeOf(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown };
  if (typeof code === 'string') return code;
  return cause === undefined ? undefined : codeOf(cause);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : `thrown: ${typeof error}`;
}

/** `text` with only the characters that an error_description may have (RFC 6749 §5.2). */
function describable(text: string): string {
  return text.replaceAll('"', "'").replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '?');
}

import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Metrics } from '../platform/http/metrics.js';
import { formOf } from '../platform/http/oauth-form.js';
import { accessOf, type AuthenticatedRequest, type ShapeCheck } from '../platform/kernel/access.js';
import { isActive, principalOf, type Client } from '../platform/kernel/client.js';
import { OAuthError, oauthErrors } from '../platform/kernel/oauth-error.js';
import { insufficientScope } from '../platform/kernel/grants.js';
import { ClientAssertionStrategy } from './client-assertion.strategy.js';
import type { ClientAuthenticationStrategy } from './client-authentication-strategy.js';
import { ClientSecretBasicStrategy, usesBasic } from './client-secret-basic.strategy.js';
import { ClientSecretPostStrategy } from './client-secret-post.strategy.js';

const twoMethods = oauthErrors.invalidRequest.withDescription(
  'The request uses more than one way of authenticating the client.',
);

/**
 * Authenticates clients at the routes that take client authentication; a global guard that lets every other route pass.
 * Where a route takes a Bearer token as well and the request has no client authentication, the access-token guard
 * decides.
 */
@Injectable()
export class ClientAuthenticationGuard implements CanActivate {
  constructor(
    private readonly metrics: Metrics,
    private readonly basic: ClientSecretBasicStrategy,
    private readonly post: ClientSecretPostStrategy,
    private readonly assertion: ClientAssertionStrategy,
  ) {}

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const access = accessOf(context);
    if (access?.kind === 'client') return this.authenticateAlways(requestOf(context), access.shape);
    if (access?.kind === 'scopes' && access.clientScopes !== null) {
      return this.authenticateWhereOffered(requestOf(context), access.clientScopes);
    }
    return true;
  }

  private async authenticateAlways(request: AuthenticatedRequest, shape: ShapeCheck): Promise<boolean> {
    try {
      requireOneMethod(request);
      shape(request);
      request.client = this.found(await this.strategyOf(request).validate(request));
    } catch (error) {
      if (error instanceof OAuthError) this.countRefusal(error);
      throw error;
    }
    return true;
  }

  /** Without a promise where the request has no client authentication: most come with a token. */
  private authenticateWhereOffered(
    request: AuthenticatedRequest,
    scopes: readonly string[],
  ): boolean | Promise<boolean> {
    requireOneMethod(request);
    return offersClientAuthentication(request) ? this.authenticateFor(request, scopes) : true;
  }

  private async authenticateFor(request: AuthenticatedRequest, scopes: readonly string[]): Promise<boolean> {
    const client = this.found(await this.strategyOf(request).validate(request));
    request.client = client;
    if (!isActive(client)) throw oauthErrors.invalidClient.withPrivateDetail('the calling client is suspended');
    const missing = scopes.filter((scope) => !client.scopes.includes(scope));
    if (missing.length > 0) throw insufficientScope(missing);
    request.principal = principalOf(client);
    return true;
  }

  /** The one way that the request offers. */
  private strategyOf(request: AuthenticatedRequest): ClientAuthenticationStrategy {
    if (usesBasic(request)) return this.basic;
    return formOf(request).get('client_assertion') === undefined ? this.post : this.assertion;
  }

  private found(client: Client | null): Client {
    if (client !== null) return client;
    this.metrics.clientAuthenticationFailed('none');
    throw oauthErrors.invalidClient.withPrivateDetail('no client authentication');
  }

  private countRefusal({ error, status }: OAuthError): void {
    if (status === 429) {
      this.metrics.tokenRefused('throttled');
    } else if (error === 'invalid_request' || error === 'unsupported_grant_type' || error === 'invalid_client') {
      this.metrics.tokenRefused(error);
    }
  }
}

function requestOf(context: ExecutionContext): AuthenticatedRequest {
  return context.switchToHttp().getRequest<AuthenticatedRequest>();
}

/** RFC 6749 §2.3: a client must not use more than one way of authenticating in one request. */
function requireOneMethod(request: AuthenticatedRequest): void {
  const form = formOf(request);
  const repeated = form.repeated('resource');
  if (repeated !== undefined) {
    throw oauthErrors.invalidRequest.withDescription('A parameter is repeated.').withPrivateDetail(repeated);
  }
  refuseSecretInQuery(request);
  const assertion = form.get('client_assertion');
  const bodyMethods = Number(form.get('client_secret') !== undefined) + Number(assertion !== undefined);
  if (bodyMethods + Number(request.headers.authorization !== undefined) > 1) throw twoMethods;
  // RFC 7521 §4.2: an assertion and its type come together.
  if ((assertion === undefined) !== (form.get('client_assertion_type') === undefined)) {
    throw oauthErrors.invalidRequest.withDescription('client_assertion and client_assertion_type go together.');
  }
}

/** RFC 6749 §2.3.1: the parameters must not be included in the request URI. */
function refuseSecretInQuery(request: AuthenticatedRequest): void {
  const query = request.query as Record<string, unknown>;
  if ('client_secret' in query || 'client_assertion' in query) {
    throw oauthErrors.invalidRequest.withDescription('Client credentials must not be sent in the query string.');
  }
}

function offersClientAuthentication(request: AuthenticatedRequest): boolean {
  return (
    usesBasic(request) ||
    formOf(request).get('client_secret') !== undefined ||
    formOf(request).get('client_assertion') !== undefined
  );
}

import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { randomUUID } from 'node:crypto';
import passport, { type Strategy } from 'passport';
import { Metrics } from '../platform/http/metrics.js';
import { formOf } from '../platform/http/oauth-form.js';
import { accessOf, type AuthenticatedRequest } from '../platform/kernel/access.js';
import { isActive, principalOf, type Client } from '../platform/kernel/client.js';
import { OAuthError, oauthErrors } from '../platform/kernel/oauth-error.js';
import { insufficientScope } from '../platform/kernel/grants.js';
import { CLIENT_ASSERTION, ClientAssertionStrategy } from './client-assertion.strategy.js';
import { CLIENT_SECRET_BASIC, ClientSecretBasicStrategy, usesBasic } from './client-secret-basic.strategy.js';
import { CLIENT_SECRET_POST, ClientSecretPostStrategy } from './client-secret-post.strategy.js';

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
  private readonly basic: CanActivate;
  private readonly post: CanActivate;
  private readonly assertion: CanActivate;

  constructor(
    private readonly metrics: Metrics,
    basic: ClientSecretBasicStrategy,
    post: ClientSecretPostStrategy,
    assertion: ClientAssertionStrategy,
  ) {
    this.basic = new MethodGuard(ownName(CLIENT_SECRET_BASIC, basic), metrics);
    this.post = new MethodGuard(ownName(CLIENT_SECRET_POST, post), metrics);
    this.assertion = new MethodGuard(ownName(CLIENT_ASSERTION, assertion), metrics);
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const access = accessOf(context);
    if (access?.kind === 'client') return this.authenticateAlways(context, access.shape);
    if (access?.kind === 'scopes' && access.clientScopes !== null) {
      return this.authenticateWhereOffered(context, access.clientScopes);
    }
    return true;
  }

  private async authenticateAlways(context: ExecutionContext, shape: (request: AuthenticatedRequest) => void) {
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    try {
      requireOneMethod(request);
      shape(request);
      await this.guardOf(request).canActivate(context);
    } catch (error) {
      if (error instanceof OAuthError) this.countRefusal(error);
      throw error;
    }
    return true;
  }

  private async authenticateWhereOffered(context: ExecutionContext, scopes: readonly string[]): Promise<boolean> {
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    requireOneMethod(request);
    if (!offersClientAuthentication(request)) return true;
    await this.guardOf(request).canActivate(context);
    const client = request.client as Client;
    if (!isActive(client)) throw oauthErrors.invalidClient.withPrivateDetail('the calling client is suspended');
    const missing = scopes.filter((scope) => !client.scopes.includes(scope));
    if (missing.length > 0) throw insufficientScope(missing);
    request.principal = principalOf(client);
    return true;
  }

  /** The one method that the request offers; passport would try them all in turn, each with promises of its own. */
  private guardOf(request: AuthenticatedRequest): CanActivate {
    if (usesBasic(request)) return this.basic;
    return formOf(request).get('client_assertion') === undefined ? this.post : this.assertion;
  }

  private countRefusal({ error, status }: OAuthError): void {
    if (status === 429) {
      this.metrics.tokenRefused('throttled');
    } else if (error === 'invalid_request' || error === 'unsupported_grant_type' || error === 'invalid_client') {
      this.metrics.tokenRefused(error);
    }
  }
}

/** Authenticates by one strategy and puts the client on the request. */
class MethodGuard extends AuthGuard() {
  constructor(
    strategy: string,
    private readonly metrics: Metrics,
  ) {
    super({ property: 'client', defaultStrategy: strategy });
  }

  /** Called by passport with what the strategy found. */
  override handleRequest<T>(error: unknown, client: T | false): T {
    if (error !== null && error !== undefined) throw error as Error;
    if (client === false) {
      this.metrics.clientAuthenticationFailed('none');
      throw oauthErrors.invalidClient.withPrivateDetail('no client authentication');
    }
    return client;
  }
}

/**
 * Gives a strategy a name of its own. Passport keeps strategies by name for the whole process, and the last one wins: of
 * several applications in one process each would authenticate clients with the database of the last.
 */
function ownName(method: string, strategy: Strategy): string {
  const name = `${method}:${randomUUID()}`;
  passport.use(name, strategy);
  return name;
}

/** RFC 6749 §2.3: a client must not use more than one way of authenticating in one request. */
function requireOneMethod(request: AuthenticatedRequest): void {
  const form = formOf(request);
  const repeated = form.repeated('resource');
  if (repeated !== undefined) {
    throw oauthErrors.invalidRequest.withDescription('A parameter is repeated.').withPrivateDetail(repeated);
  }
  refuseSecretInQuery(request);
  const methods = [
    request.headers.authorization !== undefined,
    form.get('client_secret') !== undefined,
    form.get('client_assertion') !== undefined,
  ];
  if (methods.filter(Boolean).length > 1) throw twoMethods;
  // RFC 7521 §4.2: an assertion and its type come together.
  if ((form.get('client_assertion') === undefined) !== (form.get('client_assertion_type') === undefined)) {
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

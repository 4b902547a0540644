import { Injectable, Logger, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Config } from '../platform/config/config.js';
import { formOf } from '../platform/http/oauth-form.js';
import { isOAuthPath } from '../platform/http/oauth-path.js';
import { RateLimits } from '../platform/http/rate-limits.js';
import { accessOf, type Access, type AuthenticatedRequest } from '../platform/kernel/access.js';
import { insufficientScope } from '../platform/kernel/grants.js';
import { isOperator, type Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { generationsOf, isFor, scopesOf } from './access-token-claims.js';
import { Introspections } from './introspections.js';
import type { ActiveToken } from './token-state.js';

const BEARER = /^bearer(?: +|$)/i;

/** RFC 6750 §3.1: where no token was given, the challenge carries no error. */
const noToken = problems.invalidToken
  .withDetail('This takes an access token in the Authorization header.')
  .withHeaders({ 'WWW-Authenticate': 'Bearer' });

const badToken = problems.invalidToken.withHeaders({ 'WWW-Authenticate': 'Bearer error="invalid_token"' });

/**
 * Admits Bearer tokens (RFC 6750) at every route that requires scopes, and refuses every route that declares nothing.
 * A global guard; it runs after the client-authentication guard, which may have authenticated the caller already.
 */
@Injectable()
export class AccessTokenGuard implements CanActivate {
  private readonly logger = new Logger(AccessTokenGuard.name);

  constructor(
    private readonly introspections: Introspections,
    private readonly rateLimits: RateLimits,
    private readonly config: Config,
  ) {}

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const access = accessOf(context);
    if (access === null) {
      this.logger.error(`the route ${context.getClass().name}.${context.getHandler().name} declares no access`);
      throw problems.insufficientScope.withDetail('This route is not open to anybody.');
    }
    if (access.kind !== 'scopes') return true;
    const http = context.switchToHttp();
    return this.authenticate(access, http.getRequest<AuthenticatedRequest>(), http.getResponse<FastifyReply>());
  }

  /** Finds whose token it is, counts the request against the rates of its caller, and asks for the scopes. */
  private async authenticate(
    access: Extract<Access, { kind: 'scopes' }>,
    request: AuthenticatedRequest,
    reply: FastifyReply,
  ): Promise<boolean> {
    // Whoever checks tokens does so for each request of others, so the OAuth endpoints count none.
    const isCounted = !isOAuthPath(request.url);
    if (request.principal !== undefined) {
      if (isCounted) await this.rateLimits.admit(request.principal, reply);
      return true;
    }
    const token = bearerToken(request);
    if (token === null) throw noToken;
    const active = await this.introspections.caller(request, token, formOf(request).get('token'));
    if (active === null || !isFor(active.claims, this.config.tokens.issuer)) throw badToken;
    const principal = principalOf(active);
    // Before the scopes, so that refusals count as well.
    if (isCounted) await this.rateLimits.admit(principal, reply);
    const isAllowed = access.scopes.every((scope) => principal.scopes.has(scope));
    if (!isAllowed && !(access.orOperator === true && isOperator(principal))) throw insufficientScope(access.scopes);
    request.principal = principal;
    return true;
  }
}

/** The token of the Authorization header (RFC 6750 §2.1); it is read nowhere else. */
function bearerToken(request: FastifyRequest): string | null {
  const header = request.headers.authorization;
  if (header === undefined || !BEARER.test(header)) return null;
  return header.replace(BEARER, '').trim();
}

function principalOf({ claims, kid, tier }: ActiveToken): Principal {
  return {
    tier,
    agentId: claims.sub,
    organizationId: claims.org,
    scopes: new Set(scopesOf(claims)),
    credentialId: claims.cred,
    method: 'bearer',
    token: { jti: claims.jti, kid, scope: claims.scope, generations: generationsOf(claims.gen) ?? [0, 0, 0] },
  };
}

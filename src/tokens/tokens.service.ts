import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { RefusalsService } from '../audit/refusals.service.js';
import { lockOrganizationFor } from '../platform/database/organization-lock.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { Config } from '../platform/config/config.js';
import { Metrics, type TokenRefusalReason } from '../platform/http/metrics.js';
import type { OAuthForm } from '../platform/http/oauth-form.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import type { Client } from '../platform/kernel/client.js';
import { Clock } from '../platform/kernel/clock.js';
import { nextMonth } from '../platform/kernel/month.js';
import { oauthErrors, type OAuthError } from '../platform/kernel/oauth-error.js';
import { insufficientScope } from '../platform/kernel/grants.js';
import { isOperator, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { OPERATOR_SCOPE } from '../platform/kernel/scopes.js';
import { ResourcesService } from '../resources/resources.service.js';
import type { AccessTokenClaims } from './access-token-claims.js';
import type { IntrospectionView, TokenView } from './dto/token.views.js';
import { decideGrant, type Grant, type GrantRefusal, type GrantRequest } from './grant.js';
import { TokenIssuer, type IssuedToken } from './token-issuer.js';
import { requestedScopes } from './token-request.js';
import { TokenState } from './token-state.js';
import { TokensRepository } from './tokens.repository.js';

const INACTIVE: IntrospectionView = { active: false };

/** Issues, introspects and revokes access tokens. */
@Injectable()
export class TokensService {
  constructor(
    private readonly issuer: TokenIssuer,
    private readonly state: TokenState,
    private readonly repository: TokensRepository,
    private readonly resources: ResourcesService,
    private readonly audit: AuditService,
    private readonly refusals: RefusalsService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    private readonly config: Config,
    private readonly metrics: Metrics,
  ) {}

  /**
   * The client-credentials grant, RFC 6749 §4.4, for a client that has authenticated itself.
   *
   * @returns the token of RFC 6749 §5.1, once quota and audit log hold it
   * @throws OAuthError `unauthorized_client`, `invalid_scope`, `invalid_target`, `invalid_client`,
   *   `temporarily_unavailable`
   */
  async issue(client: Client, form: OAuthForm, origin: RequestOrigin): Promise<TokenView> {
    let state = client;
    // The state may change between authentication and commit; once, the request is decided anew.
    for (const _attempt of [1, 2]) {
      const grant = await this.decide(state, form, origin);
      const issued = await this.issuer.issue(state, grant, origin);
      if (issued.outcome === 'issued') {
        this.metrics.tokensIssued();
        return {
          access_token: issued.token,
          token_type: 'Bearer',
          expires_in: issued.expiresIn,
          scope: grant.scopes.join(' '),
        };
      }
      if (issued.outcome !== 'generation_changed') return this.refuseIssued(state, issued, origin);
      const { generation, scopes } = issued;
      state = { ...state, generation, scopes, audiences: await this.resources.audiences(state.organizationId, scopes) };
    }
    this.metrics.tokenRefused('unavailable');
    throw oauthErrors.temporarilyUnavailable.withPrivateDetail('the state of the client changed twice');
  }

  /**
   * Token introspection, RFC 7662.
   *
   * @param target the claims of the token where it is active
   * @returns its claims to callers of its own organization and to the operator, else that it is not active
   */
  introspect(caller: Principal, target: AccessTokenClaims | null): IntrospectionView {
    const visible = target !== null && (target.org === caller.organizationId || isOperator(caller));
    this.metrics.introspected(visible);
    if (!visible) return INACTIVE;
    const { sub, client_id, scope, iat, exp, iss, aud, jti, org } = target;
    return { active: true, sub, client_id, scope, token_type: 'Bearer', iat, exp, iss, aud, jti, org };
  }

  /**
   * Token revocation, RFC 7009: one's own tokens always, those of others only for the operator. A token that is not
   * active needs none.
   *
   * @throws Problem `insufficient_scope`
   */
  async revoke(caller: Principal, token: string, origin: RequestOrigin): Promise<void> {
    const claims = (await this.state.active(token))?.claims ?? null;
    if (claims === null) return;
    if (claims.sub !== caller.agentId && !isOperator(caller)) throw insufficientScope([OPERATOR_SCOPE]);
    const revoked = await this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, claims.org);
      if (!(await this.repository.revoke(transaction, claims))) return false;
      await this.audit.append(transaction, {
        organizationId: claims.org,
        action: 'token.revoked',
        outcome: 'success',
        actor: caller.agentId,
        target: { type: 'token', id: claims.jti },
        origin,
        details: { agentId: claims.sub, credentialId: claims.cred },
      });
      return true;
    });
    if (revoked) this.metrics.revoked();
  }

  /** Agent and organization status, then scope and resource: what the request is to be granted. */
  private async decide(client: Client, form: OAuthForm, origin: RequestOrigin): Promise<Grant> {
    if (client.agentStatus === 'suspended') {
      return this.refuse(client, 'agent_suspended', oauthErrors.agentSuspended, origin);
    }
    if (client.organizationStatus === 'suspended') {
      return this.refuse(client, 'organization_suspended', oauthErrors.organizationSuspended, origin);
    }
    const request = grantRequestOf(form);
    const grant =
      typeof request === 'string'
        ? request
        : decideGrant(client, request, this.config.tokens.issuer, await this.isKnown(client, request.resource));
    if (grant === 'invalid_scope') return this.refuse(client, grant, oauthErrors.invalidScope, origin);
    if (grant === 'invalid_target') return this.refuse(client, grant, oauthErrors.invalidTarget, origin);
    return grant;
  }

  /** Whether a resource is our own API or a resource server of the client's organization. */
  private isKnown(client: Client, resource: string | null): boolean | Promise<boolean> {
    if (resource === null || resource === this.config.tokens.issuer) return true;
    if (client.audiences.some(({ identifier }) => identifier === resource)) return true;
    return this.resources.exists(client.organizationId, resource);
  }

  /** Turns what the commit decided into the refusal of RFC 6749 §5.2. */
  private refuseIssued(
    client: Client,
    issued: Exclude<IssuedToken, { outcome: 'issued' | 'generation_changed' }>,
    origin: RequestOrigin,
  ): Promise<never> {
    switch (issued.outcome) {
      case 'client_invalid':
        return this.refuse(client, 'invalid_client', oauthErrors.invalidClient, origin);
      case 'agent_suspended':
        return this.refuse(client, 'agent_suspended', oauthErrors.agentSuspended, origin);
      case 'organization_suspended':
        return this.refuse(client, 'organization_suspended', oauthErrors.organizationSuspended, origin);
      case 'quota_reached':
        return this.refuse(client, 'quota_reached', this.quotaReached(issued.tier, issued.limit), origin);
    }
  }

  private quotaReached(tier: string, limit: number): OAuthError {
    const name = tier.charAt(0).toUpperCase() + tier.slice(1);
    const now = this.clock.now();
    const retryAfter = Math.ceil((nextMonth(now).getTime() - now.getTime()) / 1000);
    return oauthErrors.quotaReached
      .withDescription(
        `${name} tier monthly token limit of ${limit.toLocaleString('en-US')} requests has been reached.`,
      )
      .withHeaders({ 'Retry-After': String(retryAfter) });
  }

  /** Audits a refusal and throws it. */
  private async refuse(
    client: Client,
    reason: TokenRefusalReason,
    error: OAuthError,
    origin: RequestOrigin,
  ): Promise<never> {
    const refusal: NewAuditEvent = {
      organizationId: client.organizationId,
      action: 'token.refused',
      outcome: 'failure',
      actor: client.agentId,
      target: { type: 'agent', id: client.agentId },
      origin,
      details: { reason, credentialId: client.credentialId },
    };
    await this.refusals.record(refusal, reason);
    this.metrics.tokenRefused(reason);
    throw error.withPrivateDetail(reason);
  }
}

/** What a form asks for, as far as it is well-formed. */
function grantRequestOf(form: OAuthForm): GrantRequest | GrantRefusal {
  const scopes = requestedScopes(form);
  if (scopes === 'malformed') return 'invalid_scope';
  const [resource = null, ...others] = form.all('resource');
  return others.length > 0 ? 'invalid_target' : { scopes, resource };
}

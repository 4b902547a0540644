import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { Config } from '../platform/config/config.js';
import { GroupCommit } from '../platform/database/group-commit.js';
import { Metrics } from '../platform/http/metrics.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import type { Client } from '../platform/kernel/client.js';
import { Clock } from '../platform/kernel/clock.js';
import { monthOf } from '../platform/kernel/month.js';
import type { RequestOrigin } from '../platform/kernel/principal.js';
import type { AccessTokenClaims } from './access-token-claims.js';
import type { Grant } from './grant.js';
import { TokenSigner } from './token-signer.js';
import { TokensRepository, type Issuance, type IssuanceOutcome } from './tokens.repository.js';

/** A token that was issued, or why it was not. */
export type IssuedToken =
  | { readonly outcome: 'issued'; readonly token: string; readonly expiresIn: number }
  | Exclude<IssuanceOutcome, { outcome: 'issued' }>;

interface PendingIssuance extends Issuance {
  readonly event: ReturnType<AuditService['render']>;
}

/** Issuances that may wait: some seconds of work, over which the answer is 503. */
const ISSUANCE_LIMITS = { maxQueue: 4000, maxBatch: 128 };

/**
 * Issues tokens: the signature is made beside the group commit that consumes the quota and chains the audit event, and a
 * token leaves only when both are done.
 */
@Injectable()
export class TokenIssuer implements OnApplicationShutdown {
  private readonly commits: GroupCommit<PendingIssuance, IssuanceOutcome>;

  constructor(
    repository: TokensRepository,
    private readonly signer: TokenSigner,
    private readonly audit: AuditService,
    private readonly clock: Clock,
    private readonly config: Config,
    metrics: Metrics,
  ) {
    this.commits = new GroupCommit(
      'tokens',
      ISSUANCE_LIMITS,
      (items) => repository.issue(this.audit.columns(items.map(({ event }) => event)), items),
      ({ event: { event } }) => event.organizationId,
      (size, seconds) => metrics.flushed('tokens', size, seconds),
    );
    metrics.observeQueue('tokens', () => this.commits.depth);
  }

  /**
   * Issues a token to a client, under the state that was read while it authenticated itself. Where that state has
   * changed since, nothing is issued and the outcome says what it is now.
   */
  async issue(client: Client, grant: Grant, origin: RequestOrigin): Promise<IssuedToken> {
    const now = this.clock.now();
    const expiresIn = Math.min(
      this.config.tokens.ttlSeconds,
      client.tokenTtlSeconds ?? Number.POSITIVE_INFINITY,
      grant.ttlSeconds ?? Number.POSITIVE_INFINITY,
    );
    const claims = this.claims(client, grant, now, expiresIn);
    const [token, outcome] = await Promise.all([
      this.signer.sign(claims),
      this.commits.commit({
        event: this.audit.render(issuanceEvent(client, claims, origin), claims.jti),
        credentialId: client.credentialId,
        generation: client.generation,
        month: monthOf(now),
      }),
    ]);
    return outcome.outcome === 'issued' ? { outcome: 'issued', token, expiresIn } : outcome;
  }

  /** Drains the queue once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.commits.drain();
  }

  private claims(client: Client, grant: Grant, now: Date, expiresIn: number): AccessTokenClaims {
    const iat = Math.floor(now.getTime() / 1000);
    return {
      sub: client.agentId,
      client_id: client.agentId,
      scope: grant.scopes.join(' '),
      // The id of the event that tells of it, so that the log is searched by the index that it has.
      jti: this.audit.newEventId(),
      iat,
      exp: iat + expiresIn,
      iss: this.config.tokens.issuer,
      aud: grant.audience,
      org: client.organizationId,
      cred: client.credentialId,
      gen: client.generation,
    };
  }
}

function issuanceEvent(client: Client, claims: AccessTokenClaims, origin: RequestOrigin): NewAuditEvent {
  return {
    organizationId: client.organizationId,
    action: 'token.issued',
    outcome: 'success',
    actor: client.agentId,
    target: { type: 'token', id: claims.jti },
    origin,
    details: {
      audience: claims.aud,
      credentialId: client.credentialId,
      expiresAt: claims.exp,
      scope: claims.scope,
    },
  };
}

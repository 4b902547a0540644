import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { AuditService } from '../audit/audit.service.js';
import { KeysService } from '../keys/keys.service.js';
import { Config } from '../platform/config/config.js';
import { Backlog } from '../platform/database/backlog.js';
import { GroupCommit } from '../platform/database/group-commit.js';
import { Metrics } from '../platform/http/metrics.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import type { Client } from '../platform/kernel/client.js';
import { Clock } from '../platform/kernel/clock.js';
import { monthOf } from '../platform/kernel/month.js';
import type { RequestOrigin } from '../platform/kernel/principal.js';
import type { AccessTokenClaims } from './access-token-claims.js';
import type { Grant } from './grant.js';
import { TokenSigner, type SignedToken } from './token-signer.js';
import { TokensRepository, type Issuance, type IssuanceOutcome, type UnderKeys } from './tokens.repository.js';

/** A token that was issued, or why it was not. */
export type IssuedToken =
  | { readonly outcome: 'issued'; readonly token: string; readonly expiresIn: number }
  | Exclude<IssuanceOutcome, { outcome: 'issued' }>;

/** Issuances that may wait: some seconds of work, over which the answer is 503. */
const ISSUANCE_LIMITS = { maxQueue: 4000, maxBatch: 128 };
/** Organizations of which it is remembered that their quota was used up. */
const REMEMBERED_ORGANIZATIONS = 10_000;

/**
 * Issues tokens: the signature is made beside the group commit that consumes the quota and chains the audit event, and a
 * token leaves only when both are done.
 */
@Injectable()
export class TokenIssuer implements OnApplicationShutdown {
  private readonly commits: GroupCommit<Issuance, UnderKeys<IssuanceOutcome>>;
  /** Whose last request was over the quota. It decides nothing but whether the signature waits for the commit. */
  private readonly overQuota = new LRUCache<string, true>({ max: REMEMBERED_ORGANIZATIONS });

  constructor(
    repository: TokensRepository,
    private readonly signer: TokenSigner,
    private readonly keys: KeysService,
    private readonly audit: AuditService,
    private readonly clock: Clock,
    private readonly config: Config,
    metrics: Metrics,
    backlog: Backlog,
  ) {
    this.commits = new GroupCommit(
      'tokens',
      ISSUANCE_LIMITS,
      (items) => repository.issue(items),
      ({ event: { event } }) => event.organizationId,
      (size, seconds) => metrics.flushed('tokens', size, seconds),
      backlog.gathering(),
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
    const issuance: Issuance = {
      event: this.audit.render(issuanceEvent(client, claims, origin), claims.jti, now),
      agentId: client.agentId,
      credentialId: client.credentialId,
      generation: client.generation,
      month: monthOf(now),
    };
    const [signed, { result: outcome, keyVersion }] = await this.signAndCommit(claims, issuance);
    if (outcome.outcome !== 'issued') return outcome;
    if (!this.keys.isCurrent(keyVersion)) await this.keys.follow(keyVersion);
    // Signed anew where another key is to sign by now: what was issued stays the same.
    const present = signed?.kid === this.keys.signer().kid ? signed : await this.signer.sign(claims);
    return { outcome: 'issued', token: present.token, expiresIn };
  }

  /**
   * The signature and the commit, one beside the other. Where a refusal is likely the signature is left out: it is the
   * dearest part of a request, and nobody would read it.
   */
  private async signAndCommit(
    claims: AccessTokenClaims,
    issuance: Issuance,
  ): Promise<[SignedToken | null, UnderKeys<IssuanceOutcome>]> {
    const unsigned = this.overQuota.has(claims.org);
    const signing = unsigned ? null : this.signer.sign(claims);
    const [signed, committed] = await Promise.all([signing, this.commits.commit(issuance)]);
    if (committed.result.outcome === 'quota_reached') this.overQuota.set(claims.org, true);
    else if (unsigned) this.overQuota.delete(claims.org);
    return [signed, committed];
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
      // The id of the event that tells of it, so that the log is searched by the index that it has. It begins with the
      // instant of `iat`, so that what was issued before an instant can be revoked exactly.
      jti: this.audit.newEventId(now),
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

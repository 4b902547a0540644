import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { RefusalsService } from '../audit/refusals.service.js';
import { AssertionsService, type AssertionFault } from '../federation/assertions.service.js';
import { Config } from '../platform/config/config.js';
import { LookupCoalescer } from '../platform/database/lookup-coalescer.js';
import { Metrics, type ClientAuthenticationMethod } from '../platform/http/metrics.js';
import { parseAssertion, timeFault, type JwtAssertion } from '../platform/jws/jwt-assertion.js';
import { fits, isSignedBy } from '../platform/jws/public-key.js';
import { RememberedKeys } from '../platform/jws/remembered-keys.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import { isActive, type Client } from '../platform/kernel/client.js';
import { Clock } from '../platform/kernel/clock.js';
import { oauthErrors, type OAuthError } from '../platform/kernel/oauth-error.js';
import type { RequestOrigin } from '../platform/kernel/principal.js';
import { isUuid } from '../platform/kernel/uuid.js';
import {
  AssertionsRepository,
  type AssertionCandidate,
  type AssertionClientKey,
  type AssertionCredential,
} from './assertions.repository.js';
import { matchesClaims } from './claim-pattern.js';
import { isUsable } from './credential.entity.js';
import { FailedAuthentications } from './failed-authentications.js';
import { LastUse } from './last-use.js';
import { matchesSubject } from './subject-pattern.js';
import { UsedAssertions } from './used-assertions.js';

/** A client's try to authenticate itself with an assertion. */
export interface AssertionAttempt {
  /** The `client_id` of the form, where it has one. */
  readonly clientId: string | undefined;
  readonly assertion: string;
}

/** Why a try failed: for the audit log and the service's own log, never for the caller. */
type FailureCause =
  | AssertionFault
  | 'unknown_client'
  | 'malformed_assertion'
  | 'agent_decommissioned'
  | 'client_id_mismatch'
  | 'expires_too_late'
  | 'jti_missing'
  | 'partner_disabled'
  | 'subject_mismatch'
  | 'claims_mismatch'
  | 'credential_not_usable'
  | 'assertion_replayed';

type Proven = AssertionCandidate & { readonly credential: AssertionCredential };

/** Clients that may wait for the next lookup: a queue of their own, so that those with secrets wait for none of them. */
const LOOKUP_LIMITS = { maxQueue: 5000, maxBatch: 200 };
/** How far ahead an assertion of an agent's own may expire, in seconds. */
const MAX_LIFETIME_SECONDS = 300;

/**
 * Checks client assertions (RFC 7523 §2.2, §3): those that an agent signs with a key of its own (`private_key_jwt`), and
 * those of federation partners. Every check reads the shared state. What costs nothing is looked at first, and keys are
 * fetched only for an agent and a subject that are known here.
 */
@Injectable()
export class AssertionAuthenticator implements OnApplicationShutdown {
  private readonly logger = new Logger(AssertionAuthenticator.name);
  private readonly lookup: LookupCoalescer<AssertionClientKey, readonly AssertionCandidate[]>;
  private readonly remembered = new RememberedKeys();
  /** Whom an agent's own assertion may be addressed to; as configured, never as the request says. */
  private readonly ownAudiences: ReadonlySet<string>;

  constructor(
    repository: AssertionsRepository,
    private readonly assertions: AssertionsService,
    private readonly used: UsedAssertions,
    private readonly lastUse: LastUse,
    private readonly failures: FailedAuthentications,
    private readonly refusals: RefusalsService,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    config: Config,
  ) {
    const { issuer } = config.tokens;
    this.ownAudiences = new Set([issuer, `${issuer}/api/v1/token`]);
    this.lookup = new LookupCoalescer(
      'assertion_clients',
      LOOKUP_LIMITS,
      (keys) => repository.readClients(keys, this.clock.now(), config.abuse.failures),
      (size, seconds) => metrics.flushed('assertion_clients', size, seconds),
    );
    metrics.observeQueue('assertion_clients', () => this.lookup.depth);
  }

  /**
   * Authenticates a client by an assertion. Whose it is tells the `iss`: an agent's own id, or the issuer of a partner,
   * and then the request has to name its `client_id`. A suspended agent authenticates: whether it gets anything is
   * decided later.
   *
   * @returns the client with the state that was read
   * @throws OAuthError `invalid_client`, the same for every cause; the cause is audited where the agent is known.
   *   `temporarily_unavailable` (429) after too many failures: then nothing is looked at
   */
  async authenticate(attempt: AssertionAttempt, origin: RequestOrigin): Promise<Client> {
    const assertion = parseAssertion(attempt.assertion);
    const issuer = assertion === null || isUuid(assertion.issuer) ? null : assertion.issuer;
    const method = issuer === null ? 'private_key_jwt' : 'federated_assertion';
    const clientId = attempt.clientId ?? (issuer === null ? assertion?.subject : undefined) ?? '';
    const source = this.failures.sourceOf(clientId, origin);
    this.failures.refuseWhileWaiting(source);
    const candidates = isUuid(clientId)
      ? await this.lookup.read({ agentId: source.clientId, issuer, network: source.network })
      : [];
    const [known] = candidates;
    if (known === undefined) {
      await this.failures.record(source, false, Promise.resolve());
      // There is no chain for it: the log and the metrics are where failures of unknown clients are seen.
      this.logger.log(`an unknown client failed to authenticate: ${isUuid(clientId) ? clientId : 'no UUID'}`);
      throw this.refusal(method, 'unknown_client');
    }
    this.failures.refuseWhileWaiting(source, known.waitsUntil);
    const proven =
      known.agentStatus === 'decommissioned'
        ? 'agent_decommissioned'
        : assertion === null
          ? 'malformed_assertion'
          : await (issuer === null ? this.byKey(assertion, candidates) : this.byPartner(assertion, candidates));
    if (typeof proven === 'string') {
      const audited = this.auditFailure(known, method, proven, origin);
      // That a partner is down is no failure of the client's.
      await (proven === 'keys_unavailable' ? audited : this.failures.record(source, true, audited));
      throw this.refusal(method, proven);
    }
    const { organizationId, agentId, credential } = proven;
    this.lastUse.note({ organizationId, agentId, credentialId: credential.credentialId }, credential.lastUsedAt);
    return { ...proven, credentialId: credential.credentialId };
  }

  /** Ends the lookups once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.lookup.drain();
  }

  /** `private_key_jwt`: RFC 7523 §3 with `iss` and `sub` both the agent, and a `jti` that is used once. */
  private async byKey(
    assertion: JwtAssertion,
    candidates: readonly AssertionCandidate[],
  ): Promise<Proven | FailureCause> {
    const { issuer, subject, audiences, expiresAt, id } = assertion;
    const nowSeconds = this.clock.nowSeconds();
    if (issuer !== subject || subject.toLowerCase() !== candidates[0]?.agentId) return 'client_id_mismatch';
    if (!audiences.every((audience) => this.ownAudiences.has(audience))) return 'wrong_audience';
    const untimely = timeFault(assertion, nowSeconds);
    if (untimely !== null) return untimely;
    if (expiresAt > nowSeconds + MAX_LIFETIME_SECONDS) return 'expires_too_late';
    if (id === null) return 'jti_missing';
    const signer = await this.signerOf(assertion, candidates);
    if (typeof signer === 'string') return signer;
    if (!isUsable(signer.credential, this.clock.now())) return 'credential_not_usable';
    const isFresh = await this.used.use(signer.organizationId, signer.agentId, assertion);
    return isFresh ? signer : 'assertion_replayed';
  }

  /** The candidate whose key signed an assertion: the one with its `kid`, else any that has no `kid` of its own. */
  private async signerOf(
    { jws }: JwtAssertion,
    candidates: readonly AssertionCandidate[],
  ): Promise<Proven | FailureCause> {
    const keys = candidates.flatMap(({ credential, ...state }) => {
      const key = credential?.publicJwk ? this.remembered.of(credential.publicJwk) : null;
      return credential !== null && key !== null && fits(jws, key) ? [{ proven: { ...state, credential }, key }] : [];
    });
    const named = keys.filter(({ key, proven: { credential } }) =>
      [key.kid, key.thumbprint, credential.credentialId].includes(jws.kid),
    );
    const eligible = jws.kid === null ? keys : named.length > 0 ? named : keys.filter(({ key }) => key.kid === null);
    if (eligible.length === 0) return 'unknown_key';
    for (const { key, proven } of eligible) if (await isSignedBy(jws, key)) return proven;
    return 'wrong_signature';
  }

  /** A partner's assertion: subject and claims of an identity first, then whether the partner signed it. */
  private async byPartner(
    assertion: JwtAssertion,
    candidates: readonly AssertionCandidate[],
  ): Promise<Proven | FailureCause> {
    const identities = candidates.flatMap(({ credential, ...state }) =>
      credential?.identity ? [{ ...state, credential, identity: credential.identity }] : [],
    );
    const partner = identities[0]?.identity.partner;
    if (partner === undefined) return 'unknown_issuer';
    if (!partner.isActive) return 'partner_disabled';
    const ofSubject = identities.filter(({ identity }) => matchesSubject(identity.subject, assertion.subject));
    if (ofSubject.length === 0) return 'subject_mismatch';
    const ofClaims = ofSubject.filter(({ identity }) => matchesClaims(identity.claims, assertion.jws.claims));
    if (ofClaims.length === 0) return 'claims_mismatch';
    const now = this.clock.now();
    const proven = ofClaims.find(({ credential }) => isUsable(credential, now));
    if (proven === undefined) return 'credential_not_usable';
    // For a suspended agent nothing is fetched; the keys that are known will do.
    const mayFetch = isActive(proven);
    const fault = await this.assertions.fault(partner, assertion, mayFetch);
    if (fault !== null || !partner.singleUse) return fault ?? proven;
    const isFresh = await this.used.use(proven.organizationId, partner.partnerId, assertion);
    return isFresh ? proven : 'assertion_replayed';
  }

  private async auditFailure(
    { organizationId, agentId }: AssertionCandidate,
    method: ClientAuthenticationMethod,
    cause: FailureCause,
    origin: RequestOrigin,
  ): Promise<void> {
    const event: NewAuditEvent = {
      organizationId,
      action: 'token.refused',
      outcome: 'failure',
      actor: null,
      target: { type: 'agent', id: agentId },
      origin,
      details: { reason: 'invalid_client', cause, method },
    };
    await this.refusals.record(event, `invalid_client ${cause}`);
  }

  private refusal(method: ClientAuthenticationMethod, cause: FailureCause): OAuthError {
    this.metrics.clientAuthenticationFailed(method);
    return oauthErrors.invalidClient.withPrivateDetail(cause);
  }
}

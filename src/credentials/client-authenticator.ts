import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { RefusalsService } from '../audit/refusals.service.js';
import { Config } from '../platform/config/config.js';
import { Backlog } from '../platform/database/backlog.js';
import { LookupCoalescer } from '../platform/database/lookup-coalescer.js';
import { Metrics, type ClientAuthenticationMethod } from '../platform/http/metrics.js';
import { Clock } from '../platform/kernel/clock.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import type { Client } from '../platform/kernel/client.js';
import { oauthErrors, type OAuthError } from '../platform/kernel/oauth-error.js';
import type { RequestOrigin } from '../platform/kernel/principal.js';
import { isUuid } from '../platform/kernel/uuid.js';
import { isUsable } from './credential.entity.js';
import { CredentialsRepository, type ClientCandidate, type ClientKey } from './credentials.repository.js';
import { FailedAuthentications } from './failed-authentications.js';
import { LastUse } from './last-use.js';
import { prefixOf } from './secret-format.js';
import { SecretHasher } from './secret-hasher.js';

/** A client's try to authenticate itself with a secret. */
export interface SecretAttempt {
  readonly clientId: string;
  readonly secret: string;
  readonly method: Extract<ClientAuthenticationMethod, 'client_secret_basic' | 'client_secret_post'>;
}

/** Why a try failed: for the audit log and the service's own log, never for the caller. */
type FailureCause = 'unknown_client' | 'secret_mismatch' | 'credential_not_usable' | 'agent_decommissioned';

/** Clients that may wait for the next lookup. */
const LOOKUP_LIMITS = { maxQueue: 5000, maxBatch: 200 };

/** Checks client secrets. Every check reads the shared state; those that come together share one query. */
@Injectable()
export class ClientAuthenticator implements OnApplicationShutdown {
  private readonly logger = new Logger(ClientAuthenticator.name);
  private readonly lookup: LookupCoalescer<ClientKey, readonly ClientCandidate[]>;

  constructor(
    repository: CredentialsRepository,
    private readonly hasher: SecretHasher,
    private readonly lastUse: LastUse,
    private readonly failures: FailedAuthentications,
    private readonly refusals: RefusalsService,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    backlog: Backlog,
    config: Config,
  ) {
    this.lookup = new LookupCoalescer(
      'clients',
      LOOKUP_LIMITS,
      (keys) => repository.readClients(keys, this.clock.now(), config.abuse.failures),
      (size, seconds) => metrics.flushed('clients', size, seconds),
      backlog.gathering(),
      // No network has a space in its name, and every id has the same length.
      ({ agentId, network, prefix }) => `${agentId}${network} ${prefix}`,
    );
    metrics.observeQueue('clients', () => this.lookup.depth);
  }

  /**
   * Authenticates a client by its secret. A suspended agent authenticates: whether it gets anything is decided later.
   *
   * @returns the client with the state that was read
   * @throws OAuthError `invalid_client`, the same for every cause; the cause is audited where the agent is known.
   *   `temporarily_unavailable` (429) after too many failures: then nothing is compared
   */
  async authenticate(attempt: SecretAttempt, origin: RequestOrigin): Promise<Client> {
    const { clientId, secret } = attempt;
    const source = this.failures.sourceOf(clientId, origin);
    this.failures.refuseWhileWaiting(source);
    const digest = this.hasher.digest(secret);
    const candidates = isUuid(clientId)
      ? await this.lookup.read({ agentId: source.clientId, prefix: prefixOf(secret), network: source.network })
      : [];
    const [known] = candidates;
    if (known === undefined) {
      await this.failures.record(source, false, Promise.resolve());
      // There is no chain for it: the log and the metrics are where failures of unknown clients are seen.
      this.logger.log(`an unknown client failed to authenticate: ${isUuid(clientId) ? clientId : 'no UUID'}`);
      throw this.refusal(attempt, 'unknown_client');
    }
    this.failures.refuseWhileWaiting(source, known.waitsUntil);
    const match = candidates.find(
      ({ credential }) => credential !== null && this.hasher.equal(credential.secretHash, digest),
    );
    const cause = this.failureCause(match);
    if (match?.credential && cause === null) {
      const { organizationId, agentId, credential } = match;
      this.lastUse.note({ organizationId, agentId, credentialId: credential.credentialId }, credential.lastUsedAt);
      return { ...match, credentialId: credential.credentialId };
    }
    const audited = this.auditFailure(attempt, origin, known, match, cause ?? 'secret_mismatch');
    await this.failures.record(source, true, audited);
    throw this.refusal(attempt, cause ?? 'secret_mismatch');
  }

  /** Ends the lookups once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.lookup.drain();
  }

  private failureCause(match: ClientCandidate | undefined): FailureCause | null {
    if (match === undefined || match.credential === null) return 'secret_mismatch';
    if (match.agentStatus === 'decommissioned') return 'agent_decommissioned';
    return isUsable(match.credential, this.clock.now()) ? null : 'credential_not_usable';
  }

  private async auditFailure(
    attempt: SecretAttempt,
    origin: RequestOrigin,
    known: ClientCandidate,
    match: ClientCandidate | undefined,
    cause: FailureCause,
  ): Promise<void> {
    const credential = match?.credential;
    const event: NewAuditEvent = {
      organizationId: known.organizationId,
      action: 'token.refused',
      outcome: 'failure',
      actor: null,
      target: { type: 'agent', id: known.agentId },
      origin,
      details: {
        reason: 'invalid_client',
        cause,
        method: attempt.method,
        ...(credential ? { credentialId: credential.credentialId } : {}),
      },
    };
    await this.refusals.record(event, `invalid_client ${cause}`);
  }

  private refusal(attempt: SecretAttempt, cause: FailureCause): OAuthError {
    this.metrics.clientAuthenticationFailed(attempt.method);
    return oauthErrors.invalidClient.withPrivateDetail(cause);
  }
}

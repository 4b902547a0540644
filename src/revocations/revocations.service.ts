import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { AuditService, type ChainPlace } from '../audit/audit.service.js';
import { RevocationReceiptsService, type RevokedCounts } from '../evidence/revocation-receipts.service.js';
import { Config } from '../platform/config/config.js';
import { lockOrganizationFor } from '../platform/database/organization-lock.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { isUnavailability } from '../platform/http/unavailability.js';
import { WorkLimit } from '../platform/http/work-limit.js';
import { Clock } from '../platform/kernel/clock.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { Problem, problems } from '../platform/kernel/problem.js';
import type { RevocationOutcomeView } from './dto/revocation-outcome.view.js';
import type { RevocationBody, RevocationSelector } from './dto/revocation.body.js';
import { LivingTokensRepository } from './living-tokens.repository.js';
import { eventOf, RevocationSubjects, type Subject } from './revocation-subjects.js';

/** How long a count waits for those before it. */
const PATIENCE_MS = 2000;

const NOT_COUNTED: RevokedCounts = { agents: null, credentials: null, tokens: null };

/** Revokes tokens in bulk: what a credential, a partner, an agent or an organization has earned. */
@Injectable()
export class RevocationsService implements BeforeApplicationShutdown {
  private readonly logger = new Logger(RevocationsService.name);
  /** A count may read a million rows: two at one time on this replica, one of an organization; most take milliseconds. */
  private readonly counts = new WorkLimit(1, 2, PATIENCE_MS);

  constructor(
    private readonly subjects: RevocationSubjects,
    private readonly tokens: LivingTokensRepository,
    private readonly audit: AuditService,
    private readonly receipts: RevocationReceiptsService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /**
   * Revokes the tokens that a selector names, in one write however many they are, or tells only what would die. A token
   * that is issued after the answer lives.
   *
   * @returns how many died, the instant from which no replica accepts them, and a signed receipt
   * @throws Problem `validation_failed`, `not_found`, `insufficient_scope`; of a dry run that cannot be counted in time
   *   `rate_limited`, `unavailable`
   */
  async revoke(caller: Principal, origin: RequestOrigin, body: RevocationBody): Promise<RevocationOutcomeView> {
    const issuedBefore = this.instantOf(body.selector);
    const subject = await this.subjects.find(caller, body.selector);
    if (body.dryRun === true) return this.preview(caller, subject, issuedBefore);
    const place = await this.end(caller, origin, subject, issuedBefore);
    // Committed: every check that begins from now on reads it.
    const effective = this.clock.now();
    const effectiveAt = effective.toISOString();
    // Counted behind the lock: what the chain held before the event, whatever is issued or expires meanwhile.
    const counts = await this.countIfPossible(subject, issuedBefore, place.sequence, effective);
    const receipt = await this.receipts.sign({
      iss: this.config.tokens.issuer,
      organizationId: subject.organizationId,
      selector: selectorOf(body.selector, issuedBefore),
      actor: caller.agentId,
      ...place,
      ...counts,
      effectiveAt,
      issuedAt: this.clock.now().toISOString(),
    });
    return { dryRun: false, ...counts, effectiveAt, eventId: place.eventId, receipt };
  }

  /** What is revoked is answered before the connection is cut: uncounted where others are counted. */
  beforeApplicationShutdown(): void {
    this.counts.stopWaiting();
  }

  private async preview(
    caller: Principal,
    subject: Subject,
    issuedBefore: Date | null,
  ): Promise<RevocationOutcomeView> {
    await this.subjects.requireScopes(this.unitOfWork.reader, caller, subject);
    const counts = await this.count(subject, issuedBefore, null, this.clock.now());
    return { dryRun: true, ...counts, effectiveAt: null, eventId: null, receipt: null };
  }

  private end(
    caller: Principal,
    origin: RequestOrigin,
    subject: Subject,
    issuedBefore: Date | null,
  ): Promise<ChainPlace> {
    const { organizationId } = subject;
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId);
      await this.subjects.requireScopes(transaction, caller, subject);
      await this.subjects.end(transaction, subject, issuedBefore);
      const { action, target, details } = eventOf(subject);
      return this.audit.append(transaction, {
        organizationId,
        action,
        outcome: 'success',
        actor: caller.agentId,
        target,
        origin,
        details: { ...details, issuedBefore: issuedBefore?.toISOString() ?? null },
      });
    });
  }

  /** What is revoked is revoked, also where it cannot be counted in time. */
  private async countIfPossible(
    subject: Subject,
    issuedBefore: Date | null,
    before: number,
    now: Date,
  ): Promise<RevokedCounts> {
    try {
      const counts = await this.count(subject, issuedBefore, before, now);
      return (await this.subjects.isCountable(this.unitOfWork.reader, subject)) ? counts : NOT_COUNTED;
    } catch (error) {
      if (!(error instanceof Problem) && !isUnavailability(error)) throw error;
      this.logger.warn(`revoked tokens were not counted: ${String(error)}`);
      return NOT_COUNTED;
    }
  }

  private count(subject: Subject, issuedBefore: Date | null, before: number | null, now: Date): Promise<RevokedCounts> {
    return this.counts.run(subject.organizationId, () => this.tokens.count(subject, issuedBefore, before, now));
  }

  private instantOf({ issuedBefore }: RevocationSelector): Date | null {
    if (issuedBefore === undefined) return null;
    const instant = new Date(issuedBefore);
    if (instant > this.clock.now()) {
      const detail = 'must not be in the future';
      throw problems.validationFailed.withErrors({ pointer: '/selector/issuedBefore', detail });
    }
    return instant;
  }
}

/** The selector as the receipt states it: what was given, in one way of writing. */
function selectorOf(selector: RevocationSelector, issuedBefore: Date | null): Record<string, string> {
  const given = Object.entries(selector).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return {
    ...Object.fromEntries(given.map(([name, id]) => [name, id.toLowerCase()])),
    ...(issuedBefore === null ? {} : { issuedBefore: issuedBefore.toISOString() }),
  };
}

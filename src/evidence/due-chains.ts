import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { Clock } from '../platform/kernel/clock.js';
import { DueChainsRepository, type DueOrganization, type WaitingOrganization } from './due-chains.repository.js';

/** Events that may wait for a checkpoint. */
const MAX_EVENTS = 1000;
/** So many waiting events are due at any pace: what arrives until one is signed stays below the most. */
const DUE_EVENTS = 700;
/** At a fast pace they are due as many earlier as arrive in this time, which a checkpoint takes on a busy machine. */
const LEAD_MS = 150;
/** Events that this replica writes to a chain before it looks at it: some replicas may write to one at once. */
const LOOK_EVERY = 50;
/** How long an event waits before a checkpoint is signed: with one pass over all ledgers it is there within 60 s. */
const DUE_AGE_MS = 50_000;
/** Ledgers that one page has at least. */
const MIN_PAGE = 5000;
/** Pages that a pass over all ledgers takes at most, however many there are: four seconds at five a second. */
const MAX_PAGES = 20;
/** Turns that a pass takes at least: few ledgers are looked at once a second, not five times. */
const MIN_TURNS = 5;
/** A chain that grew slowly may grow fast: it is looked at again after this time at the latest. */
const MAX_PAUSE_MS = 200;
/** Chains whose pace is remembered. */
const MAX_PACES = 1000;
/** Chains that may wait for a look; the pass finds those beyond. */
const MAX_UNSEEN = 10_000;

const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';
const BEHIND_ALL = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** How far a chain had come when it was last looked at, and when it is worth another look. */
interface Pace {
  readonly sequence: number;
  readonly atMs: number;
  readonly againAtMs: number;
}

/**
 * Finds the chains that want a checkpoint, in two ways. Chains that this replica writes to are looked at as often as it
 * writes: that holds the bound by events, whatever the number of organizations. A pass over all ledgers, page by page,
 * holds the bound by time, and finds what a replica that was killed has left behind. Neither locks anything.
 */
@Injectable()
export class DueChains {
  /** Events written here since a chain was last looked at. */
  private readonly unseen = new Map<string, number>();
  private readonly paces = new Map<string, Pace>();
  private after = BEFORE_ALL;
  private page = MIN_PAGE;
  private pages = 0;
  /** Turns that are left out until the next pass begins. */
  private spare = 0;

  constructor(
    private readonly repository: DueChainsRepository,
    private readonly audit: AuditService,
    private readonly clock: Clock,
  ) {}

  /**
   * Of the chains that this replica writes to, those with so many waiting events that a checkpoint is due.
   *
   * @param most chains to look at; the others are looked at in a later call, in the order in which they came
   */
  async busy(most: number): Promise<DueOrganization[]> {
    const nowMs = performance.now();
    for (const [organizationId, events] of this.audit.takeWritten()) {
      const before = this.unseen.get(organizationId) ?? 0;
      if (before > 0 || this.unseen.size < MAX_UNSEEN) this.unseen.set(organizationId, before + events);
    }
    const busy: string[] = [];
    for (const [organizationId, events] of this.unseen) {
      if (busy.length >= most) break;
      const againAtMs = this.paces.get(organizationId)?.againAtMs ?? 0;
      if (events >= LOOK_EVERY && nowMs >= againAtMs) busy.push(organizationId);
    }
    if (busy.length === 0) return [];
    for (const organizationId of busy) this.unseen.delete(organizationId);
    const found = await this.repository.waiting(busy);
    return found.filter((chain) => this.isDue(chain, nowMs));
  }

  /**
   * Due chains of the next page of all ledgers; none where a pass has ended before its time.
   *
   * @param most chains to give, 1 or more; where the page has more, the next one begins behind the last that is given
   */
  async nextPage(most: number): Promise<DueOrganization[]> {
    if (this.spare > 0) {
      this.spare -= 1;
      return [];
    }
    const end = await this.repository.pageEnd(this.after, this.page);
    const before = new Date(this.clock.nowMs() - DUE_AGE_MS);
    const due = await this.repository.due(this.after, end ?? BEHIND_ALL, DUE_EVENTS, before);
    if (due.length > most) {
      const given = due.sort((one, other) => (one.organizationId < other.organizationId ? -1 : 1)).slice(0, most);
      this.after = given.at(-1)?.organizationId ?? this.after;
      return given;
    }
    this.pages += 1;
    this.after = end ?? BEFORE_ALL;
    if (end === null) {
      this.page = Math.max(MIN_PAGE, Math.ceil((this.pages * this.page) / MAX_PAGES));
      this.spare = Math.max(0, MIN_TURNS - this.pages);
      this.pages = 0;
      // All have been looked at; those that are busy still wait for a look of their own.
      for (const [organizationId, events] of this.unseen) if (events < LOOK_EVERY) this.unseen.delete(organizationId);
    }
    return due;
  }

  /** Whether a chain would have too many waiting events by the time that a checkpoint over it is made, at its pace. */
  private isDue({ organizationId, sequence, checkpointSequence }: WaitingOrganization, nowMs: number): boolean {
    const before = this.paces.get(organizationId);
    const eventsAMs = before === undefined ? 0 : (sequence - before.sequence) / Math.max(1, nowMs - before.atMs);
    const missing = Math.min(DUE_EVENTS, MAX_EVENTS - eventsAMs * LEAD_MS) - (sequence - checkpointSequence);
    // Half of the way, since the pace may change.
    const againInMs = eventsAMs === 0 ? 0 : Math.max(0, missing / eventsAMs / 2);
    if (this.paces.size >= MAX_PACES) this.paces.clear();
    this.paces.set(organizationId, { sequence, atMs: nowMs, againAtMs: nowMs + Math.min(againInMs, MAX_PAUSE_MS) });
    return missing <= 0;
  }
}

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { pageOf, type Page } from '../platform/http/page.js';
import type { NewAuditEvent } from '../platform/kernel/audit-event.js';
import { genesisHash, renderEvent, type ChainedEvent, type RenderedEvent } from '../platform/kernel/canonical-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor } from '../platform/kernel/cursor.js';
import { isOperator, type Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUuid, uuidv7 } from '../platform/kernel/uuid.js';
import type { AuditFilter } from './audit-search.js';
import { AuditRepository, type ChainHead, type ChainPlace } from './audit.repository.js';

export type { ChainedEvent } from '../platform/kernel/canonical-event.js';
export type { ChainHead, ChainPlace } from './audit.repository.js';

/** Chains that are remembered as written to until somebody asks. */
const MAX_WRITTEN = 10_000;

/** How much of a chain one statement looks through. */
const FOLLOW_WINDOW = 10_000;

/** The hash-chained log of what happened. Knows none of its readers. */
@Injectable()
export class AuditService {
  private written = new Map<string, number>();

  constructor(
    private readonly repository: AuditRepository,
    private readonly clock: Clock,
  ) {}

  /**
   * Appends an event in the transaction of the act that it tells of. Takes the organization's lock.
   *
   * @param transaction the act's own
   * @returns the event's place, final when the transaction commits
   */
  async append(transaction: EntityManager, event: NewAuditEvent): Promise<ChainPlace> {
    const [place] = await this.repository.append(transaction, [this.render(event)]);
    return place as ChainPlace;
  }

  /** Appends events of several organizations in one transaction, in the order given within each. */
  async appendAll(transaction: EntityManager, events: readonly NewAuditEvent[]): Promise<void> {
    await this.repository.append(
      transaction,
      events.map((event) => this.render(event)),
    );
  }

  /** An id for an event, in the order of time: ids that are written together stand together in the index. */
  newEventId(at = this.clock.now()): string {
    return uuidv7(at.getTime());
  }

  /**
   * Renders an event for the chain, for writers that append in SQL of their own.
   *
   * @param eventId its id; made of its instant unless given
   * @param at its instant; now unless given
   */
  render(event: NewAuditEvent, eventId?: string, at = this.clock.now()): RenderedEvent {
    const before = this.written.get(event.organizationId) ?? 0;
    if (before > 0 || this.written.size < MAX_WRITTEN) this.written.set(event.organizationId, before + 1);
    return renderEvent(event, eventId ?? this.newEventId(at), at.toISOString());
  }

  /**
   * Which chains this replica has rendered events for since the last call, and how many: a hint where to look, for one
   * reader that follows the chains. It holds ten thousand chains.
   */
  takeWritten(): ReadonlyMap<string, number> {
    const { written } = this;
    if (written.size > 0) this.written = new Map();
    return written;
  }

  /** The hash that the first event of an organization's chain points to. */
  genesis(organizationId: string): Buffer {
    return Buffer.from(genesisHash(organizationId), 'hex');
  }

  /**
   * One page of an organization's log, newest first.
   *
   * @throws Problem `validation_failed` for a cursor of another list
   */
  async list(
    organizationId: string,
    filter: AuditFilter,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<ChainedEvent>> {
    const list = `audit:${organizationId}`;
    const [before] = cursor === undefined ? [] : decodeCursor(list, cursor, [/^\d{1,18}$/]);
    const found = await this.repository.search(organizationId, filter, before, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [String(last.sequence)]));
  }

  /**
   * One event of the caller's organization; the operator reads any.
   *
   * @throws Problem `not_found`
   */
  async read(principal: Principal, eventId: string): Promise<ChainedEvent> {
    if (!isUuid(eventId)) throw problems.notFound;
    const organizationId = isOperator(principal)
      ? await this.repository.organizationOf(eventId)
      : principal.organizationId;
    const event = organizationId === null ? null : await this.repository.find(organizationId, eventId);
    if (event === null) throw problems.notFound;
    return event;
  }

  /**
   * The head of an organization's chain, as its ledger names it.
   *
   * @throws Problem `not_found` where there is no such organization
   */
  async head(organizationId: string, reader?: EntityManager): Promise<ChainHead> {
    const head = await this.repository.head(organizationId, reader);
    if (head === null) throw problems.notFound;
    return head;
  }

  /** Up to `limit` events from `sequence` on, oldest first. */
  readForward(organizationId: string, sequence: number, limit: number): Promise<ChainedEvent[]> {
    return this.repository.readForward(organizationId, sequence, limit);
  }

  /**
   * The sequence of an organization's newest event.
   *
   * @param reader the transaction that holds the organization's lock, where the place must not move on
   */
  async headSequence(organizationId: string, reader?: EntityManager): Promise<number> {
    return (await this.repository.head(organizationId, reader))?.sequence ?? 0;
  }

  /**
   * The next events of a chain for a reader that follows it by a cursor of its own.
   *
   * @param after the reader's place: the last sequence that it is done with
   * @param patterns names of actions, families as `agent.*`, or `*`; `token.issued` counts only where it is named
   * @param limit the most events
   * @returns the events that match, oldest first, and the place up to which the chain was read, which is `after` at the
   *   chain's end
   */
  async follow(
    organizationId: string,
    after: number,
    patterns: readonly string[],
    limit: number,
  ): Promise<{ events: ChainedEvent[]; upTo: number }> {
    // The head first: what it names is committed.
    const head = await this.headSequence(organizationId);
    const last = Math.min(head, after + FOLLOW_WINDOW);
    if (last <= after) return { events: [], upTo: after };
    const events = await this.repository.readMatching(organizationId, after, last, patterns, limit);
    return { events, upTo: events.length < limit ? last : (events.at(-1)?.sequence ?? last) };
  }

  /**
   * One event in the words that a reader has it in, for a reader that knows its place.
   *
   * @returns null where it has passed its retention
   */
  async at(organizationId: string, sequence: number): Promise<ChainedEvent | null> {
    const [event] = await this.repository.readForward(organizationId, sequence, 1);
    return event?.sequence === sequence ? event : null;
  }
}

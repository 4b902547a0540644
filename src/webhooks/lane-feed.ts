import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { AuditService, type ChainedEvent } from '../audit/audit.service.js';
import { CheckpointsService, type CheckpointView } from '../evidence/checkpoints.service.js';
import { deliveryIdOf } from './delivery-id.js';
import { CHECKPOINT_EVENT, namesCheckpoints } from './event-patterns.js';
import { renderPayload } from './payload.js';

/** Checkpoints that are read at once. */
const CHECKPOINTS = 50;
/** Stretches of chains that are kept for the other subscriptions with the same patterns, and for how long. */
const KEPT_STRETCHES = 16;
const KEPT_FOR_MS = 10_000;

/** How far a lane has come: what is delivered, failed or does not concern it. */
export interface LanePlace {
  /** In the chain of events. */
  readonly sequence: number;
  /** Among the checkpoints, by what they cover; null where it follows none. */
  readonly checkpoint: number | null;
}

/** What is to be sent in its turn: an event of the chain, or a checkpoint over it. Never changed. */
export interface ChainMessage {
  /** The `webhook-id`: the same at every attempt, replica and subscription. */
  readonly messageId: string;
  readonly deliveryId: string;
  /** The event's name. */
  readonly type: string;
  /** When it happened: ISO 8601, UTC. */
  readonly timestamp: string;
  /** What is sent, rendered when it is first asked for, once for all subscriptions. */
  readonly body: () => string;
  /** Its place in the chain, or the last event that it covers. */
  readonly sequence: number;
  readonly isCheckpoint: boolean;
}

/** What comes after a place. */
export interface Stretch {
  readonly messages: readonly ChainMessage[];
  /** The place in the chain up to which it was read. */
  readonly upTo: number;
}

/** What lanes send, read in order from the chain and the checkpoints over it. */
@Injectable()
export class LaneFeed {
  private readonly kept = new LRUCache<string, Stretch>({ max: KEPT_STRETCHES, ttl: KEPT_FOR_MS });

  constructor(
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
  ) {}

  /**
   * What comes after a place: events in the order of the chain, each checkpoint behind the last event that it covers.
   *
   * @param patterns what the subscription names
   * @param limit the most events
   */
  async after(organizationId: string, place: LanePlace, patterns: readonly string[], limit: number): Promise<Stretch> {
    // The checkpoints first: what they cover was committed before them, so the events read afterwards hold it.
    const signed =
      place.checkpoint === null || !namesCheckpoints(patterns)
        ? []
        : await this.checkpoints.issuedAfter(organizationId, place.checkpoint, CHECKPOINTS);
    const { messages, upTo } = await this.events(organizationId, place.sequence, patterns, limit);
    const covered = signed.filter(({ sequence }) => sequence <= upTo).map(ofCheckpoint);
    if (covered.length === 0) return { messages, upTo };
    // Sorting is stable: a checkpoint stays behind the event that it covers last.
    return { messages: [...messages, ...covered].sort((a, b) => a.sequence - b.sequence), upTo };
  }

  /**
   * Events of the chain. A full stretch never changes, so under load the subscriptions of an organization that name the
   * same share it: it is read and rendered once.
   */
  private async events(
    organizationId: string,
    after: number,
    patterns: readonly string[],
    limit: number,
  ): Promise<Stretch> {
    const key = [organizationId, after, limit, ...patterns].join(' ');
    const known = this.kept.get(key);
    if (known !== undefined) return known;
    const { events, upTo } = await this.audit.follow(organizationId, after, patterns, limit);
    const stretch = { messages: events.map(ofEvent), upTo };
    if (events.length === limit) this.kept.set(key, stretch);
    return stretch;
  }
}

/** Renders a body when it is first asked for. */
function once(render: () => string): () => string {
  let body: string | undefined;
  return () => (body ??= render());
}

function ofEvent(event: ChainedEvent): ChainMessage {
  const { eventId, action, occurredAt, sequence } = event;
  return {
    messageId: eventId,
    deliveryId: deliveryIdOf(Date.parse(occurredAt), sequence, eventId),
    type: action,
    timestamp: occurredAt,
    body: once(() => renderPayload(action, occurredAt, event)),
    sequence,
    isCheckpoint: false,
  };
}

/** A checkpoint has no id of its own: it is told by what it says. */
function ofCheckpoint(view: CheckpointView): ChainMessage {
  const { checkpoint, issuedAt, sequence } = view;
  const random = createHash('sha256').update(checkpoint, 'ascii').digest();
  const messageId = uuidv7({ msecs: Date.parse(issuedAt), seq: sequence % 2 ** 32, random });
  return {
    messageId,
    deliveryId: messageId,
    type: CHECKPOINT_EVENT,
    timestamp: issuedAt,
    body: once(() => renderPayload(CHECKPOINT_EVENT, issuedAt, view)),
    sequence,
    isCheckpoint: true,
  };
}

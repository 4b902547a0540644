import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { AuditService, type ChainedEvent } from '../audit/audit.service.js';
import { CheckpointsService, type CheckpointView } from '../evidence/checkpoints.service.js';
import { deliveryIdOf } from './delivery-id.js';
import { CHECKPOINT_EVENT, namesCheckpoints } from './event-patterns.js';

/** Checkpoints that are read at once. */
const CHECKPOINTS = 50;

/** How far a lane has come: what is delivered, failed or does not concern it. */
export interface LanePlace {
  /** In the chain of events. */
  readonly sequence: number;
  /** Among the checkpoints, by what they cover; null where it follows none. */
  readonly checkpoint: number | null;
}

/** What is to be sent in its turn: an event of the chain, or a checkpoint over it. */
export interface ChainMessage {
  /** The `webhook-id`: the same at every attempt, replica and subscription. */
  readonly messageId: string;
  readonly deliveryId: string;
  /** The event's name. */
  readonly type: string;
  /** When it happened: ISO 8601, UTC. */
  readonly timestamp: string;
  /** The event, or the checkpoint, as callers see it. */
  readonly data: object;
  /** Its place in the chain, or the last event that it covers. */
  readonly sequence: number;
  readonly isCheckpoint: boolean;
}

/** What lanes send, read in order from the chain and the checkpoints over it. */
@Injectable()
export class LaneFeed {
  constructor(
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
  ) {}

  /**
   * What comes after a place: events in the order of the chain, each checkpoint behind the last event that it covers.
   *
   * @param patterns what the subscription names
   * @param limit the most events
   * @returns the messages, and the place in the chain up to which it was read
   */
  async after(
    organizationId: string,
    place: LanePlace,
    patterns: readonly string[],
    limit: number,
  ): Promise<{ messages: ChainMessage[]; upTo: number }> {
    // The checkpoints first: what they cover was committed before them, so the events read afterwards hold it.
    const signed =
      place.checkpoint === null || !namesCheckpoints(patterns)
        ? []
        : await this.checkpoints.issuedAfter(organizationId, place.checkpoint, CHECKPOINTS);
    const { events, upTo } = await this.audit.follow(organizationId, place.sequence, patterns, limit);
    const covered = signed.filter(({ sequence }) => sequence <= upTo).map(ofCheckpoint);
    const messages = events.map(ofEvent);
    if (covered.length === 0) return { messages, upTo };
    // Sorting is stable: a checkpoint stays behind the event that it covers last.
    return { messages: [...messages, ...covered].sort((a, b) => a.sequence - b.sequence), upTo };
  }
}

function ofEvent(event: ChainedEvent): ChainMessage {
  const { eventId, action, occurredAt, sequence } = event;
  return {
    messageId: eventId,
    deliveryId: deliveryIdOf(Date.parse(occurredAt), sequence, eventId),
    type: action,
    timestamp: occurredAt,
    data: event,
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
    data: view,
    sequence,
    isCheckpoint: true,
  };
}

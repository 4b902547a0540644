import { Injectable } from '@nestjs/common';
import { AuditService, type ChainedEvent } from '../audit/audit.service.js';
import { hashOf } from '../platform/kernel/canonical-event.js';
import { isUuid } from '../platform/kernel/uuid.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import { EvidenceRepository } from './evidence.repository.js';
import { ExportVerifier, isEvent } from './offline/export-verifier.js';
import { linesOfFile } from './offline/evidence-file.js';
import { VerificationService } from './verification.service.js';

/** Events compared at one time. */
const BATCH = 500;
/** What happens all the time, and is counted only. */
const COUNTED = ['token.issued', 'token.refused', 'quota.threshold'];
/** An act of the evidence that the database does not know of. */
export interface LostAct {
  readonly organizationId: string;
  readonly sequence: number;
  readonly occurredAt: string;
  readonly action: string;
  readonly actor: string | null;
  readonly targetType: string;
  readonly targetId: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** What evidence tells of history that is lost. */
export interface LostHistory {
  /** The organization that the evidence is about; null where it names none. */
  readonly organizationId: string | null;
  /** Events of the evidence that the database does not have; for a checkpoint, at least so many. */
  readonly events: number;
  /** The first of them; null: nothing is lost. */
  readonly firstSequence: number | null;
  /** Whether the evidence is whole and signed with one of our audit keys. */
  readonly proven: boolean;
  /** Whether the database has no chain of that organization at all: it was made after the backup. */
  readonly isOrganizationLost: boolean;
}

const NOTHING_TOLD: LostHistory = {
  organizationId: null,
  events: 0,
  firstSequence: null,
  proven: false,
  isOrganizationLost: false,
};

/** Compares evidence that was kept with the chain, after a backup was restored that is older than the evidence. */
@Injectable()
export class LostHistoryService {
  constructor(
    private readonly repository: EvidenceRepository,
    private readonly audit: AuditService,
    private readonly signer: CheckpointSigner,
    private readonly verification: VerificationService,
  ) {}

  /**
   * @param file an export, copies of webhook messages (a line each), or a checkpoint
   * @param tell given each lost act in the order of the file
   */
  async read(file: string, tell: (act: LostAct) => void): Promise<LostHistory> {
    const checkpoint = await this.checkpointOf(file);
    if (checkpoint !== null) return this.compareCheckpoint(checkpoint);
    const verdict = await new ExportVerifier((kid) => this.signer.findKey(kid), null).verify(await linesOfFile(file));
    let history: LostHistory = { ...NOTHING_TOLD, proven: verdict.valid };
    for await (const events of batchesOf(file)) {
      for (const event of await this.unknown(events)) {
        history = {
          ...history,
          organizationId: event.organizationId,
          events: history.events + 1,
          firstSequence: Math.min(history.firstSequence ?? event.sequence, event.sequence),
        };
        if (!COUNTED.includes(event.action)) tell(actOf(event));
      }
      history = { ...history, organizationId: history.organizationId ?? events[0]?.organizationId ?? null };
    }
    const { organizationId } = history;
    return { ...history, isOrganizationLost: organizationId !== null && !(await this.knows(organizationId)) };
  }

  private async knows(organizationId: string): Promise<boolean> {
    return (await this.audit.headSequence(organizationId)) > 0;
  }

  /** The events of a batch, of one organization, that the chain does not have as they are. */
  private async unknown(events: readonly ChainedEvent[]): Promise<ChainedEvent[]> {
    const [first] = events;
    if (first === undefined) return [];
    const sequences = events.map(({ sequence }) => sequence);
    const from = Math.min(...sequences);
    const removed = (await this.repository.tree(first.organizationId))?.removedThrough ?? 0;
    const known = new Map<number, string>();
    const span = Math.max(...sequences) - from + 1;
    // Copies of webhook messages may lie far apart.
    if (span <= 2 * BATCH) {
      for (const event of await this.audit.readForward(first.organizationId, from, span))
        known.set(event.sequence, event.hash);
    } else {
      for (const sequence of sequences) {
        const event = await this.audit.at(first.organizationId, sequence);
        if (event !== null) known.set(sequence, event.hash);
      }
    }
    return events.filter(({ sequence, hash }) => sequence > removed && known.get(sequence) !== hash);
  }

  private async compareCheckpoint(jws: string): Promise<LostHistory> {
    const kept = await this.signer.open(jws);
    if (kept === null) return NOTHING_TOLD;
    const { organizationId, sequence } = kept;
    if (!(await this.knows(organizationId))) {
      return { organizationId, events: sequence, firstSequence: 1, proven: true, isOrganizationLost: true };
    }
    const { brokenAt } = await this.verification.verifyKept(organizationId, jws);
    const events = brokenAt === null ? 0 : Math.max(sequence - brokenAt + 1, 0);
    return { organizationId, events, firstSequence: brokenAt, proven: true, isOrganizationLost: false };
  }

  /** The checkpoint that is all that a file holds, alone or as a JSON object; null where it holds something else. */
  private async checkpointOf(file: string): Promise<string | null> {
    let found: string | null = null;
    for await (const { number, text } of await linesOfFile(file)) {
      if (number > 1 && text?.trim() !== '') return null;
      if (number === 1) found = text?.trim() ?? null;
    }
    if (found?.startsWith('{') !== true) return found;
    try {
      const { checkpoint } = JSON.parse(found) as { checkpoint?: unknown };
      return typeof checkpoint === 'string' ? checkpoint : null;
    } catch {
      // A line that was cut off is no evidence.
      return null;
    }
  }
}

/** The events of a file, some at a time, each batch of one organization. */
async function* batchesOf(file: string): AsyncGenerator<ChainedEvent[]> {
  let batch: ChainedEvent[] = [];
  for await (const { text } of await linesOfFile(file)) {
    const event = text === null ? null : eventOf(text);
    if (event === null) continue;
    if (batch.length === BATCH || (batch[0] !== undefined && batch[0].organizationId !== event.organizationId)) {
      yield batch;
      batch = [];
    }
    batch.push(event);
  }
  if (batch.length > 0) yield batch;
}

/** The event in a line of an export or in a message of a webhook; null where there is none that is right in itself. */
function eventOf(line: string): ChainedEvent | null {
  try {
    const value = JSON.parse(line) as unknown;
    const event = typeof value === 'object' && value !== null && 'data' in value ? value.data : value;
    return isEvent(event) && isOfOrganization(event) && hashOf(event) === event.hash ? event : null;
  } catch {
    return null;
  }
}

/** Whether an event names an organization in the form of ours, and has details. Anybody may have written it. */
function isOfOrganization({ organizationId, details }: { organizationId: string; details: unknown }): boolean {
  return isUuid(organizationId) && details !== null;
}

function actOf({ organizationId, sequence, occurredAt, action, actor, target, details }: ChainedEvent): LostAct {
  return {
    organizationId,
    sequence,
    occurredAt,
    action,
    actor,
    targetType: target.type,
    targetId: target.id,
    details: details as Readonly<Record<string, unknown>>,
  };
}

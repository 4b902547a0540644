import { canonicalJson, genesisHash, hashOf, type ChainedEvent } from '../../platform/kernel/canonical-event.js';
import { checkpointHash, isSequence, openCheckpoint, type CheckpointPayload, type FindKey } from '../checkpoint.js';
import { GrowingTree, leafHash } from '../merkle.js';
import type { Line } from './lines.js';

/** What may be wrong with an export. */
export const EXPORT_FAULTS = {
  line_too_long: 'The line is longer than any line of an export.',
  compression_damaged: 'The compressed file is damaged from here on, or something else stands behind its end.',
  not_json: 'The line is not JSON.',
  not_canonical: 'The line is not in canonical form (RFC 8785): a member may stand in it twice.',
  not_an_event: 'The line is neither an event nor a checkpoint.',
  truncated: 'The file ends before the checkpoint that ends an export.',
  event_foreign: 'The event is of another organization.',
  event_missing: 'An event is missing before this line.',
  event_repeated: 'The event, or a later one, stood in the file before.',
  event_altered: 'The hash of the event is not the hash of its content.',
  link_broken: 'The event does not point to the hash of the event before it.',
  checkpoint_not_authentic: 'The checkpoint was not signed with an audit key of the JWK Set given.',
  checkpoint_foreign: 'The checkpoint is about another organization.',
  checkpoint_mismatch: 'The checkpoint states another chain than the events before it.',
  checkpoint_out_of_place: 'The checkpoint does not stand behind the last event that it covers.',
  checkpoint_missing: 'The checkpoint names another one before it than the file has.',
  kept_not_authentic: 'The checkpoint given was not signed with an audit key of the JWK Set given.',
  kept_foreign: 'The checkpoint given is about another organization.',
  kept_mismatch: 'The checkpoint given states another chain than the file has.',
  kept_not_reached: 'The file does not reach the checkpoint given.',
} as const;

/** Why an export does not verify. */
export type ExportFault = keyof typeof EXPORT_FAULTS;

/** What verifying an export found. */
export interface ExportVerdict {
  readonly valid: boolean;
  /** How many events were found right. */
  readonly checked: number;
  readonly organizationId: string | null;
  readonly firstSequence: number | null;
  readonly lastSequence: number | null;
  /** The hash of the last event that was found right. */
  readonly headHash: string | null;
  /** How many checkpoints vouch for them. */
  readonly checkpoints: number;
  /** The first sequence that is missing or wrong. */
  readonly brokenAt: number | null;
  /** The line of the file at fault. */
  readonly line: number | null;
  readonly reason?: ExportFault;
}

class Fault extends Error {
  constructor(
    readonly reason: ExportFault,
    readonly sequence: number | null,
  ) {
    super(reason);
  }
}

/** Verifies one export, line by line, with nothing but the public keys. */
export class ExportVerifier {
  private organizationId: string | null = null;
  private first: number | null = null;
  private sequence: number | null = null;
  private hash: string | null = null;
  private checked = 0;
  private checkpoints = 0;
  private lastCheckpoint: string | null = null;
  private endsWithCheckpoint = false;
  /** Known where the file begins with the first event. */
  private tree: GrowingTree | null = null;
  private keptSeen = false;

  /**
   * @param findKey the audit keys that are believed
   * @param kept a checkpoint that the reader kept, where there is one
   */
  constructor(
    private readonly findKey: FindKey,
    private readonly kept: string | null,
  ) {}

  /** Reads all lines, up to the first fault. */
  async verify(lines: AsyncIterable<Line>): Promise<ExportVerdict> {
    let number: number | null = null;
    try {
      const kept = await this.openKept();
      for await (const line of lines) {
        number = line.number;
        await this.take(line, kept);
      }
      if (!this.endsWithCheckpoint) throw new Fault('truncated', this.nextSequence());
      if (kept !== null && !this.keptSeen) throw new Fault('kept_not_reached', this.nextSequence());
      return this.verdict(null, null);
    } catch (error) {
      if (error instanceof Fault) return this.verdict(error, number);
      throw error;
    }
  }

  private async openKept(): Promise<CheckpointPayload | null> {
    if (this.kept === null) return null;
    const payload = await openCheckpoint(this.kept, this.findKey);
    if (payload === null) throw new Fault('kept_not_authentic', null);
    return payload;
  }

  private async take(line: Line, kept: CheckpointPayload | null): Promise<void> {
    if (line.text === null) throw new Fault(line.fault, this.nextSequence());
    const value = parse(line.text);
    if (value === undefined) throw new Fault(line.ended ? 'not_json' : 'truncated', this.nextSequence());
    if (!isCanonical(value, line.text)) throw new Fault('not_canonical', this.nextSequence());
    if (isEvent(value)) this.takeEvent(value, kept);
    else if (isCheckpointLine(value)) await this.takeCheckpoint(value.checkpoint, kept);
    else throw new Fault('not_an_event', this.nextSequence());
  }

  private takeEvent(event: ChainedEvent, kept: CheckpointPayload | null): void {
    const expected = this.nextSequence() ?? event.sequence;
    this.beOf(event.organizationId, kept);
    if (event.organizationId !== this.organizationId) throw new Fault('event_foreign', expected);
    if (event.sequence < expected) throw new Fault('event_repeated', event.sequence);
    if (event.sequence > expected) throw new Fault('event_missing', expected);
    if (this.sequence === null && event.sequence === 1) {
      this.hash = genesisHash(event.organizationId);
      this.tree = new GrowingTree();
    }
    if (this.hash !== null && event.previousHash !== this.hash) throw new Fault('link_broken', expected);
    if (hashOf(event) !== event.hash) throw new Fault('event_altered', expected);
    this.tree?.append(leafHash(Buffer.from(event.hash, 'hex')));
    this.first ??= event.sequence;
    this.sequence = event.sequence;
    this.hash = event.hash;
    this.checked += 1;
    this.endsWithCheckpoint = false;
    if (kept?.sequence === event.sequence) {
      if (!this.agrees(kept)) throw new Fault('kept_mismatch', event.sequence);
      this.keptSeen = true;
    }
  }

  private async takeCheckpoint(jws: string, kept: CheckpointPayload | null): Promise<void> {
    const payload = await openCheckpoint(jws, this.findKey);
    if (payload === null) throw new Fault('checkpoint_not_authentic', this.nextSequence());
    this.beOf(payload.organizationId, kept);
    if (payload.organizationId !== this.organizationId) throw new Fault('checkpoint_foreign', payload.sequence);
    // Before the first event stands the checkpoint that the beginning follows.
    const { sequence } = this;
    if (sequence === null) this.hash = payload.hash;
    else if (payload.sequence > sequence) throw new Fault('event_missing', sequence + 1);
    else if (payload.sequence < sequence) throw new Fault('checkpoint_out_of_place', payload.sequence);
    else if (!this.agrees(payload)) throw new Fault('checkpoint_mismatch', sequence);
    this.checkPlaceInChain(payload, jws);
    if (sequence === null) this.sequence = payload.sequence;
    if (sequence === null && kept?.sequence === payload.sequence) {
      if (kept.hash !== payload.hash || kept.rootHash !== payload.rootHash) {
        throw new Fault('kept_mismatch', payload.sequence);
      }
      this.keptSeen = true;
    }
    if (this.kept !== null && checkpointHash(this.kept) === checkpointHash(jws)) this.keptSeen = true;
    this.endsWithCheckpoint = true;
  }

  /** The first line settles whose log it is. */
  private beOf(organizationId: string, kept: CheckpointPayload | null): void {
    this.organizationId ??= organizationId;
    if (kept !== null && kept.organizationId !== this.organizationId) throw new Fault('kept_foreign', null);
  }

  /** Each checkpoint names the one before it; where two exports were joined, one stands twice. */
  private checkPlaceInChain(payload: CheckpointPayload, jws: string): void {
    if (jws === this.lastCheckpoint) return;
    const fromTheStart = this.first === 1;
    const before = this.lastCheckpoint === null ? null : checkpointHash(this.lastCheckpoint);
    if ((fromTheStart || before !== null) && payload.previousCheckpointHash !== before) {
      throw new Fault('checkpoint_missing', payload.sequence);
    }
    this.lastCheckpoint = jws;
    this.checkpoints += 1;
  }

  private agrees(payload: CheckpointPayload): boolean {
    const sameRoot = this.tree === null || this.tree.root().toString('hex') === payload.rootHash;
    return payload.organizationId === this.organizationId && payload.hash === this.hash && sameRoot;
  }

  private nextSequence(): number | null {
    return this.sequence === null ? null : this.sequence + 1;
  }

  private verdict(fault: Fault | null, line: number | null): ExportVerdict {
    return {
      valid: fault === null,
      checked: this.checked,
      organizationId: this.organizationId,
      firstSequence: this.first,
      lastSequence: this.first === null ? null : this.sequence,
      headHash: this.first === null ? null : this.hash,
      checkpoints: this.checkpoints,
      brokenAt: fault?.sequence ?? null,
      line: fault === null ? null : line,
      ...(fault === null ? {} : { reason: fault.reason }),
    };
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What nests too deeply to be rendered is no line of ours either. */
function isCanonical(value: unknown, text: string): boolean {
  try {
    return canonicalJson(value) === text;
  } catch {
    return false;
  }
}

/** Nothing may stand beside a checkpoint but the keys: an event there would be read by others and verified by nobody. */
function isCheckpointLine(value: unknown): value is { checkpoint: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'checkpoint' in value &&
    typeof value.checkpoint === 'string' &&
    Object.keys(value).every((name) => name === 'checkpoint' || name === 'jwks')
  );
}

const TEXTS = ['eventId', 'organizationId', 'action', 'outcome', 'occurredAt', 'previousHash', 'hash'] as const;
const NULLABLE_TEXTS = ['actor', 'ip', 'userAgent'] as const;
const MEMBERS = TEXTS.length + NULLABLE_TEXTS.length + ['sequence', 'target', 'details'].length;

/** Whether a value has the members of an event, and no other that its hash would not cover. */
export function isEvent(value: unknown): value is ChainedEvent {
  if (typeof value !== 'object' || value === null) return false;
  const event = value as Record<string, unknown>;
  const target = event['target'];
  return (
    Object.keys(event).length === MEMBERS &&
    TEXTS.every((name) => typeof event[name] === 'string') &&
    NULLABLE_TEXTS.every((name) => event[name] === null || typeof event[name] === 'string') &&
    isSequence(event['sequence']) &&
    typeof event['details'] === 'object' &&
    typeof target === 'object' &&
    target !== null &&
    Object.keys(target).length === 2 &&
    'type' in target &&
    'id' in target
  );
}

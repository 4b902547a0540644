import { describe, expect, it } from '@jest/globals';
import type { AuditService, ChainHead } from '../audit/audit.service.js';
import { genesisHash, hashOf, type ChainedEvent } from '../platform/kernel/canonical-event.js';
import type { ChainVerdict } from './chain-verdict.js';
import type { CheckpointSigner } from './checkpoint-signer.js';
import type { CheckpointsService } from './checkpoints.service.js';
import type { EvidenceRepository } from './evidence.repository.js';
import { HashTree } from './hash-tree.js';
import { VerificationService } from './verification.service.js';

const ORGANIZATION = '3f1b7c52-2f0e-4b55-9c7e-1a2b3c4d5e6f';

/** A right chain of events 1 to `length`. */
function chainOf(length: number): ChainedEvent[] {
  const events: ChainedEvent[] = [];
  let previousHash = genesisHash(ORGANIZATION);
  for (let sequence = 1; sequence <= length; sequence += 1) {
    const event = rehashed({
      eventId: `00000000-0000-7000-8000-${String(sequence).padStart(12, '0')}`,
      sequence,
      organizationId: ORGANIZATION,
      action: 'token.issued',
      outcome: 'success',
      actor: null,
      target: { type: 'token', id: String(sequence) },
      ip: null,
      userAgent: null,
      details: { sequence },
      occurredAt: '2026-01-01T00:00:00.000Z',
      previousHash,
      hash: '',
    });
    events.push(event);
    previousHash = event.hash;
  }
  return events;
}

function rehashed(event: ChainedEvent): ChainedEvent {
  return { ...event, hash: hashOf(event) };
}

/** The chain with the event at `sequence` changed. */
function altered(
  events: readonly ChainedEvent[],
  sequence: number,
  change: (event: ChainedEvent) => ChainedEvent,
): ChainedEvent[] {
  return events.map((event) => (event.sequence === sequence ? change(event) : event));
}

/**
 * Verifies `events` as a database would hand them out, which has neither tree nor checkpoints yet; the head is the last of
 * `truth`.
 */
async function verify(
  events: readonly ChainedEvent[],
  {
    first = 1,
    last,
    head,
    stray = null,
  }: { first?: number; last?: number; head?: ChainHead; stray?: number | null } = {},
) {
  const newest = events.at(-1);
  const ledger = head ?? { sequence: newest?.sequence ?? 0, hash: newest?.hash ?? genesisHash(ORGANIZATION) };
  const reads: number[] = [];
  const audit: Partial<AuditService> = {
    head: () => Promise.resolve(ledger),
    genesis: () => Buffer.from(genesisHash(ORGANIZATION), 'hex'),
    readForward: (_organizationId, sequence, limit) => {
      const found = events.filter((event) => event.sequence >= sequence).slice(0, limit);
      reads.push(found.length);
      return Promise.resolve(found);
    },
  };
  const repository: Partial<EvidenceRepository> = {
    tree: () => Promise.resolve(null),
    belowFirst: () => Promise.resolve(stray !== null && stray < 1 ? stray : null),
    end: () =>
      Promise.resolve({
        head: ledger.sequence,
        beyond: stray !== null && stray > 0 ? stray : null,
        newestCheckpoint: 0,
        namedCheckpoint: 0,
        treeSize: 0,
      }),
    checkpointsBefore: () => Promise.resolve([]),
    checkpointsFrom: () => Promise.resolve([]),
  };
  const checkpoints: Partial<CheckpointsService> = { treeOf: () => new HashTree(() => Promise.resolve(null)) };
  const service = new VerificationService(
    repository as EvidenceRepository,
    audit as AuditService,
    checkpoints as CheckpointsService,
    {} as CheckpointSigner,
  );
  return { verdict: await service.verify(ORGANIZATION, first, last), reads };
}

function brokenAt(sequence: number, reason: string): Partial<ChainVerdict> {
  return { valid: false, brokenAt: sequence, reason: reason as NonNullable<ChainVerdict['reason']> };
}

describe('the verification of a chain', () => {
  it('finds a right chain right, and says what it checked', async () => {
    const events = chainOf(5);
    expect((await verify(events)).verdict).toEqual({
      valid: true,
      checked: 5,
      firstSequence: 1,
      lastSequence: 5,
      headHash: events[4]?.hash,
      brokenAt: null,
    });
  });

  it('has nothing to check in a chain without events', async () => {
    expect((await verify([])).verdict).toEqual({
      valid: true,
      checked: 0,
      firstSequence: null,
      lastSequence: null,
      headHash: null,
      brokenAt: null,
    });
  });

  it.each([1, 3, 5])('finds event %i altered', async (sequence) => {
    const events = altered(chainOf(5), sequence, (event) => ({ ...event, outcome: 'failure' }));
    const { verdict } = await verify(events);
    expect(verdict).toMatchObject({ ...brokenAt(sequence, 'event_altered'), checked: sequence - 1 });
  });

  it('finds an altered event whose hash was computed anew by the link of the next one', async () => {
    const events = altered(chainOf(5), 3, (event) => rehashed({ ...event, outcome: 'failure' }));
    expect((await verify(events)).verdict).toMatchObject(brokenAt(4, 'link_broken'));
  });

  it('finds an event that was altered together with all that follow by the head', async () => {
    const truth = chainOf(5);
    const forged: ChainedEvent[] = [];
    for (const event of truth) {
      const previousHash = forged.at(-1)?.hash ?? event.previousHash;
      forged.push(rehashed({ ...event, previousHash, outcome: event.sequence === 3 ? 'failure' : event.outcome }));
    }
    const head = { sequence: 5, hash: truth[4]?.hash ?? '' };
    expect((await verify(forged, { head })).verdict).toMatchObject(brokenAt(5, 'head_mismatch'));
  });

  it('finds a first event that does not point to the organization', async () => {
    const events = altered(chainOf(2), 1, (event) => rehashed({ ...event, previousHash: '00'.repeat(32) }));
    expect((await verify(events)).verdict).toEqual({
      valid: false,
      checked: 0,
      firstSequence: null,
      lastSequence: null,
      headHash: null,
      brokenAt: 1,
      reason: 'link_broken',
    });
  });

  it.each([1, 3, 5])('finds event %i missing', async (sequence) => {
    const truth = chainOf(5);
    const head = { sequence: 5, hash: truth[4]?.hash ?? '' };
    const left = truth.filter((event) => event.sequence !== sequence);
    expect((await verify(left, { head })).verdict).toMatchObject({
      ...brokenAt(sequence, 'event_missing'),
      checked: sequence - 1,
      headHash: sequence === 1 ? null : truth[sequence - 2]?.hash,
    });
  });

  it('finds two events that changed places', async () => {
    const truth = chainOf(4);
    const [one, two, three, four] = truth as [ChainedEvent, ChainedEvent, ChainedEvent, ChainedEvent];
    const swapped = [one, { ...three, sequence: 2 }, { ...two, sequence: 3 }, four];
    expect((await verify(swapped)).verdict).toMatchObject(brokenAt(2, 'link_broken'));
  });

  it('verifies a range by the event before it', async () => {
    const events = chainOf(9);
    expect((await verify(events, { first: 4, last: 6 })).verdict).toEqual({
      valid: true,
      checked: 3,
      firstSequence: 4,
      lastSequence: 6,
      headHash: events[5]?.hash,
      brokenAt: null,
    });
    const broken = altered(events, 5, (event) => ({ ...event, ip: '203.0.113.7' }));
    expect((await verify(broken, { first: 4, last: 6 })).verdict).toMatchObject(brokenAt(5, 'event_altered'));
    expect((await verify(broken, { first: 6, last: 9 })).verdict).toMatchObject({ valid: true, checked: 4 });
    expect((await verify(broken, { first: 1, last: 4 })).verdict).toMatchObject({ valid: true, checked: 4 });
  });

  it('names the event before a range where that is missing', async () => {
    const events = chainOf(5).filter(({ sequence }) => sequence !== 2);
    expect((await verify(events, { first: 3 })).verdict).toMatchObject({ ...brokenAt(2, 'event_missing'), checked: 0 });
  });

  it('compares the head only where the range ends there', async () => {
    const events = chainOf(5);
    const head = { sequence: 5, hash: 'ff'.repeat(32) };
    expect((await verify(events, { head })).verdict).toMatchObject({
      ...brokenAt(5, 'head_mismatch'),
      checked: 5,
    });
    expect((await verify(events, { head, last: 4 })).verdict).toMatchObject({ valid: true, checked: 4 });
  });

  it('names an event that stands outside the chain, where the range ends at the head', async () => {
    const events = chainOf(5);
    expect((await verify(events, { stray: 7 })).verdict).toMatchObject({
      ...brokenAt(7, 'event_inserted'),
      checked: 5,
    });
    expect((await verify(events, { stray: 7, last: 4 })).verdict).toMatchObject({ valid: true });
  });

  it('names an event that stands before the chain, where the range begins with it', async () => {
    const events = chainOf(5);
    expect((await verify(events, { stray: -2 })).verdict).toMatchObject(brokenAt(-2, 'event_inserted'));
    expect((await verify(events, { stray: -2, first: 2 })).verdict).toMatchObject({ valid: true, checked: 4 });
  });

  it('passes over events that were appended after the head was read', async () => {
    const events = chainOf(6);
    const head = { sequence: 4, hash: events[3]?.hash ?? '' };
    expect((await verify(events, { head })).verdict).toMatchObject({ valid: true, checked: 4, lastSequence: 4 });
  });

  it('reads a long chain in batches, and finds a break across their border', async () => {
    const events = chainOf(2500);
    const { verdict, reads } = await verify(events);
    expect(verdict).toMatchObject({ valid: true, checked: 2500 });
    // One more each, which would show a second event in the last place.
    expect(reads).toEqual([501, 501, 501, 501, 500]);
    const broken = altered(events, 1001, (event) => rehashed({ ...event, previousHash: '00'.repeat(32) }));
    expect((await verify(broken)).verdict).toMatchObject(brokenAt(1001, 'link_broken'));
  });

  it.each([1, 7, 499, 500, 501, 1000, 1200])('finds a second event in place %i', async (sequence) => {
    const events = chainOf(1200);
    const head = { sequence: 1200, hash: events.at(-1)?.hash ?? '' };
    const second = rehashed({ ...(events[sequence - 1] as ChainedEvent), userAgent: 'nobody' });
    for (const place of [sequence - 1, sequence]) {
      const { verdict } = await verify(events.toSpliced(place, 0, second), { head });
      expect(verdict).toMatchObject(brokenAt(sequence, 'event_inserted'));
    }
  });
});

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AuditService, type ChainHead } from '../audit/audit.service.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor } from '../platform/kernel/cursor.js';
import { problems } from '../platform/kernel/problem.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import { readCheckpoint } from './checkpoint.js';
import type { CheckpointView } from './dto/checkpoint.views.js';
import { EvidenceRepository } from './evidence.repository.js';
import { HashTree, type KnownTile } from './hash-tree.js';
import { CoalescedCalls } from './coalesced-calls.js';
import type { ChainGrowth, StoredCheckpoint, TreeState } from './tree-growth.js';

export type { CheckpointView } from './dto/checkpoint.views.js';

/** Events that one step adds to a tree. */
const GROWTH_BATCH = 10_000;

/**
 * Checkpoints of the last hour with which one made on request is no longer stored: some four times what a chain with few
 * events gets by itself, and below what a busy one does.
 */
const MAX_STORED_AN_HOUR = 300;
const HOUR_MS = 3_600_000;

/** A checkpoint, and whether it is one that later ones name. */
interface SignedCheckpoint {
  readonly checkpoint: string;
  readonly stored: boolean;
}

/** The chain is broken: no checkpoint is signed over it. */
export class ChainBroken extends Error {
  constructor(
    readonly organizationId: string,
    readonly sequence: number,
  ) {
    super(`the audit chain of organization ${organizationId} is broken at ${sequence}`);
    this.name = 'ChainBroken';
  }
}

/** Signs the heads of chains, and keeps the Merkle trees beneath. */
@Injectable()
export class CheckpointsService {
  private readonly calls = new CoalescedCalls<SignedCheckpoint>();

  constructor(
    private readonly repository: EvidenceRepository,
    private readonly audit: AuditService,
    private readonly signer: CheckpointSigner,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
  ) {}

  /**
   * A checkpoint over every event that was committed before the call: the newest where it covers them, else a new one. A
   * new one is stored while the last hour has few; beyond that it is signed for the caller alone, names the newest that is
   * stored as the one before it, and verifies as well, but no list, export or later checkpoint names it. So nobody fills
   * the disk by asking.
   *
   * @throws Problem `not_found` for an unknown organization, `conflict` where its chain is broken
   */
  async current(organizationId: string): Promise<string> {
    return (await this.latest(organizationId)).checkpoint;
  }

  /**
   * The newest checkpoint that is stored, after one over the present head was stored if the last hour allows it.
   *
   * @throws Problem as `current` does
   */
  async currentStored(organizationId: string): Promise<string> {
    const { checkpoint, stored } = await this.latest(organizationId);
    if (stored) return checkpoint;
    const [newest] = await this.repository.checkpointsBefore(organizationId, String(Number.MAX_SAFE_INTEGER), 1);
    return newest?.checkpoint ?? checkpoint;
  }

  /**
   * One step towards a checkpoint that the follower found due: a statement that reads, and one that stores if nobody else
   * has done so meanwhile. A checkpoint is no event of the chain that it signs, so an idle chain wants none.
   *
   * @param seen the newest checkpoint when it was found due
   * @returns whether that was all; else more of the chain is left to take in
   * @throws ChainBroken
   */
  async follow(organizationId: string, seen: number): Promise<boolean> {
    if (seen === 0) await this.repository.ensureTree(organizationId);
    const growth = await this.repository.growth(organizationId, GROWTH_BATCH);
    if (growth === null || growth.tree.checkpointSequence !== seen || growth.head.sequence === seen) return true;
    const { signed, saved } = await this.extend(organizationId, growth, true);
    return signed !== null || !saved;
  }

  /** One page of an organization's checkpoints, newest first. */
  async list(organizationId: string, limit: number, cursor: string | undefined): Promise<Page<CheckpointView>> {
    const list = `audit-checkpoints:${organizationId}`;
    const [before] =
      cursor === undefined ? [String(Number.MAX_SAFE_INTEGER)] : decodeCursor(list, cursor, [/^\d{1,16}$/]);
    const found = await this.repository.checkpointsBefore(organizationId, before ?? '0', limit + 1);
    return pageOf(found.map(shown), limit, ({ sequence }) => encodeCursor(list, [String(sequence)]));
  }

  /** The sequence of an organization's newest checkpoint; 0 where it has none. */
  async newestSequence(organizationId: string, reader?: EntityManager): Promise<number> {
    return (await this.repository.tree(organizationId, reader))?.checkpointSequence ?? 0;
  }

  /**
   * The next checkpoints of an organization for a reader that follows them by a cursor of its own: none is ever removed.
   *
   * @param after the reader's place: the sequence of the last checkpoint that it is done with
   * @param limit the most checkpoints
   * @returns them as `list` shows them, oldest first
   */
  async issuedAfter(organizationId: string, after: number, limit: number): Promise<CheckpointView[]> {
    return (await this.repository.checkpointsFrom(organizationId, after + 1, limit)).map(shown);
  }

  /** The stored tree of an organization. */
  treeOf(
    organizationId: string,
    reader: EntityManager = this.unitOfWork.reader,
    known: readonly KnownTile[] = [],
  ): HashTree {
    return new HashTree((level, tile) => this.repository.tile(reader, organizationId, level, tile), known);
  }

  /** Callers at the same time share one: a flood of them for an organization holds one connection. */
  private async latest(organizationId: string): Promise<SignedCheckpoint> {
    await this.audit.head(organizationId);
    try {
      return await this.calls.call(organizationId, async () => {
        for (;;) {
          const signed = await this.unitOfWork.run((transaction) => this.step(transaction, organizationId));
          if (signed !== null) return signed;
        }
      });
    } catch (error) {
      if (!(error instanceof ChainBroken)) throw error;
      throw problems.conflict.withDetail(`The audit chain is broken at ${error.sequence}: nothing is signed over it.`);
    }
  }

  /** One transaction towards a checkpoint over the present head; null where more of the chain is left to take in. */
  private async step(transaction: EntityManager, organizationId: string): Promise<SignedCheckpoint | null> {
    // Behind whoever is at it, so that callers on all replicas come to their turn.
    if (!(await this.repository.lockTree(transaction, organizationId))) {
      await this.repository.ensureTree(organizationId);
      return null;
    }
    const growth = await this.repository.growth(organizationId, GROWTH_BATCH, transaction);
    if (growth === null) return null;
    const { sequence } = growth.head;
    if (sequence === growth.tree.checkpointSequence) {
      const stored = await this.repository.checkpoint(organizationId, sequence, transaction);
      if (stored === null) throw new ChainBroken(organizationId, sequence);
      return { checkpoint: stored.checkpoint, stored: true };
    }
    const since = new Date(this.clock.nowMs() - HOUR_MS);
    const made = await this.repository.countCheckpoints(transaction, organizationId, since, MAX_STORED_AN_HOUR);
    const store = made < MAX_STORED_AN_HOUR;
    const { signed } = await this.extend(organizationId, growth, store, transaction);
    return signed === null ? null : { checkpoint: signed.checkpoint, stored: store };
  }

  /**
   * Takes the chain up to its head into the tree, or as much of it as one step may, and signs the whole.
   *
   * @param transaction one that holds the tree's lock
   */
  private async extend(
    organizationId: string,
    growth: ChainGrowth,
    store: boolean,
    transaction?: EntityManager,
  ): Promise<{ signed: StoredCheckpoint | null; saved: boolean }> {
    const { tree: state, head, edge } = growth;
    if (head.sequence < state.size) throw new ChainBroken(organizationId, head.sequence + 1);
    const tree = this.treeOf(organizationId, transaction, edge);
    const { size, chainHash } = await this.grow(organizationId, tree, growth);
    const signed = size < head.sequence ? null : await this.sign(organizationId, tree, state, head);
    const saved = await this.repository.saveTree(
      organizationId,
      state,
      { tiles: tree.takeGrown(), size, chainHash, checkpoint: store ? signed : null },
      transaction,
    );
    return { signed, saved };
  }

  private async grow(
    organizationId: string,
    tree: HashTree,
    { tree: state, head, runs }: ChainGrowth,
  ): Promise<{ size: number; chainHash: Buffer }> {
    const limit = Math.min(GROWTH_BATCH, head.sequence - state.size);
    const linkedTo = state.chainHash ?? this.audit.genesis(organizationId);
    let { size } = state;
    let chainHash = linkedTo;
    for (const run of runs) {
      if (!run.linked || run.firstSequence !== size + 1 || !run.firstLink.equals(chainHash)) {
        const broken = await this.repository.firstBreak(organizationId, state.size, linkedTo, limit);
        throw new ChainBroken(organizationId, broken ?? size + 1);
      }
      await tree.append(size, run);
      size += run.events;
      chainHash = run.lastHash;
    }
    if (size < state.size + limit) throw new ChainBroken(organizationId, size + 1);
    if (size === head.sequence && chainHash.toString('hex') !== head.hash) throw new ChainBroken(organizationId, size);
    return { size, chainHash };
  }

  private async sign(
    organizationId: string,
    tree: HashTree,
    state: TreeState,
    head: ChainHead,
  ): Promise<StoredCheckpoint> {
    const issuedAt = this.clock.now();
    const checkpoint = await this.signer.sign({
      organizationId,
      sequence: head.sequence,
      hash: head.hash,
      rootHash: (await tree.root(head.sequence)).toString('hex'),
      issuedAt: issuedAt.toISOString(),
      previousCheckpointHash: state.checkpointHash,
    });
    return { sequence: head.sequence, checkpoint, issuedAt };
  }
}

function shown({ checkpoint }: StoredCheckpoint): CheckpointView {
  return { ...readCheckpoint(checkpoint), checkpoint };
}

import { Injectable } from '@nestjs/common';
import { setImmediate as turn } from 'node:timers/promises';
import { AuditService, type ChainHead } from '../audit/audit.service.js';
import { hashOf } from '../platform/kernel/canonical-event.js';
import { WorkLimit } from '../platform/http/work-limit.js';
import { Break, type ChainVerdict } from './chain-verdict.js';
import { ChainWalk, type WalkStart } from './chain-walk.js';
import { CheckpointChain } from './checkpoint-chain.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import type { CheckpointPayload } from './checkpoint.js';
import { CheckpointsService } from './checkpoints.service.js';
import { EvidenceRepository } from './evidence.repository.js';
import { TreeDamaged, type HashTree } from './hash-tree.js';
import type { TreeState } from './tree-growth.js';

/** Events in memory at one time. */
const BATCH = 500;
/** How often a verification begins anew because retention removed events under it. */
const MAX_CUTS = 3;

const EMPTY_TREE: TreeState = {
  size: 0,
  chainHash: null,
  checkpointSequence: 0,
  checkpointHash: null,
  removedThrough: 0,
  cut: null,
};

/** What is to be verified. */
interface Range {
  readonly from: number;
  readonly to: number;
  /** A checkpoint that the caller kept, authentic and of this organization. */
  readonly kept: CheckpointPayload | null;
}

/** Verifies chains against themselves, the stored tree, the stored checkpoints, and one that the caller kept. */
@Injectable()
export class VerificationService {
  private readonly limit = new WorkLimit(4, 8);

  constructor(
    private readonly repository: EvidenceRepository,
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
    private readonly signer: CheckpointSigner,
  ) {}

  /**
   * Verifies an organization's chain, or a part of it, as it was when the call began.
   *
   * @param from the first event to check; where retention has removed it, the first that is left
   * @param to the last; never beyond the head
   */
  verify(organizationId: string, from = 1, to = Number.MAX_SAFE_INTEGER): Promise<ChainVerdict> {
    return this.limit.run(organizationId, () => this.verifyRange(organizationId, { from, to, kept: null }));
  }

  /**
   * Verifies the whole chain, and that it is still the one that a checkpoint states which the caller kept.
   *
   * @param checkpoint a compact JWS; anything else is a verdict too
   */
  async verifyKept(organizationId: string, checkpoint: string): Promise<ChainVerdict> {
    await this.audit.head(organizationId);
    const kept = await this.signer.open(checkpoint);
    if (kept === null) return refusal(new Break(null, 'checkpoint_not_authentic'));
    if (kept.organizationId !== organizationId) return refusal(new Break(null, 'checkpoint_foreign'));
    const range = { from: 1, to: Number.MAX_SAFE_INTEGER, kept };
    const verdict = await this.limit.run(organizationId, () => this.verifyRange(organizationId, range));
    return this.explained(organizationId, kept, verdict);
  }

  /**
   * Where a checkpoint states another chain, or more of it, and the chain tells that an older backup was restored since:
   * that is why, and the place of that event is the first that is lost. A chain that is broken before that stays broken.
   */
  private async explained(
    organizationId: string,
    kept: CheckpointPayload,
    verdict: ChainVerdict,
  ): Promise<ChainVerdict> {
    if (verdict.reason !== 'tail_missing' && verdict.reason !== 'checkpoint_mismatch') return verdict;
    const restoredAt = await this.repository.restoredAt(organizationId, kept.sequence, kept.issuedAt);
    return restoredAt === null ? verdict : { ...verdict, brokenAt: restoredAt, reason: 'history_lost' };
  }

  private async verifyRange(organizationId: string, range: Range): Promise<ChainVerdict> {
    for (let cuts = 0; ; cuts += 1) {
      // In this order, so that the head is not behind the newest checkpoint.
      const state = (await this.repository.tree(organizationId)) ?? EMPTY_TREE;
      const head = await this.audit.head(organizationId);
      const verdict = await this.walk(organizationId, range, head, state);
      const lost = verdict.brokenAt;
      if (lost === null || cuts === MAX_CUTS) return verdict;
      const now = (await this.repository.tree(organizationId)) ?? EMPTY_TREE;
      if (now.removedThrough === state.removedThrough || lost > now.removedThrough) return verdict;
    }
  }

  private async walk(organizationId: string, range: Range, head: ChainHead, state: TreeState): Promise<ChainVerdict> {
    const tree = this.checkpoints.treeOf(organizationId);
    let walk = new ChainWalk({ sequence: 0, hash: '', rootHash: null }, tree, state);
    const chainFrom = (after: number) =>
      new CheckpointChain(this.repository, this.signer, organizationId, after, state.checkpointSequence);
    try {
      const start = await this.startOf(organizationId, range, state, chainFrom(state.removedThrough));
      walk = new ChainWalk(start, tree, state);
      // No ledger stands before what retention has removed, nor before the start of the chain.
      const least = state.cut === null ? 0 : state.removedThrough;
      if (head.sequence < least) throw new Break(Math.max(head.sequence, 0) + 1, 'tail_missing');
      const last = Math.min(range.to, head.sequence);
      if (start.sequence > last && start.sequence !== head.sequence) return walk.verdict(null);
      await walk.prepare();
      await this.compareEarlier(range.kept, start, tree);
      const whole = last === head.sequence;
      const chain = chainFrom(start.sequence);
      if (range.from === 1) {
        await chain.checkRemoved();
        await this.checkLeftovers(organizationId, start);
      }
      await chain.prepare();
      await this.walkEvents(organizationId, walk, chain, last, range.kept);
      if (whole) await this.checkEnd(organizationId, walk, chain, head, state, range.kept);
      if (range.kept !== null && !(await chain.hasNamedBy(range.kept))) {
        throw new Break(range.kept.sequence, 'checkpoint_missing');
      }
      walk.finish();
      return walk.verdict(null);
    } catch (error) {
      if (error instanceof Break) return walk.verdict(error);
      if (error instanceof TreeDamaged) return walk.verdict(new Break(walk.next, 'tree_altered'));
      throw error;
    }
  }

  /** Where the walk begins: where retention has cut, behind the event before `from`, or at the start of the chain. */
  private async startOf(
    organizationId: string,
    { from }: Range,
    state: TreeState,
    chain: CheckpointChain,
  ): Promise<WalkStart> {
    const stray = from === 1 ? await this.repository.belowFirst(organizationId) : null;
    if (stray !== null) throw new Break(stray, 'event_inserted');
    if (state.cut !== null && from <= state.removedThrough + 1) {
      const cut = await this.signer.openCut(state.cut);
      const says = cut?.organizationId === organizationId && cut.removedThrough === state.removedThrough;
      if (cut === null || !says) throw new Break(state.removedThrough, 'cut_altered');
      const cutAt = await chain.at(cut.removedThrough);
      if (cutAt === null) throw new Break(cut.removedThrough, 'checkpoint_missing');
      if (cutAt.hash !== cut.hash) throw new Break(cut.removedThrough, 'cut_altered');
      return { sequence: cut.removedThrough, hash: cut.hash, rootHash: cutAt.rootHash };
    }
    const rootHash = null;
    if (from === 1) return { sequence: 0, hash: this.audit.genesis(organizationId).toString('hex'), rootHash };
    const [before] = await this.audit.readForward(organizationId, from - 1, 1);
    const { sequence: head } = await this.audit.head(organizationId);
    if (from - 1 > head) return { sequence: from - 1, hash: '', rootHash };
    if (before?.sequence !== from - 1) throw new Break(from - 1, 'event_missing');
    return { sequence: from - 1, hash: before.hash, rootHash };
  }

  /**
   * What stands before the start is the end of a prefix that retention is removing, oldest first: it leads to the event at
   * the cut. What does not was put there.
   */
  private async checkLeftovers(organizationId: string, { sequence: through, hash }: WalkStart): Promise<void> {
    const left = through === 0 ? null : await this.repository.leftovers(organizationId, through);
    if (left === null) return;
    if (left.last !== through || left.events !== through - left.first + 1)
      throw new Break(left.first, 'event_inserted');
    if (!left.linked) throw new Break(left.first, 'link_broken');
    for (let from = 1; ;) {
      const events = await this.audit.readForward(organizationId, from, BATCH);
      for (const event of events) {
        if (event.sequence > through) return;
        const isAtCut = event.sequence === through;
        if (hashOf(event) !== event.hash || (isAtCut && event.hash !== hash)) {
          throw new Break(event.sequence, 'event_altered');
        }
      }
      if (events.length < BATCH) return;
      from = (events.at(-1)?.sequence ?? from) + 1;
    }
  }

  private async walkEvents(
    organizationId: string,
    walk: ChainWalk,
    chain: CheckpointChain,
    last: number,
    kept: CheckpointPayload | null,
  ): Promise<void> {
    let due = await chain.peek();
    let agreed = 0;
    // One more than may stand there, so that two events in one place do not push each other out of sight.
    const read = (from: number) => this.audit.readForward(organizationId, from, Math.min(BATCH, last - from + 1) + 1);
    let reading = walk.next <= last ? read(walk.next) : null;
    while (reading !== null) {
      const events = await reading;
      // The next batch is read while this one is checked.
      const from = walk.next + BATCH;
      const end = Math.min(from - 1, last);
      reading = from <= last ? read(from) : null;
      reading?.catch(() => undefined);
      for (const event of events) {
        if (event.sequence > end) break;
        await walk.take(event);
        if (due === event.sequence) {
          walk.pass(await chain.take());
          // The one that the kept one names as the one before it: up to there both tell the same.
          if (chain.lastHash === kept?.previousCheckpointHash) agreed = event.sequence;
          due = await chain.peek();
        }
        if (kept?.sequence === event.sequence) walk.compareKept(kept, agreed);
      }
      if (walk.next <= end) throw new Break(walk.next, 'event_missing');
      // Requests that came meanwhile are served between two batches.
      await turn();
    }
  }

  /** What the end of the chain has to agree with: the ledger's head, the tree's row, and that nothing stands beyond. */
  private async checkEnd(
    organizationId: string,
    walk: ChainWalk,
    chain: CheckpointChain,
    head: ChainHead,
    state: TreeState,
    kept: CheckpointPayload | null,
  ): Promise<void> {
    const end = await this.repository.end(organizationId);
    if (kept !== null && kept.sequence > head.sequence) throw new Break(head.sequence + 1, 'tail_missing');
    if (end.newestCheckpoint > end.head) throw new Break(end.head + 1, 'tail_missing');
    if (state.checkpointSequence > 0 && chain.namedHash !== state.checkpointHash) {
      throw new Break(state.checkpointSequence, 'checkpoint_missing');
    }
    if (walk.headHash !== head.hash) throw new Break(head.sequence, 'head_mismatch');
    if (end.beyond !== null) throw new Break(end.beyond, 'event_inserted');
    if (end.treeSize > end.head) throw new Break(end.head + 1, 'tail_missing');
    if (end.newestCheckpoint < end.namedCheckpoint) throw new Break(end.namedCheckpoint, 'checkpoint_missing');
    if (end.newestCheckpoint > Math.min(end.namedCheckpoint, end.treeSize)) {
      throw new Break(end.newestCheckpoint, 'tree_altered');
    }
  }

  /** A kept checkpoint over events that retention has removed is compared with the tree, which outlives them. */
  private async compareEarlier(kept: CheckpointPayload | null, start: WalkStart, tree: HashTree): Promise<void> {
    if (kept === null || kept.sequence > start.sequence) return;
    const root = await tree.root(kept.sequence);
    const sameHash = kept.sequence < start.sequence || kept.hash === start.hash;
    if (root.toString('hex') !== kept.rootHash || !sameHash) throw new Break(kept.sequence, 'checkpoint_mismatch');
  }
}

function refusal(fault: Break): ChainVerdict {
  return {
    valid: false,
    checked: 0,
    firstSequence: null,
    lastSequence: null,
    headHash: null,
    brokenAt: fault.sequence,
    reason: fault.reason,
  };
}

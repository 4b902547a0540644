import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import type { ChainedEvent } from '../platform/kernel/canonical-event.js';
import type { Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUuid } from '../platform/kernel/uuid.js';
import { readCheckpoint } from './checkpoint.js';
import { CheckpointsService } from './checkpoints.service.js';
import type { ConsistencyView, ReceiptView } from './dto/proof.views.js';
import { EvidenceRepository } from './evidence.repository.js';
import { TreeDamaged } from './hash-tree.js';
import { consistencyPath, inclusionPath, isConsistent, isIncluded, leafHash } from './merkle.js';
import type { StoredCheckpoint } from './tree-growth.js';

const broken = problems.conflict.withDetail('The audit log does not hold what its checkpoints state; verify it.');

/** Proofs of single events and of growth, under signed checkpoints. A proof that would not verify is not given. */
@Injectable()
export class ProofsService {
  constructor(
    private readonly repository: EvidenceRepository,
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
  ) {}

  /**
   * The receipt of an event that the principal may read; of one that no checkpoint covers yet, under a new one.
   *
   * @throws Problem `not_found`; `conflict` where the log was tampered with
   */
  async receipt(principal: Principal, eventId: string): Promise<ReceiptView> {
    return this.receiptOf(await this.audit.read(principal, eventId));
  }

  /**
   * The receipt of the issuance of a token. A token's `jti` is the id of the event that tells of its issuance.
   *
   * @throws Problem `not_found`, `conflict`
   */
  async tokenReceipt(principal: Principal, jti: string): Promise<ReceiptView> {
    if (!isUuid(jti)) throw problems.notFound;
    const event = await this.audit.read(principal, jti.toLowerCase());
    if (event.action !== 'token.issued' || event.target.id !== event.eventId) throw problems.notFound;
    return this.receiptOf(event);
  }

  /**
   * A proof that the checkpoint over `to` events extends any over `from`. RFC 9162 proves sizes, so the earlier one need
   * not be stored: whoever kept one that was signed for them alone has its root.
   *
   * @throws Problem `not_found` where there is no checkpoint over `to`, `validation_failed` where the two are reversed,
   *   `conflict` where the log was tampered with
   */
  async consistency(organizationId: string, from: number, to: number): Promise<ConsistencyView> {
    if (from > to) {
      throw problems.validationFailed.withErrors({ pointer: '/to', detail: 'is before the checkpoint of `from`' });
    }
    const earlier = await this.repository.checkpoint(organizationId, from);
    const later = await this.repository.checkpoint(organizationId, to);
    if (later === null) throw problems.notFound;
    const tree = this.checkpoints.treeOf(organizationId);
    const path = await proof(() => consistencyPath(tree.subtree, from, to));
    const fromRoot = earlier === null ? await proof(() => tree.root(from)) : rootOf(earlier);
    if (!isConsistent(from, to, path, fromRoot, rootOf(later))) throw broken;
    return {
      from: earlier?.checkpoint ?? null,
      to: later.checkpoint,
      consistencyPath: path.map((hash) => hash.toString('hex')),
    };
  }

  private async receiptOf(event: ChainedEvent): Promise<ReceiptView> {
    const { organizationId, sequence } = event;
    const checkpoint = await this.checkpointOver(organizationId, sequence);
    const { sequence: treeSize, rootHash } = readCheckpoint(checkpoint);
    const tree = this.checkpoints.treeOf(organizationId);
    const path = await proof(() => inclusionPath(tree.subtree, sequence - 1, treeSize));
    const leaf = leafHash(Buffer.from(event.hash, 'hex'));
    if (!isIncluded(leaf, sequence - 1, treeSize, path, Buffer.from(rootHash, 'hex'))) throw broken;
    return {
      event,
      leafIndex: sequence - 1,
      treeSize,
      inclusionPath: path.map((hash) => hash.toString('hex')),
      checkpoint,
    };
  }

  private async checkpointOver(organizationId: string, sequence: number): Promise<string> {
    const tree = await this.repository.tree(organizationId);
    if (tree === null || tree.checkpointSequence < sequence) return this.checkpoints.current(organizationId);
    const stored = await this.repository.checkpoint(organizationId, tree.checkpointSequence);
    if (stored === null) throw broken;
    return stored.checkpoint;
  }
}

function rootOf({ checkpoint }: StoredCheckpoint): Buffer {
  return Buffer.from(readCheckpoint(checkpoint).rootHash, 'hex');
}

async function proof<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TreeDamaged) throw broken;
    throw error;
  }
}

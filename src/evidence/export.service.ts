import { Injectable } from '@nestjs/common';
import { Readable } from 'node:stream';
import { AuditService } from '../audit/audit.service.js';
import { WorkLimit } from '../platform/http/work-limit.js';
import { canonicalJson } from '../platform/kernel/canonical-event.js';
import { Problem } from '../platform/kernel/problem.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import { readCheckpoint } from './checkpoint.js';
import { CheckpointsService } from './checkpoints.service.js';
import { EvidenceRepository } from './evidence.repository.js';
import type { StoredCheckpoint } from './tree-growth.js';

/** Events, and checkpoints, in memory at one time for one export. */
const BATCH = 200;

/** What an export covers. */
interface Scope {
  readonly organizationId: string;
  readonly first: number;
  readonly last: number;
  /** The line that ends it. */
  readonly end: string;
}

/**
 * Exports chains as NDJSON that verifies offline. Nothing is held between two batches, neither a connection nor a
 * snapshot (the log is append-only): a client that reads slowly costs one batch of memory.
 */
@Injectable()
export class ExportService {
  private readonly limit = new WorkLimit(4, 32);

  constructor(
    private readonly repository: EvidenceRepository,
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
    private readonly signer: CheckpointSigner,
  ) {}

  /**
   * Events from `fromSequence` on, oldest first, each checkpoint behind the event that it covers last; the last line is a
   * checkpoint over all of it, with the JWK Set that verifies it.
   *
   * @param fromSequence where to begin; where retention has removed it, with the first that is left
   * @throws Problem `not_found`, `rate_limited`
   */
  async export(organizationId: string, fromSequence: number): Promise<Readable> {
    const leave = this.limit.enter(organizationId);
    try {
      const scope = await this.scopeOf(organizationId, fromSequence);
      const stream = Readable.from(this.lines(scope), { objectMode: false, highWaterMark: 64 * 1024 });
      stream.once('close', leave);
      return stream;
    } catch (error) {
      leave();
      throw error;
    }
  }

  private async scopeOf(organizationId: string, fromSequence: number): Promise<Scope> {
    const { checkpoint, last } = await this.newest(organizationId);
    const tree = await this.repository.tree(organizationId);
    return {
      organizationId,
      first: Math.max(fromSequence, (tree?.removedThrough ?? 0) + 1),
      last,
      end: `${canonicalJson({ checkpoint, jwks: await this.signer.jwks() })}\n`,
    };
  }

  /**
   * A stored checkpoint, over everything unless the last hour has many already. Nothing is signed over a broken chain:
   * that is given whole, with the newest checkpoint from before, and what is wrong with it is for the verifier to say.
   */
  private async newest(organizationId: string): Promise<{ checkpoint: string; last: number }> {
    try {
      const checkpoint = await this.checkpoints.currentStored(organizationId);
      return { checkpoint, last: readCheckpoint(checkpoint).sequence };
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'conflict') throw error;
      const [stored] = await this.repository.checkpointsBefore(organizationId, String(Number.MAX_SAFE_INTEGER), 1);
      if (stored === undefined) throw error;
      return { checkpoint: stored.checkpoint, last: (await this.audit.head(organizationId)).sequence };
    }
  }

  private async *lines({ organizationId, first, last, end }: Scope): AsyncGenerator<string> {
    let sequence = first;
    let checkpoints = await this.repository.checkpointsFrom(organizationId, Math.max(first - 1, 1), BATCH);
    if (checkpoints[0]?.sequence === first - 1) yield checkpointLine(checkpoints.shift() as StoredCheckpoint);
    while (sequence <= last) {
      const events = await this.audit.readForward(organizationId, sequence, Math.min(BATCH, last - sequence + 1));
      if (events.length === 0) break;
      let chunk = '';
      for (const event of events) {
        if (event.sequence > last) break;
        chunk += `${canonicalJson(event)}\n`;
        if (checkpoints[0]?.sequence === event.sequence) {
          const [due] = checkpoints.splice(0, 1);
          // The last one ends the export, with the keys.
          if (due !== undefined && event.sequence !== last) chunk += checkpointLine(due);
          if (checkpoints.length === 0) {
            checkpoints = await this.repository.checkpointsFrom(organizationId, event.sequence + 1, BATCH);
          }
        }
        sequence = event.sequence + 1;
      }
      yield chunk;
    }
    yield end;
  }
}

function checkpointLine({ checkpoint }: StoredCheckpoint): string {
  return `${canonicalJson({ checkpoint })}\n`;
}

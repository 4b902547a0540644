import { Injectable } from '@nestjs/common';
import { StatementPool, type NamedStatement } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';

/** An organization whose chain wants a checkpoint. */
export interface DueOrganization {
  readonly organizationId: string;
  /** Its newest checkpoint when this was found. */
  readonly checkpointSequence: number;
}

/** An organization, and how far its chain has come. */
export interface WaitingOrganization extends DueOrganization {
  /** Its newest event. */
  readonly sequence: number;
}

/** Asked several times a second for chains that are written to fast. */
const WAITING: NamedStatement = {
  name: 'audit-chains-waiting',
  text: `SELECT l.organization_id, l.sequence, coalesce(t.checkpoint_sequence, 0) AS checkpoint_sequence
    FROM organization_ledgers l
    LEFT JOIN audit_trees t ON t.organization_id = l.organization_id
    WHERE l.organization_id = ANY ($1::uuid[])`,
};

/** All SQL on what wants a checkpoint. It locks nothing. */
@Injectable()
export class DueChainsRepository {
  constructor(
    private readonly unitOfWork: UnitOfWork,
    private readonly statements: StatementPool,
  ) {}

  /** The last of the `limit` organizations after `after`; null where fewer are left. */
  async pageEnd(after: string, limit: number): Promise<string | null> {
    const rows = await this.unitOfWork.reader.query<{ organization_id: string }[]>(
      `SELECT organization_id FROM organization_ledgers WHERE organization_id > $1
        ORDER BY organization_id OFFSET $2 LIMIT 1`,
      [after, limit - 1],
    );
    return rows[0]?.organization_id ?? null;
  }

  /** How far given chains have come, and their newest checkpoints. */
  async waiting(organizationIds: readonly string[]): Promise<WaitingOrganization[]> {
    const rows = await this.statements.query<{
      organization_id: string;
      sequence: string;
      checkpoint_sequence: string;
    }>(WAITING, [organizationIds]);
    return rows.map((row) => ({
      organizationId: row.organization_id,
      sequence: Number(row.sequence),
      checkpointSequence: Number(row.checkpoint_sequence),
    }));
  }

  /**
   * Organizations after `after` up to `end` whose chains want a checkpoint: `events` events wait for one, or one that
   * occurred at `before` or earlier does. The bounds are named for both tables, so that of neither more than the page is
   * read.
   */
  async due(after: string, end: string, events: number, before: Date): Promise<DueOrganization[]> {
    const rows = await this.unitOfWork.reader.query<{ organization_id: string; checkpoint_sequence: string }[]>(
      `SELECT l.organization_id, coalesce(t.checkpoint_sequence, 0) AS checkpoint_sequence
        FROM organization_ledgers l
        LEFT JOIN audit_trees t
          ON t.organization_id = l.organization_id AND t.organization_id > $1 AND t.organization_id <= $2
        WHERE l.organization_id > $1 AND l.organization_id <= $2 AND l.sequence > coalesce(t.checkpoint_sequence, 0)
          AND (l.sequence - coalesce(t.checkpoint_sequence, 0) >= $3 OR (
            SELECT e.occurred_at FROM audit_events e
              WHERE e.organization_id = l.organization_id AND e.sequence > coalesce(t.checkpoint_sequence, 0)
              ORDER BY e.sequence LIMIT 1) <= $4)`,
      [after, end, events, before],
    );
    return rows.map((row) => ({
      organizationId: row.organization_id,
      checkpointSequence: Number(row.checkpoint_sequence),
    }));
  }
}

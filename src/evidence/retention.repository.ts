import { Injectable } from '@nestjs/common';
import { UnitOfWork } from '../platform/database/unit-of-work.js';

/** A chain whose beginning is older than its tier keeps it. */
export interface ExpiredPrefix {
  readonly organizationId: string;
  /** Events up to this checkpoint may go. */
  readonly through: number;
  /** The checkpoint at the cut. */
  readonly checkpoint: string;
  /** When it was issued, as its row says. */
  readonly issuedAt: Date;
  /** The signed statement, where an earlier sweep has made it and did not end. */
  readonly cut: string | null;
}

/** All SQL on retention. */
@Injectable()
export class RetentionRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /**
   * Up to `limit` organizations after `after` with events that may go: the cut is the newest checkpoint that is older
   * than the retention in force, by the database's clock.
   */
  async expired(after: string, limit: number): Promise<ExpiredPrefix[]> {
    const rows = await this.unitOfWork.reader.query<
      { organization_id: string; through: string; checkpoint: string; issued_at: Date; cut: string | null }[]
    >(
      `SELECT o.organization_id, c.sequence AS through, c.checkpoint, c.issued_at,
          CASE WHEN a.removed_through = c.sequence THEN a.cut END AS cut
        FROM organizations o
        JOIN tiers t ON t.name = o.tier
        JOIN audit_trees a ON a.organization_id = o.organization_id
        CROSS JOIN LATERAL (
          SELECT k.sequence, k.checkpoint, k.issued_at FROM audit_checkpoints k
            WHERE k.organization_id = o.organization_id AND k.issued_at < now() - make_interval(
              days => coalesce(o.limit_audit_retention_days, t.audit_retention_days)::integer)
            ORDER BY k.issued_at DESC LIMIT 1) c
        WHERE o.organization_id > $1 AND EXISTS (
          SELECT 1 FROM audit_events e WHERE e.organization_id = o.organization_id AND e.sequence <= c.sequence)
        ORDER BY o.organization_id LIMIT $2`,
      [after, limit],
    );
    return rows.map((row) => ({
      organizationId: row.organization_id,
      through: Number(row.through),
      checkpoint: row.checkpoint,
      issuedAt: row.issued_at,
      cut: row.cut,
    }));
  }

  /**
   * Removes up to `batch` of the oldest events up to `through`, by the owning role's function, in a transaction of its
   * own.
   *
   * @returns how many it removed
   */
  async remove(organizationId: string, through: number, cut: string, batch: number): Promise<number> {
    const rows = await this.unitOfWork.reader.query<{ removed: string }[]>(
      'SELECT remove_audit_prefix($1, $2, $3, $4) AS removed',
      [organizationId, through, cut, batch],
    );
    return Number(rows[0]?.removed ?? 0);
  }
}

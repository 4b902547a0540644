import { Injectable } from '@nestjs/common';
import { StatementPool } from '../platform/database/statement-pool.js';
import type { FailureLimits } from '../platform/config/config.js';

/** A client, as a request names it, and the network that the request came from. */
export interface Source {
  readonly clientId: string;
  readonly network: string;
}

/** A failed authentication. */
export interface Failure extends Source {
  /** Whether there is such a client. */
  readonly known: boolean;
  readonly failedAt: Date;
}

/** Until when somebody has to wait, as it was before a failure; null where nobody has to. */
export interface Waits {
  readonly client: Date | null;
  readonly network: Date | null;
}

const RECORD = {
  name: 'record_authentication_failures',
  text: `SELECT * FROM record_authentication_failures($1::text[], $2::uuid[], $3::boolean[], $4::timestamptz[],
    $5::integer, $6::integer)`,
};

/** Rows are never updated, so that a `ctid` stays the row that it was found as. */
const DELETE_OLD = {
  name: 'delete_authentication_failures',
  text: `WITH deleted AS (
      DELETE FROM authentication_failures WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM authentication_failures WHERE failed_at < $1::timestamptz LIMIT $2::integer))
      RETURNING 1
    )
    SELECT count(*)::integer AS count FROM deleted`,
};

/** All SQL on failed authentications; whether a client waits is read with the client itself. */
@Injectable()
export class FailedAuthenticationsRepository {
  constructor(private readonly statements: StatementPool) {}

  /** Counts failures in one transaction, in the order given; one that had to wait is not counted. */
  async record(failures: readonly Failure[], limits: FailureLimits): Promise<readonly Waits[]> {
    const rows = await this.statements.query<{ client_waits_until: Date | null; network_waits_until: Date | null }>(
      RECORD,
      [
        failures.map(({ network }) => network),
        failures.map(({ clientId }) => clientId),
        failures.map(({ known }) => known),
        failures.map(({ failedAt }) => failedAt.toISOString()),
        limits.perClient,
        limits.perNetwork,
      ],
    );
    return rows.map((row) => ({ client: row.client_waits_until, network: row.network_waits_until }));
  }

  /**
   * Deletes failures that count no longer.
   *
   * @param limit the most that one statement deletes
   * @returns how many it deleted
   */
  async deleteBefore(instant: Date, limit: number): Promise<number> {
    const [row] = await this.statements.query<{ count: number }>(DELETE_OLD, [instant.toISOString(), limit]);
    return row?.count ?? 0;
  }
}

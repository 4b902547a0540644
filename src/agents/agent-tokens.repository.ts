import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';

/** All SQL on the tokens of agents, but for what an act writes with the agent itself. */
@Injectable()
export class AgentTokensRepository {
  /** Ends an agent's tokens with a `jti` below the one given; see the migration that made these columns. */
  async endEarlier(
    transaction: EntityManager,
    organizationId: string,
    agentId: string,
    below: string,
    now: Date,
  ): Promise<void> {
    await transaction.query(
      `UPDATE agents SET generation = generation + 1, revoked_generation = generation + 1,
          revoked_below = greatest(revoked_below, $3::uuid), updated_at = $4
        WHERE organization_id = $1 AND agent_id = $2`,
      [organizationId, agentId, below, now],
    );
  }

  /** Those of `scopes` that some agent of an organization holds. */
  async heldOf(reader: EntityManager, organizationId: string, scopes: readonly string[]): Promise<string[]> {
    const rows = await reader.query<{ scope: string }[]>(
      `SELECT s.name AS scope FROM unnest($2::text[]) AS s (name)
        WHERE EXISTS (SELECT 1 FROM agents a WHERE a.organization_id = $1 AND s.name = ANY (a.scopes)
          AND a.status <> 'decommissioned')`,
      [organizationId, scopes],
    );
    return rows.map(({ scope }) => scope);
  }
}

import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { plainArray } from '../platform/database/array-literal.js';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { BUILT_IN_SCOPE_NAMES, OPERATOR_SCOPE } from '../platform/kernel/scopes.js';
import { MAX_SCOPE_REMOVALS } from './agent-changes.js';
import { AgentEntity, type AgentEnvironment, type AgentStatus } from './agent.entity.js';

/** What a list of agents may be narrowed by. */
export interface AgentFilter {
  readonly status?: AgentStatus;
  readonly type?: string;
  readonly owner?: string;
  readonly environment?: AgentEnvironment;
  /** Labels that an agent must have; `null`: with any value. */
  readonly labels: readonly { readonly key: string; readonly value: string | null }[];
}

/** What an agent is found by. */
export type AgentKey = Pick<AgentEntity, 'organizationId' | 'agentId'>;

/** The place of an agent in the list. */
export interface AgentPosition {
  readonly createdAt: string;
  readonly agentId: string;
}

/** Serializes acts on operators over all organizations. An arbitrary constant. */
const OPERATORS_LOCK = 7_301_100_104;

/** A lookup by the primary key for each pair: LATERAL with LIMIT leaves the planner no other way to join them. */
const READ_AGENTS = {
  name: 'read_agents',
  text: `SELECT t.i::integer AS ordinal, a.organization_id AS "organizationId", a.agent_id AS "agentId", a.name,
        a.description, a.owner, a.type, a.version, a.environment, a.capabilities, a.labels, a.scopes,
        a.token_ttl_seconds AS "tokenTtlSeconds", a.status, a.generation,
        a.valid_from_generation AS "validFromGeneration", a.scope_removals AS "scopeRemovals",
        a.created_at AS "createdAt", a.updated_at AS "updatedAt"
      FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS t (organization, agent, i)
      CROSS JOIN LATERAL (SELECT * FROM agents
        WHERE organization_id = t.organization AND agent_id = t.agent LIMIT 1) a`,
};

/** All SQL on agents. */
@Injectable()
export class AgentsRepository {
  constructor(
    private readonly unitOfWork: UnitOfWork,
    private readonly statements: StatementPool,
  ) {}

  async insert(transaction: EntityManager, agent: AgentEntity): Promise<void> {
    await transaction.insert(AgentEntity, agent);
  }

  async update(transaction: EntityManager, agent: AgentEntity): Promise<void> {
    const { organizationId, agentId, ...columns } = agent;
    await transaction.update(AgentEntity, { organizationId, agentId }, columns);
  }

  /**
   * Takes scopes from every agent of an organization that holds one; their tokens with such a scope are dead from then
   * on. Where an agent's row would have to remember too many, all of its tokens are.
   *
   * @returns how many agents lost one
   */
  async takeScopes(
    transaction: EntityManager,
    organizationId: string,
    scopes: readonly string[],
    now: Date,
  ): Promise<number> {
    const rows = await transaction.query<{ count: string }[]>(
      `WITH changed AS (
        UPDATE agents a SET
          scopes = ARRAY(SELECT u.name FROM unnest(a.scopes) WITH ORDINALITY AS u (name, i)
            WHERE u.name <> ALL ($2::text[]) ORDER BY u.i),
          generation = a.generation + 1,
          scope_removals = a.scope_removals || (SELECT jsonb_object_agg(u.name, a.generation + 1)
            FROM unnest(a.scopes) AS u (name) WHERE u.name = ANY ($2::text[])),
          updated_at = $3
        WHERE a.organization_id = $1 AND a.scopes && $2::text[]
        RETURNING 1
      ) SELECT count(*) AS count FROM changed`,
      [organizationId, scopes, now],
    );
    await transaction.query(
      `UPDATE agents SET valid_from_generation = generation, scope_removals = '{}'
        WHERE organization_id = $1 AND scope_removals <> '{}'
          AND (SELECT count(*) FROM jsonb_object_keys(scope_removals)) > $2`,
      [organizationId, MAX_SCOPE_REMOVALS],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** The agents with the keys, in the order given; null where there is none. One query. */
  async findAll(keys: readonly AgentKey[]): Promise<readonly (AgentEntity | null)[]> {
    const rows = await this.statements.query<AgentEntity & { ordinal: number }>(READ_AGENTS, [
      plainArray(keys.map(({ organizationId }) => organizationId)),
      plainArray(keys.map(({ agentId }) => agentId)),
    ]);
    const found = keys.map((): AgentEntity | null => null);
    for (const { ordinal, ...columns } of rows) found[ordinal - 1] = Object.assign(new AgentEntity(), columns);
    return found;
  }

  find(
    organizationId: string,
    agentId: string,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<AgentEntity | null> {
    return reader.findOneBy(AgentEntity, { organizationId, agentId });
  }

  /** The organization of an agent, for the operator; null where there is no such agent. It never changes. */
  async organizationOf(agentId: string): Promise<string | null> {
    const agent = await this.unitOfWork.reader.findOne(AgentEntity, {
      where: { agentId },
      select: { organizationId: true, agentId: true },
    });
    return agent?.organizationId ?? null;
  }

  /** Up to `limit` agents, newest first, after a position. */
  list(
    organizationId: string,
    filter: AgentFilter,
    after: AgentPosition | undefined,
    limit: number,
  ): Promise<AgentEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(AgentEntity, 'agent')
      .where('agent.organization_id = :organizationId', { organizationId })
      .orderBy('agent.created_at', 'DESC')
      .addOrderBy('agent.agent_id', 'DESC')
      .limit(limit);
    if (after !== undefined) query.andWhere('(agent.created_at, agent.agent_id) < (:createdAt, :agentId)', after);
    if (filter.status !== undefined) query.andWhere('agent.status = :status', { status: filter.status });
    if (filter.type !== undefined) query.andWhere('agent.type = :type', { type: filter.type });
    if (filter.owner !== undefined) query.andWhere('agent.owner = :owner', { owner: filter.owner });
    if (filter.environment !== undefined) {
      query.andWhere('agent.environment = :environment', { environment: filter.environment });
    }
    filter.labels.forEach(({ key, value }, index) => {
      if (value === null) query.andWhere(`jsonb_exists(agent.labels, :key${index})`, { [`key${index}`]: key });
      else query.andWhere(`agent.labels @> :label${index}`, { [`label${index}`]: JSON.stringify({ [key]: value }) });
    });
    return query.getMany();
  }

  /** The agent of an organization that has held the operator's scope the longest and is not decommissioned. */
  findOldestOperator(transaction: EntityManager, organizationId: string): Promise<AgentEntity | null> {
    return transaction
      .createQueryBuilder(AgentEntity, 'agent')
      .where('agent.organization_id = :organizationId', { organizationId })
      .andWhere(`'${OPERATOR_SCOPE}' = ANY (agent.scopes) AND agent.status <> 'decommissioned'`)
      .orderBy('agent.created_at', 'ASC')
      .limit(1)
      .getOne();
  }

  /** How many agents an organization has that are not decommissioned. */
  async count(organizationId: string, reader: EntityManager = this.unitOfWork.reader): Promise<number> {
    const rows = await reader.query<{ count: string }[]>(
      `SELECT count(*) AS count FROM agents WHERE organization_id = $1 AND status <> 'decommissioned'`,
      [organizationId],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /**
   * Whether there is an active agent that holds all built-in scopes, in an active organization, with a credential that
   * works for another day at least. Acts on operators wait for each other, so that two of them cannot both leave the other's operator as the
   * last one.
   */
  async hasUsableOperator(transaction: EntityManager, now: Date): Promise<boolean> {
    await transaction.query('SELECT pg_advisory_xact_lock($1)', [OPERATORS_LOCK]);
    const rows = await transaction.query<{ usable: boolean }[]>(
      `SELECT EXISTS (
        SELECT 1 FROM agents a
          JOIN organizations o ON o.organization_id = a.organization_id AND o.status = 'active'
          JOIN credentials c ON c.organization_id = a.organization_id AND c.agent_id = a.agent_id
            AND c.status = 'active' AND (c.expires_at IS NULL OR c.expires_at > $2::timestamptz + interval '1 day')
          LEFT JOIN federation_partners p ON p.organization_id = c.organization_id AND p.partner_id = c.partner_id
          WHERE '${OPERATOR_SCOPE}' = ANY (a.scopes) AND a.scopes @> $1::text[] AND a.status = 'active'
            AND (p.status = 'active' OR c.partner_id IS NULL)
      ) AS usable`,
      [[...BUILT_IN_SCOPE_NAMES], now],
    );
    return rows[0]?.usable === true;
  }
}

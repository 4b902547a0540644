import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { endTokens } from '../platform/database/token-cut.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { Tier } from '../platform/kernel/tier.js';
import { OrganizationEntity, type OrganizationStatus } from './organization.entity.js';

/** The limits in force: an organization's own where it has them, else its tier's. `null`: no limit. */
export interface OrganizationLimits {
  readonly tier: Tier;
  readonly tokensPerMonth: number | null;
  readonly agents: number | null;
  readonly auditRetentionDays: number | null;
  readonly webhooks: number | null;
}

/** What a list of organizations may be narrowed by. */
export interface OrganizationFilter {
  readonly status?: OrganizationStatus;
  readonly tier?: Tier;
}

/** The place of an organization in the list. */
export interface OrganizationPosition {
  readonly createdAt: string;
  readonly organizationId: string;
}

/** The unique constraint on slugs. */
export const SLUG_KEY = 'organizations_slug_key';

/** Serializes the making of the operator organization over all replicas. An arbitrary constant. */
const OPERATOR_ORGANIZATION_LOCK = 7_301_100_103;

interface LimitsRow {
  tier: Tier;
  tokens: string | null;
  agents: string | null;
  retention: string | null;
  webhooks: string | null;
}

/** All SQL on organizations. */
@Injectable()
export class OrganizationsRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Waits until no other replica makes the operator organization; held until the transaction ends. */
  async lockOperatorOrganization(transaction: EntityManager): Promise<void> {
    await transaction.query('SELECT pg_advisory_xact_lock($1)', [OPERATOR_ORGANIZATION_LOCK]);
  }

  findOperator(reader: EntityManager = this.unitOfWork.reader): Promise<OrganizationEntity | null> {
    return reader.findOneBy(OrganizationEntity, { isOperator: true });
  }

  find(organizationId: string, reader: EntityManager = this.unitOfWork.reader): Promise<OrganizationEntity | null> {
    return reader.findOneBy(OrganizationEntity, { organizationId });
  }

  /** Up to `limit` organizations, newest first, after a position. */
  list(
    filter: OrganizationFilter,
    after: OrganizationPosition | undefined,
    limit: number,
  ): Promise<OrganizationEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(OrganizationEntity, 'organization')
      .orderBy('organization.created_at', 'DESC')
      .addOrderBy('organization.organization_id', 'DESC')
      .limit(limit);
    if (after !== undefined) {
      query.andWhere('(organization.created_at, organization.organization_id) < (:createdAt, :organizationId)', after);
    }
    if (filter.status !== undefined) query.andWhere('organization.status = :status', { status: filter.status });
    if (filter.tier !== undefined) query.andWhere('organization.tier = :tier', { tier: filter.tier });
    return query.getMany();
  }

  /** Inserts an organization and the ledger that its chain and its quota stand in. */
  async insert(transaction: EntityManager, organization: OrganizationEntity, genesis: Buffer): Promise<void> {
    await transaction.insert(OrganizationEntity, organization);
    await transaction.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
      organization.organizationId,
      genesis,
    ]);
  }

  async update(transaction: EntityManager, organization: OrganizationEntity): Promise<void> {
    const { organizationId, ...columns } = organization;
    await transaction.update(OrganizationEntity, { organizationId }, columns);
  }

  /** Up to `limit` organizations behind `after` in the order of their ids. */
  async idsAfter(transaction: EntityManager, after: string, limit: number): Promise<string[]> {
    const rows = await transaction.query<{ id: string }[]>(
      'SELECT organization_id AS id FROM organizations WHERE organization_id > $1 ORDER BY organization_id LIMIT $2',
      [after, limit],
    );
    return rows.map(({ id }) => id);
  }

  /** Moves the generation on, and beyond `floor`. */
  async leapGeneration(transaction: EntityManager, organizationId: string, floor: number): Promise<void> {
    await transaction.query(
      'UPDATE organizations SET generation = greatest(generation, $2) + 1 WHERE organization_id = $1',
      [organizationId, floor],
    );
  }

  /** Ends the tokens of an organization. */
  endTokens(transaction: EntityManager, organizationId: string, issuedBefore: Date | null): Promise<void> {
    return endTokens(transaction, { table: 'organizations', where: { organization_id: organizationId } }, issuedBefore);
  }

  /** The limits in force, or null where there is no such organization. */
  async limits(
    organizationId: string,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<OrganizationLimits | null> {
    const rows = await reader.query<LimitsRow[]>(
      `SELECT o.tier, coalesce(o.limit_tokens_per_month, t.tokens_per_month) AS tokens,
          coalesce(o.limit_agents, t.agents) AS agents,
          coalesce(o.limit_audit_retention_days, t.audit_retention_days) AS retention,
          coalesce(o.limit_webhooks, t.webhooks) AS webhooks
        FROM organizations o JOIN tiers t ON t.name = o.tier WHERE o.organization_id = $1`,
      [organizationId],
    );
    const row = rows[0];
    if (row === undefined) return null;
    return {
      tier: row.tier,
      tokensPerMonth: numberOrNull(row.tokens),
      agents: numberOrNull(row.agents),
      auditRetentionDays: numberOrNull(row.retention),
      webhooks: numberOrNull(row.webhooks),
    };
  }
}

function numberOrNull(value: string | null): number | null {
  return value === null ? null : Number(value);
}

import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { lockOrganization, lockOrganizationFor } from '../platform/database/organization-lock.js';
import { isUniqueViolation } from '../platform/database/sql-errors.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import type {
  CreateOrganizationBody,
  OrganizationLimitsBody,
  UpdateOrganizationBody,
} from './dto/organization.bodies.js';
import type { OrganizationEntity } from './organization.entity.js';
import {
  OrganizationsRepository,
  SLUG_KEY,
  type OrganizationFilter,
  type OrganizationLimits,
} from './organizations.repository.js';

/** From here on the seconds are counted that generations leap to after a restore; they fit a token's nine digits. */
const GENERATIONS_COUNT_FROM_MS = Date.UTC(2026, 0, 1);

/** Looks at the state before an act; what it gives refuses the act, once done, by throwing. */
type ActCheck = (transaction: EntityManager) => Promise<() => Promise<void>>;

/** Tenants, their tier and their limits. */
@Injectable()
export class OrganizationsService {
  private readonly suspensionChecks: ActCheck[] = [];

  constructor(
    private readonly repository: OrganizationsRepository,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
  ) {}

  /** Lets a room below refuse the suspension of an organization, in the suspension's own transaction. */
  aroundSuspension(check: ActCheck): void {
    this.suspensionChecks.push(check);
  }

  /**
   * The operator organization, made where there is none; replicas that start together wait for each other until the
   * transaction ends.
   *
   * @returns its id, and whether this call made it
   */
  async ensureOperator(transaction: EntityManager): Promise<{ organizationId: string; created: boolean }> {
    await this.repository.lockOperatorOrganization(transaction);
    const existing = await this.repository.findOperator(transaction);
    if (existing !== null) return { organizationId: existing.organizationId, created: false };
    const operator = { name: 'Operator', slug: 'operator', tier: 'enterprise' as const };
    const organization = { ...newOrganization(operator, this.clock.now()), isOperator: true };
    await this.insert(transaction, organization, null, NO_ORIGIN);
    return { organizationId: organization.organizationId, created: true };
  }

  /** Lets a suspended operator organization work again. For the operator's commands only. */
  async restoreOperator(transaction: EntityManager): Promise<string> {
    const { organizationId } = await this.ensureOperator(transaction);
    await lockOrganization(transaction, organizationId);
    const organization = await this.repository.find(organizationId, transaction);
    if (organization?.status !== 'suspended') return organizationId;
    organization.status = 'active';
    organization.updatedAt = this.clock.now();
    await this.repository.update(transaction, organization);
    await this.log(transaction, organizationId, 'organization.reactivated', null, NO_ORIGIN, {
      cause: 'operator_reset',
    });
    return organizationId;
  }

  /**
   * Makes an organization.
   *
   * @throws Problem `conflict` where the slug is taken
   */
  async create(caller: Principal, origin: RequestOrigin, body: CreateOrganizationBody): Promise<OrganizationEntity> {
    const organization = newOrganization(body, this.clock.now());
    await refusingTakenSlug(() =>
      this.unitOfWork.run((transaction) => this.insert(transaction, organization, caller.agentId, origin)),
    );
    return organization;
  }

  /** One page of all organizations, newest first. */
  async list(filter: OrganizationFilter, limit: number, cursor: string | undefined): Promise<Page<OrganizationEntity>> {
    const [createdAt, organizationId] =
      cursor === undefined ? [] : decodeCursor('organizations', cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || organizationId === undefined ? undefined : { createdAt, organizationId };
    const found = await this.repository.list(filter, after, limit + 1);
    return pageOf(found, limit, (last) =>
      encodeCursor('organizations', [last.createdAt.toISOString(), last.organizationId]),
    );
  }

  /** @throws Problem `not_found` */
  async read(organizationId: string): Promise<OrganizationEntity> {
    const organization = isUuid(organizationId) ? await this.repository.find(organizationId.toLowerCase()) : null;
    if (organization === null) throw problems.notFound;
    return organization;
  }

  /**
   * Changes an organization; tier and limits hold on the next request.
   *
   * @throws Problem `not_found`, `conflict` where the slug is taken
   */
  update(
    caller: Principal,
    origin: RequestOrigin,
    organizationId: string,
    body: UpdateOrganizationBody,
  ): Promise<OrganizationEntity> {
    return refusingTakenSlug(() =>
      this.act(caller, organizationId, async (transaction, organization) => {
        const { name, slug, tier, limits } = body;
        organization.name = name ?? organization.name;
        organization.slug = slug ?? organization.slug;
        organization.tier = tier ?? organization.tier;
        applyLimits(organization, limits ?? {});
        await this.write(transaction, organization, 'organization.updated', caller, origin, detailsOf(body));
      }),
    );
  }

  /**
   * Suspends an organization: it gets no tokens, and those it has are dead for good.
   *
   * @throws Problem `not_found`, `conflict` from the wrong state or where it has the last usable operator
   */
  suspend(caller: Principal, origin: RequestOrigin, organizationId: string): Promise<OrganizationEntity> {
    return this.act(caller, organizationId, async (transaction, organization) => {
      if (organization.status !== 'active') throw conflict('The organization is suspended already.');
      const checks = [];
      for (const look of this.suspensionChecks) checks.push(await look(transaction));
      organization.status = 'suspended';
      organization.generation += 1;
      await this.write(transaction, organization, 'organization.suspended', caller, origin, {});
      for (const check of checks) await check();
    });
  }

  /**
   * Lets a suspended organization work again. Its tokens from before stay dead.
   *
   * @throws Problem `not_found`, `conflict`
   */
  reactivate(caller: Principal, origin: RequestOrigin, organizationId: string): Promise<OrganizationEntity> {
    return this.act(caller, organizationId, async (transaction, organization) => {
      if (organization.status !== 'suspended') throw conflict('The organization is not suspended.');
      organization.status = 'active';
      await this.write(transaction, organization, 'organization.reactivated', caller, origin, {});
    });
  }

  /**
   * Ends all tokens of some organizations because the database was restored from a backup, and tells of it in their
   * logs: those issued before the backup, of which nobody knows any more which were revoked since, and those issued
   * after it, of which nothing is known at all.
   *
   * Generations given out after the backup are lost with it, and would be given out once more. So the new generation is
   * one that was never: it counts the seconds, which no number of suspensions keeps up with.
   *
   * @param takenAt when the backup was taken, ISO 8601; null where that is not known
   * @param after behind which organization to begin, in the order of ids
   * @param limit how many at most
   * @returns the last organization that was done; null where there are no more
   */
  async restart(takenAt: string | null, after: string, limit: number): Promise<string | null> {
    return this.unitOfWork.run(async (transaction) => {
      const ids = await this.repository.idsAfter(transaction, after, limit);
      const floor = Math.floor((this.clock.nowMs() - GENERATIONS_COUNT_FROM_MS) / 1000);
      for (const organizationId of ids) {
        await lockOrganization(transaction, organizationId);
        await this.repository.leapGeneration(transaction, organizationId, floor);
        const lastSequence = await this.audit.headSequence(organizationId, transaction);
        const details = { backupTakenAt: takenAt, lastSequence };
        await this.log(transaction, organizationId, 'organization.restored', null, NO_ORIGIN, details);
      }
      return ids.at(-1) ?? null;
    });
  }

  /**
   * Ends the tokens that an organization's agents have been issued so far, in one write, for a room below, which holds
   * the organization's lock and tells of it.
   *
   * @param issuedBefore only those issued before this instant; null: all
   */
  endTokens(transaction: EntityManager, organizationId: string, issuedBefore: Date | null): Promise<void> {
    return this.repository.endTokens(transaction, organizationId, issuedBefore);
  }

  /**
   * The limits in force for an organization.
   *
   * @param reader the transaction, where they are to be enforced under the organization's lock
   * @throws Problem `not_found`
   */
  async limits(organizationId: string, reader?: EntityManager): Promise<OrganizationLimits> {
    const limits = await this.repository.limits(organizationId, reader);
    if (limits === null) throw problems.notFound;
    return limits;
  }

  /** Runs an act on an organization in one transaction, under its lock. */
  private async act(
    caller: Principal,
    organizationId: string,
    work: (transaction: EntityManager, organization: OrganizationEntity) => Promise<void>,
  ): Promise<OrganizationEntity> {
    if (!isUuid(organizationId)) throw problems.notFound;
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId.toLowerCase());
      const organization = await this.repository.find(organizationId.toLowerCase(), transaction);
      if (organization === null) throw problems.notFound;
      await work(transaction, organization);
      return organization;
    });
  }

  private async insert(
    transaction: EntityManager,
    organization: OrganizationEntity,
    actor: string | null,
    origin: RequestOrigin,
  ): Promise<void> {
    const { organizationId, name, slug, tier } = organization;
    await this.repository.insert(transaction, organization, this.audit.genesis(organizationId));
    await this.log(transaction, organizationId, 'organization.created', actor, origin, { name, slug, tier });
  }

  private async write(
    transaction: EntityManager,
    organization: OrganizationEntity,
    action: AuditAction,
    caller: Principal,
    origin: RequestOrigin,
    details: Record<string, AuditDetail>,
  ): Promise<void> {
    organization.updatedAt = this.clock.now();
    await this.repository.update(transaction, organization);
    await this.log(transaction, organization.organizationId, action, caller.agentId, origin, details);
  }

  private async log(
    transaction: EntityManager,
    organizationId: string,
    action: AuditAction,
    actor: string | null,
    origin: RequestOrigin,
    details: Record<string, AuditDetail>,
  ): Promise<void> {
    const target = { type: 'organization', id: organizationId };
    await this.audit.append(transaction, {
      organizationId,
      action,
      outcome: 'success',
      actor,
      target,
      origin,
      details,
    });
  }
}

function newOrganization(body: CreateOrganizationBody, now: Date): OrganizationEntity {
  const organization: OrganizationEntity = {
    organizationId: randomUUID(),
    name: body.name,
    slug: body.slug,
    tier: body.tier ?? 'free',
    status: 'active',
    isOperator: false,
    generation: 1,
    limitTokensPerMonth: null,
    limitAgents: null,
    limitAuditRetentionDays: null,
    limitWebhooks: null,
    createdAt: now,
    updatedAt: now,
  };
  applyLimits(organization, body.limits ?? {});
  return organization;
}

/** Merges limits: null goes back to the tier's, a member that is left out stays. */
function applyLimits(organization: OrganizationEntity, limits: OrganizationLimitsBody): void {
  const { tokensPerMonth, agents, auditRetentionDays, webhooks } = limits;
  if (tokensPerMonth !== undefined) organization.limitTokensPerMonth = tokensPerMonth;
  if (agents !== undefined) organization.limitAgents = agents;
  if (auditRetentionDays !== undefined) organization.limitAuditRetentionDays = auditRetentionDays;
  if (webhooks !== undefined) organization.limitWebhooks = webhooks;
}

function detailsOf({ name, slug, tier, limits }: UpdateOrganizationBody): Record<string, AuditDetail> {
  return {
    ...(name === undefined ? {} : { name }),
    ...(slug === undefined ? {} : { slug }),
    ...(tier === undefined ? {} : { tier }),
    ...(limits === undefined ? {} : { limits: present(limits) }),
  };
}

function present(limits: OrganizationLimitsBody): Record<string, AuditDetail> {
  return Object.fromEntries(
    Object.entries(limits).filter((entry): entry is [string, number | null] => entry[1] !== undefined),
  );
}

async function refusingTakenSlug<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // TypeORM wraps the driver's error and copies its members.
    if (isUniqueViolation(error, SLUG_KEY)) throw conflict('The slug is taken.');
    throw error;
  }
}

function conflict(detail: string) {
  return problems.conflict.withDetail(detail);
}

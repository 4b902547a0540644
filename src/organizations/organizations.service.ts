import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Clock } from '../platform/kernel/clock.js';
import { NO_ORIGIN } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import type { OrganizationEntity } from './organization.entity.js';
import { OrganizationsRepository, type OrganizationLimits } from './organizations.repository.js';

export type { Tier } from './organization.entity.js';

/** Tenants, their tier and their limits. */
@Injectable()
export class OrganizationsService {
  constructor(
    private readonly repository: OrganizationsRepository,
    private readonly audit: AuditService,
    private readonly clock: Clock,
  ) {}

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
    const now = this.clock.now();
    const organization: OrganizationEntity = {
      organizationId: randomUUID(),
      name: 'Operator',
      slug: 'operator',
      tier: 'enterprise',
      status: 'active',
      isOperator: true,
      generation: 1,
      createdAt: now,
      updatedAt: now,
    };
    await this.insert(transaction, organization);
    return { organizationId: organization.organizationId, created: true };
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

  private async insert(transaction: EntityManager, organization: OrganizationEntity): Promise<void> {
    const { organizationId, name, slug, tier } = organization;
    await this.repository.insert(transaction, organization, this.audit.genesis(organizationId));
    await this.audit.append(transaction, {
      organizationId,
      action: 'organization.created',
      outcome: 'success',
      actor: null,
      target: { type: 'organization', id: organizationId },
      origin: NO_ORIGIN,
      details: { name, slug, tier },
    });
  }
}

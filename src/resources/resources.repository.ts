import { Injectable } from '@nestjs/common';
import { In, type EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { ScopeAudience } from '../platform/kernel/client.js';
import { ResourceScopeEntity, ResourceServerEntity, type ResourceServer } from './resource-server.entity.js';

/** The unique constraint on identifiers, whatever their spelling. */
export const IDENTIFIER_KEY = 'resource_servers_identifier_key';

/** The place of a resource server in the list. */
export interface ResourcePosition {
  readonly createdAt: string;
  readonly resourceId: string;
}

interface AudienceRow {
  name: string;
  identifier: string;
  token_ttl_seconds: number | null;
}

/** All SQL on resource servers and their scopes. */
@Injectable()
export class ResourcesRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** Inserts a resource server with its scopes. */
  async insert(transaction: EntityManager, resource: ResourceServer): Promise<void> {
    const { scopes: _, ...columns } = resource;
    await transaction.insert(ResourceServerEntity, columns);
    await this.insertScopes(transaction, resource);
  }

  /** Writes a resource server and its scopes as they are now. */
  async update(transaction: EntityManager, resource: ResourceServer): Promise<void> {
    const { organizationId, resourceId, name, tokenTtlSeconds, updatedAt } = resource;
    const changed = { name, tokenTtlSeconds, updatedAt };
    await transaction.update(ResourceServerEntity, { organizationId, resourceId }, changed);
    await transaction.delete(ResourceScopeEntity, { organizationId, resourceId });
    await this.insertScopes(transaction, resource);
  }

  /**
   * Reserves an identifier for an organization for good.
   *
   * @returns false where another organization has or had it
   */
  async reserveIdentifier(transaction: EntityManager, organizationId: string, key: string): Promise<boolean> {
    await transaction.query(
      'INSERT INTO resource_identifiers (identifier_key, organization_id) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      [key, organizationId],
    );
    const rows = await transaction.query<unknown[]>(
      'SELECT 1 FROM resource_identifiers WHERE identifier_key = $1 AND organization_id = $2',
      [key, organizationId],
    );
    return rows.length === 1;
  }

  /** Deletes a resource server with its scopes. Its identifier stays reserved. */
  async delete(transaction: EntityManager, { organizationId, resourceId }: ResourceServer): Promise<void> {
    await transaction.delete(ResourceServerEntity, { organizationId, resourceId });
  }

  async find(
    organizationId: string,
    resourceId: string,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<ResourceServer | null> {
    const server = await reader.findOneBy(ResourceServerEntity, { organizationId, resourceId });
    return server === null ? null : ((await this.withScopes(reader, organizationId, [server]))[0] ?? null);
  }

  /** The organization of a resource server, for the operator; null where there is none. It never changes. */
  async organizationOf(resourceId: string): Promise<string | null> {
    const server = await this.unitOfWork.reader.findOneBy(ResourceServerEntity, { resourceId });
    return server?.organizationId ?? null;
  }

  /** Up to `limit` resource servers of an organization, newest first, after a position. */
  async list(organizationId: string, after: ResourcePosition | undefined, limit: number): Promise<ResourceServer[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(ResourceServerEntity, 'resource')
      .where('resource.organization_id = :organizationId', { organizationId })
      .orderBy('resource.created_at', 'DESC')
      .addOrderBy('resource.resource_id', 'DESC')
      .limit(limit);
    if (after !== undefined) {
      query.andWhere('(resource.created_at, resource.resource_id) < (:createdAt, :resourceId)', after);
    }
    return this.withScopes(this.unitOfWork.reader, organizationId, await query.getMany());
  }

  /** Whether an organization has a resource server with exactly this identifier. */
  identifierExists(organizationId: string, identifier: string): Promise<boolean> {
    return this.unitOfWork.reader.existsBy(ResourceServerEntity, { organizationId, identifier });
  }

  /** The resource servers of those of `names` that an organization's resource servers declare. */
  async audiences(organizationId: string, names: readonly string[]): Promise<ScopeAudience[]> {
    const rows = await this.unitOfWork.reader.query<AudienceRow[]>(
      `SELECT s.name, r.identifier, r.token_ttl_seconds
        FROM resource_scopes s
        JOIN resource_servers r ON r.organization_id = s.organization_id AND r.resource_id = s.resource_id
        WHERE s.organization_id = $1 AND s.name = ANY ($2::text[])`,
      [organizationId, names],
    );
    return rows.map((row) => ({ scope: row.name, identifier: row.identifier, ttlSeconds: row.token_ttl_seconds }));
  }

  /** How many resource servers an organization has. */
  count(transaction: EntityManager, organizationId: string): Promise<number> {
    return transaction.countBy(ResourceServerEntity, { organizationId });
  }

  /** Those of `names` that resource servers of an organization declare. */
  async declared(transaction: EntityManager, organizationId: string, names: readonly string[]): Promise<Set<string>> {
    const found = await transaction.findBy(ResourceScopeEntity, { organizationId, name: In([...names]) });
    return new Set(found.map(({ name }) => name));
  }

  /** The first of `names` that another resource server of the organization declares, whatever its case. */
  async takenElsewhere(
    transaction: EntityManager,
    { organizationId, resourceId }: ResourceServer,
    names: readonly string[],
  ): Promise<string | null> {
    const found = await transaction
      .createQueryBuilder(ResourceScopeEntity, 'scope')
      .where('scope.organization_id = :organizationId', { organizationId })
      .andWhere('scope.resource_id <> :resourceId', { resourceId })
      .andWhere('lower(scope.name) = ANY (:names)', { names: names.map((name) => name.toLowerCase()) })
      .getOne();
    return found?.name ?? null;
  }

  private async insertScopes(transaction: EntityManager, resource: ResourceServer): Promise<void> {
    const { organizationId, resourceId, scopes } = resource;
    const rows = scopes.map(({ name, description }, position) => ({
      organizationId,
      resourceId,
      name,
      description,
      position,
    }));
    if (rows.length > 0) await transaction.insert(ResourceScopeEntity, rows);
  }

  private async withScopes(
    reader: EntityManager,
    organizationId: string,
    servers: readonly ResourceServerEntity[],
  ): Promise<ResourceServer[]> {
    if (servers.length === 0) return [];
    const scopes = await reader.find(ResourceScopeEntity, {
      where: { organizationId, resourceId: In(servers.map(({ resourceId }) => resourceId)) },
      order: { position: 'ASC' },
    });
    return servers.map((server) => ({
      ...server,
      scopes: scopes
        .filter(({ resourceId }) => resourceId === server.resourceId)
        .map(({ name, description }) => ({ name, description })),
    }));
  }
}

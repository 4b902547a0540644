import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Config } from '../platform/config/config.js';
import { lockOrganizationFor } from '../platform/database/organization-lock.js';
import { isUniqueViolation } from '../platform/database/sql-errors.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import type { ScopeAudience } from '../platform/kernel/client.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { isOperator, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { BUILT_IN_SCOPE_NAMES } from '../platform/kernel/scopes.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import type { CreateResourceBody, ResourceScopeBody, UpdateResourceBody } from './dto/resource.bodies.js';
import { identifierKey } from './identifier-key.js';
import type { ResourceServer } from './resource-server.entity.js';
import { IDENTIFIER_KEY, ResourcesRepository } from './resources.repository.js';

/** Takes scopes from whoever holds them, in the transaction that removes them; answers how many lost one. */
type ScopesRemoved = (
  transaction: EntityManager,
  organizationId: string,
  scopes: readonly string[],
  now: Date,
) => Promise<number>;

/** Resource servers of one organization: a bound, not a product limit. */
const MAX_RESOURCES = 1000;
const BUILT_IN_NAMES: ReadonlySet<string> = new Set(BUILT_IN_SCOPE_NAMES.map((name) => name.toLowerCase()));

const identifierTaken = problems.conflict.withDetail('The identifier is taken.');

/** The APIs that organizations protect with our tokens, and the scopes that they declare. */
@Injectable()
export class ResourcesService {
  private takeScopes: ScopesRemoved = () => Promise.reject(new Error('nobody takes removed scopes from their holders'));

  constructor(
    private readonly repository: ResourcesRepository,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /** Tells the room whose agents hold scopes what to do when scopes are removed. */
  whenScopesAreRemoved(take: ScopesRemoved): void {
    this.takeScopes = take;
  }

  /**
   * Registers a resource server in the caller's organization, or, for the operator, in the one that the body names.
   *
   * @throws Problem `validation_failed`, `insufficient_scope`, `not_found`, `limit_reached`, `conflict` where the
   *   identifier is taken in the installation or a scope's name in the organization
   */
  async create(caller: Principal, origin: RequestOrigin, body: CreateResourceBody): Promise<ResourceServer> {
    const organizationId = organizationFor(caller, body.organizationId);
    this.refuseOwnIdentifier(body.identifier);
    refuseScopeNames(body.scopes ?? []);
    return refusingTakenIdentifier(() =>
      this.unitOfWork.run(async (transaction) => {
        if (!(await lockOrganizationFor(transaction, caller, organizationId))) throw problems.notFound;
        await this.requireRoom(transaction, organizationId);
        const resource = newResource(organizationId, body, this.clock.now());
        const { identifierKey: key } = resource;
        if (!(await this.repository.reserveIdentifier(transaction, organizationId, key))) throw identifierTaken;
        await this.refuseTakenScopes(transaction, resource);
        await this.repository.insert(transaction, resource);
        await this.log(transaction, resource, 'resource.created', caller, origin, {
          identifier: resource.identifier,
          scopes: namesOf(resource),
        });
        return resource;
      }),
    );
  }

  /** One page of an organization's resource servers, newest first. */
  async list(
    caller: Principal,
    organizationId: string | undefined,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<ResourceServer>> {
    const organization = organizationFor(caller, organizationId);
    const list = `resources:${organization}`;
    const [createdAt, resourceId] = cursor === undefined ? [] : decodeCursor(list, cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || resourceId === undefined ? undefined : { createdAt, resourceId };
    const found = await this.repository.list(organization, after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.resourceId]));
  }

  /**
   * One resource server of the caller's organization; the operator reads any.
   *
   * @throws Problem `not_found`
   */
  async read(caller: Principal, resourceId: string): Promise<ResourceServer> {
    const organizationId = await this.organizationOf(caller, resourceId);
    const resource = await this.repository.find(organizationId, resourceId.toLowerCase());
    if (resource === null) throw problems.notFound;
    return resource;
  }

  /**
   * Changes a resource server. Scopes that it no longer declares are taken from the agents that hold them; tokens with
   * such a scope are inactive from then on.
   *
   * @throws Problem `not_found`, `validation_failed`, `conflict`
   */
  update(
    caller: Principal,
    origin: RequestOrigin,
    resourceId: string,
    body: UpdateResourceBody,
  ): Promise<ResourceServer> {
    refuseScopeNames(body.scopes ?? []);
    return this.act(caller, resourceId, async (transaction, before) => {
      const after: ResourceServer = {
        ...before,
        name: body.name ?? before.name,
        scopes: body.scopes?.map(({ name, description }) => ({ name, description })) ?? before.scopes,
        tokenTtlSeconds: body.tokenTtlSeconds === undefined ? before.tokenTtlSeconds : body.tokenTtlSeconds,
        updatedAt: this.clock.now(),
      };
      await this.refuseTakenScopes(transaction, after);
      await this.repository.update(transaction, after);
      const kept = new Set(namesOf(after));
      const removed = namesOf(before).filter((name) => !kept.has(name));
      const details = {
        scopes: namesOf(after),
        scopesRemoved: removed,
        agentsAffected: await this.removeScopes(transaction, after, removed),
      };
      await this.log(transaction, after, 'resource.updated', caller, origin, details);
      return after;
    });
  }

  /**
   * Deletes a resource server: its scopes are taken from the agents, and tokens that hold one are inactive from then on.
   *
   * @throws Problem `not_found`
   */
  async delete(caller: Principal, origin: RequestOrigin, resourceId: string): Promise<void> {
    await this.act(caller, resourceId, async (transaction, resource) => {
      const removed = namesOf(resource);
      await this.repository.delete(transaction, resource);
      const agentsAffected = await this.removeScopes(transaction, resource, removed);
      const details = { identifier: resource.identifier, scopesRemoved: removed, agentsAffected };
      await this.log(transaction, resource, 'resource.deleted', caller, origin, details);
    });
  }

  /** Those of `names` that resource servers of an organization declare, under its lock. */
  declaredScopes(
    transaction: EntityManager,
    organizationId: string,
    names: readonly string[],
  ): Promise<ReadonlySet<string>> {
    return this.repository.declared(transaction, organizationId, names);
  }

  /** Whether an organization has a resource server with exactly this identifier. */
  exists(organizationId: string, identifier: string): Promise<boolean> {
    return this.repository.identifierExists(organizationId, identifier);
  }

  /** The resource servers that scopes of an organization belong to; those that are not here are built-in. */
  audiences(organizationId: string, scopes: readonly string[]): Promise<readonly ScopeAudience[]> {
    return this.repository.audiences(organizationId, scopes);
  }

  private async removeScopes(
    transaction: EntityManager,
    { organizationId }: ResourceServer,
    removed: readonly string[],
  ): Promise<number> {
    return removed.length === 0 ? 0 : this.takeScopes(transaction, organizationId, removed, this.clock.now());
  }

  /** Runs an act on a resource server in one transaction, under the lock of its organization. */
  private async act<T>(
    caller: Principal,
    resourceId: string,
    work: (transaction: EntityManager, resource: ResourceServer) => Promise<T>,
  ): Promise<T> {
    const organizationId = await this.organizationOf(caller, resourceId);
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId);
      const resource = await this.repository.find(organizationId, resourceId.toLowerCase(), transaction);
      if (resource === null) throw problems.notFound;
      return work(transaction, resource);
    });
  }

  private async organizationOf(caller: Principal, resourceId: string): Promise<string> {
    if (!isUuid(resourceId)) throw problems.notFound;
    if (!isOperator(caller)) return caller.organizationId;
    const organizationId = await this.repository.organizationOf(resourceId.toLowerCase());
    if (organizationId === null) throw problems.notFound;
    return organizationId;
  }

  /** Our own API is nobody's resource server: its audience is the issuer. */
  private refuseOwnIdentifier(identifier: string): void {
    if (identifierKey(identifier) !== identifierKey(this.config.tokens.issuer)) return;
    throw problems.validationFailed.withErrors({ pointer: '/identifier', detail: 'is the issuer itself' });
  }

  private async refuseTakenScopes(transaction: EntityManager, resource: ResourceServer): Promise<void> {
    const taken = await this.repository.takenElsewhere(transaction, resource, namesOf(resource));
    if (taken === null) return;
    throw problems.conflict.withDetail(`Another resource server of the organization declares the scope ${taken}.`);
  }

  private async requireRoom(transaction: EntityManager, organizationId: string): Promise<void> {
    const used = await this.repository.count(transaction, organizationId);
    if (used < MAX_RESOURCES) return;
    throw problems.limitReached
      .withDetail(`An organization may have ${MAX_RESOURCES} resource servers.`)
      .withExtensions({ limit: MAX_RESOURCES, used });
  }

  private async log(
    transaction: EntityManager,
    { organizationId, resourceId }: ResourceServer,
    action: AuditAction,
    caller: Principal,
    origin: RequestOrigin,
    details: Record<string, AuditDetail>,
  ): Promise<void> {
    const target = { type: 'resource', id: resourceId };
    const actor = caller.agentId;
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

function namesOf({ scopes }: ResourceServer): string[] {
  return scopes.map(({ name }) => name);
}

function newResource(organizationId: string, body: CreateResourceBody, now: Date): ResourceServer {
  return {
    organizationId,
    resourceId: randomUUID(),
    identifier: body.identifier,
    identifierKey: identifierKey(body.identifier),
    name: body.name,
    scopes: (body.scopes ?? []).map(({ name, description }) => ({ name, description })),
    tokenTtlSeconds: body.tokenTtlSeconds ?? null,
    createdAt: now,
    updatedAt: now,
  };
}

/** A scope is no built-in one and stands once in the list, whatever its case. */
function refuseScopeNames(scopes: readonly ResourceScopeBody[]): void {
  const seen = new Set<string>();
  const faults = scopes.flatMap(({ name }, index) => {
    const key = name.toLowerCase();
    const detail = BUILT_IN_NAMES.has(key) ? 'is a built-in scope' : seen.has(key) ? 'is declared twice' : null;
    seen.add(key);
    return detail === null ? [] : [{ pointer: `/scopes/${index}/name`, detail }];
  });
  if (faults.length > 0) throw problems.validationFailed.withErrors(...faults);
}

async function refusingTakenIdentifier<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isUniqueViolation(error, IDENTIFIER_KEY)) throw identifierTaken;
    throw error;
  }
}

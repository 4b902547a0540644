import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AgentsService } from '../agents/agents.service.js';
import { AuditService } from '../audit/audit.service.js';
import { Config } from '../platform/config/config.js';
import { lockOrganizationFor } from '../platform/database/organization-lock.js';
import { isUniqueViolation } from '../platform/database/sql-errors.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor, INSTANT } from '../platform/kernel/cursor.js';
import { requireBuiltInScopes } from '../platform/kernel/grants.js';
import { isOperator, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import type { CreatePartnerBody, UpdatePartnerBody } from './dto/partner.bodies.js';
import { KeyDocuments } from './key-documents.js';
import { issuerFaults, jwksUriFaults, readJwks } from './partner-trust.js';
import type { PartnerEntity } from './partner.entity.js';
import { ISSUER_KEY, PartnersRepository } from './partners.repository.js';

export type { PartnerEntity } from './partner.entity.js';

/** Partners of one organization: a bound, not a product limit. */
const MAX_PARTNERS = 500;

/** What hangs on a partner in a room below. */
export interface PartnerDependants {
  /** All scopes of the agents that the partner's assertions prove. */
  scopes(transaction: EntityManager, partner: PartnerEntity): Promise<readonly string[]>;
  /** Ends their identities and the tokens that these earned; answers how many there were. */
  end(transaction: EntityManager, partner: PartnerEntity, now: Date): Promise<number>;
}

type PartnerAct<T> = (transaction: EntityManager, partner: PartnerEntity) => Promise<T>;

/** The issuers whose assertions prove agents. */
@Injectable()
export class PartnersService {
  private dependants: PartnerDependants | null = null;

  constructor(
    private readonly repository: PartnersRepository,
    private readonly documents: KeyDocuments,
    private readonly agents: AgentsService,
    private readonly audit: AuditService,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /** Tells of the room whose identities hang on partners. */
  dependedOnBy(dependants: PartnerDependants): void {
    this.dependants = dependants;
  }

  /**
   * Makes a partner of the caller's organization, or of the one that the body names.
   *
   * @throws Problem `validation_failed`, `not_found`, `limit_reached`, `conflict` where the organization has a partner
   *   with the issuer
   */
  async create(caller: Principal, origin: RequestOrigin, body: CreatePartnerBody): Promise<PartnerEntity> {
    const organizationId = organizationFor(caller, body.organizationId);
    const now = this.clock.now();
    const partner: PartnerEntity = {
      organizationId,
      partnerId: randomUUID(),
      name: body.name,
      issuer: body.issuer,
      jwksUri: null,
      jwks: null,
      audience: body.audience ?? null,
      algorithms: body.algorithms ?? null,
      singleUse: body.singleUse ?? false,
      status: body.status ?? 'active',
      createdAt: now,
      updatedAt: now,
    };
    this.applyKeys(partner, body);
    const discovers = partner.jwksUri === null && partner.jwks === null;
    const faults = issuerFaults(body.issuer, this.config.tokens.issuer, discovers, (url) => this.documents.fault(url));
    if (faults.length > 0) throw problems.validationFailed.withErrors(...faults);
    return refusingTakenIssuer(() =>
      this.unitOfWork.run(async (transaction) => {
        if (!(await lockOrganizationFor(transaction, caller, organizationId))) throw problems.notFound;
        await this.requireRoom(transaction, organizationId);
        await this.repository.insert(transaction, partner);
        await this.log(transaction, partner, 'federation.partner_created', caller, origin, { status: partner.status });
        return partner;
      }),
    );
  }

  /** One page of an organization's partners, newest first. */
  async list(
    caller: Principal,
    organizationId: string | undefined,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<PartnerEntity>> {
    const organization = organizationFor(caller, organizationId);
    const list = `partners:${organization}`;
    const [createdAt, partnerId] = cursor === undefined ? [] : decodeCursor(list, cursor, [INSTANT, LOWER_CASE_UUID]);
    const after = createdAt === undefined || partnerId === undefined ? undefined : { createdAt, partnerId };
    const found = await this.repository.list(organization, after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.partnerId]));
  }

  /**
   * One partner of the caller's organization; the operator reads any.
   *
   * @throws Problem `not_found`
   */
  async read(caller: Principal, partnerId: string): Promise<PartnerEntity> {
    const organizationId = await this.organizationOf(caller, partnerId);
    const partner = await this.repository.find(organizationId, partnerId.toLowerCase());
    if (partner === null) throw problems.notFound;
    return partner;
  }

  /**
   * Changes a partner; it holds on the next request to any replica. Whoever changes what a partner's assertions are
   * checked against manages the agents that they prove, so it takes all the built-in scopes of these.
   *
   * @throws Problem `not_found`, `validation_failed`, `insufficient_scope`, `conflict` where it would leave no usable
   *   operator
   */
  update(caller: Principal, origin: RequestOrigin, partnerId: string, body: UpdatePartnerBody): Promise<PartnerEntity> {
    return this.change(caller, partnerId, async (transaction, partner) => {
      const { jwks, jwksUri, ...rest } = body;
      this.applyKeys(partner, {
        ...(jwks === undefined ? {} : { jwks }),
        ...(jwksUri === undefined ? {} : { jwksUri }),
      });
      const named = Object.entries(rest).filter(([, value]) => value !== undefined);
      Object.assign(partner, Object.fromEntries(named), { updatedAt: this.clock.now() });
      // Only where that changes: a partner that cannot be reached any more can still be disabled.
      if (jwks !== undefined || jwksUri !== undefined) this.requireDiscoverable(partner);
      await this.repository.update(transaction, partner);
      const changed = Object.entries(body)
        .filter(([, value]) => value !== undefined)
        .map(([name]) => name)
        .sort();
      const details = { changed, status: partner.status };
      await this.log(transaction, partner, 'federation.partner_updated', caller, origin, details);
      return partner;
    });
  }

  /**
   * Deletes a partner with its identities; the tokens that these earned are dead.
   *
   * @throws Problem `not_found`, `insufficient_scope`, `conflict` where it would leave no usable operator
   */
  async delete(caller: Principal, origin: RequestOrigin, partnerId: string): Promise<void> {
    await this.change(caller, partnerId, async (transaction, partner) => {
      const identitiesRemoved = (await this.dependants?.end(transaction, partner, this.clock.now())) ?? 0;
      await this.repository.delete(transaction, partner);
      await this.log(transaction, partner, 'federation.partner_deleted', caller, origin, { identitiesRemoved });
    });
  }

  /** A partner under the organization's lock, which the caller holds; null where the organization has none such. */
  find(transaction: EntityManager, organizationId: string, partnerId: string): Promise<PartnerEntity | null> {
    return this.repository.find(organizationId, partnerId, transaction);
  }

  /** The partner of an organization with exactly this issuer; null where there is none. */
  withIssuer(organizationId: string, issuer: string): Promise<PartnerEntity | null> {
    return this.repository.findByIssuer(organizationId, issuer);
  }

  /** Runs an act on a partner in one transaction, under the lock of its organization. */
  private async change<T>(caller: Principal, partnerId: string, act: PartnerAct<T>): Promise<T> {
    const organizationId = await this.organizationOf(caller, partnerId);
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId);
      const partner = await this.repository.find(organizationId, partnerId.toLowerCase(), transaction);
      if (partner === null) throw problems.notFound;
      requireBuiltInScopes(caller, (await this.dependants?.scopes(transaction, partner)) ?? []);
      const refuseWhereNoneIsLeft = await this.agents.watchOperators(transaction);
      const result = await act(transaction, partner);
      await refuseWhereNoneIsLeft();
      return result;
    });
  }

  /** Puts on a partner where its keys are: the one replaces the other, and null is discovery. */
  private applyKeys(partner: PartnerEntity, { jwks, jwksUri }: Pick<UpdatePartnerBody, 'jwks' | 'jwksUri'>): void {
    const [given, uri] = [jwks ?? null, jwksUri ?? null];
    if (given !== null && uri !== null) {
      throw problems.validationFailed.withErrors({ pointer: '/jwks', detail: 'cannot stand beside jwksUri' });
    }
    const read = given === null ? null : readJwks(given);
    const faults = [
      ...(read?.faults ?? []),
      ...(uri === null ? [] : jwksUriFaults(uri, (url) => this.documents.fault(url))),
    ];
    if (faults.length > 0) throw problems.validationFailed.withErrors(...faults);
    if (jwks !== undefined || uri !== null) partner.jwks = read?.keys ?? null;
    if (jwksUri !== undefined || given !== null) partner.jwksUri = uri;
  }

  private requireDiscoverable({ issuer, jwks, jwksUri }: PartnerEntity): void {
    const detail = jwks === null && jwksUri === null ? this.documents.fault(issuer) : null;
    if (detail !== null)
      throw problems.validationFailed.withErrors({ pointer: '/jwksUri', detail: `issuer ${detail}` });
  }

  /** The organization in which the caller may reach a partner. */
  private async organizationOf(caller: Principal, partnerId: string): Promise<string> {
    if (!isUuid(partnerId)) throw problems.notFound;
    if (!isOperator(caller)) return caller.organizationId;
    const organizationId = await this.repository.organizationOf(partnerId.toLowerCase());
    if (organizationId === null) throw problems.notFound;
    return organizationId;
  }

  private async requireRoom(transaction: EntityManager, organizationId: string): Promise<void> {
    const used = await this.repository.count(transaction, organizationId);
    if (used < MAX_PARTNERS) return;
    throw problems.limitReached
      .withDetail(`An organization may have ${MAX_PARTNERS} partners.`)
      .withExtensions({ limit: MAX_PARTNERS, used });
  }

  private async log(
    transaction: EntityManager,
    { organizationId, partnerId, issuer }: PartnerEntity,
    action: AuditAction,
    caller: Principal,
    origin: RequestOrigin,
    details: Record<string, AuditDetail>,
  ): Promise<void> {
    await this.audit.append(transaction, {
      organizationId,
      action,
      outcome: 'success',
      actor: caller.agentId,
      target: { type: 'partner', id: partnerId },
      origin,
      details: { issuer, ...details },
    });
  }
}

async function refusingTakenIssuer<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isUniqueViolation(error, ISSUER_KEY)) throw error;
    throw problems.conflict.withDetail('The organization has a partner with this issuer.');
  }
}

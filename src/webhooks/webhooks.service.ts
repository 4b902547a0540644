import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { CheckpointsService } from '../evidence/checkpoints.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { lockOrganization, lockOrganizationFor } from '../platform/database/organization-lock.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { pageOf, type Page } from '../platform/http/page.js';
import type { AuditAction, AuditDetail } from '../platform/kernel/audit-event.js';
import { Clock } from '../platform/kernel/clock.js';
import { decodeCursor, encodeCursor } from '../platform/kernel/cursor.js';
import { isOperator, NO_ORIGIN, type Principal, type RequestOrigin } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { isUuid, LOWER_CASE_UUID } from '../platform/kernel/uuid.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import type { CreateWebhookBody, RotateSigningSecretBody, UpdateWebhookBody } from './dto/webhook.bodies.js';
import { namesCheckpoints } from './event-patterns.js';
import type { LanePlace } from './lane-feed.js';
import { SigningKeys } from './signing-keys.js';
import { WebhookCaller } from './webhook-caller.js';
import type { DisabledReason, WebhookEntity } from './webhook.entity.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** How long the old secret signs too unless the caller says otherwise, in seconds. */
const DEFAULT_OVERLAP_SECONDS = 86_400;
/** Deliveries that are given up together with their subscription; the rest is swept up afterwards. */
const MAX_GIVEN_UP = 5000;

/** A subscription and its new secret. */
export interface WebhookWithSecret {
  readonly webhook: WebhookEntity;
  readonly signingSecret: string;
}

type WebhookAct<T> = (transaction: EntityManager, webhook: WebhookEntity) => Promise<T>;

/** Subscriptions: where an organization's events are sent to, and which. */
@Injectable()
export class WebhooksService {
  constructor(
    private readonly repository: WebhooksRepository,
    private readonly deliveries: DeliveriesRepository,
    private readonly organizations: OrganizationsService,
    private readonly audit: AuditService,
    private readonly checkpoints: CheckpointsService,
    private readonly signingKeys: SigningKeys,
    private readonly caller: WebhookCaller,
    private readonly unitOfWork: UnitOfWork,
    private readonly clock: Clock,
  ) {}

  /**
   * Subscribes to the events of the caller's organization, or, for the operator, of the one that the body names. What
   * happens from then on is sent.
   *
   * @throws Problem `validation_failed` for a URL that may not be called, `limit_reached`, `not_found`
   */
  async create(caller: Principal, origin: RequestOrigin, body: CreateWebhookBody): Promise<WebhookWithSecret> {
    const organizationId = organizationFor(caller, body.organizationId);
    this.requireCallable(body.url);
    return this.unitOfWork.run(async (transaction) => {
      if (!(await lockOrganizationFor(transaction, caller, organizationId))) throw problems.notFound;
      await this.requireRoom(transaction, organizationId);
      const webhookId = randomUUID();
      const { sealed, shown } = this.signingKeys.make(webhookId);
      const now = this.clock.now();
      const status = body.status ?? 'active';
      const webhook: WebhookEntity = {
        organizationId,
        webhookId,
        url: body.url,
        events: body.events,
        description: body.description ?? null,
        status,
        disabledReason: status === 'disabled' ? 'requested' : null,
        sealedSecret: sealed,
        sealedPreviousSecret: null,
        previousSecretExpiresAt: null,
        createdAt: now,
        updatedAt: now,
      };
      await this.log(transaction, webhook, 'webhook.created', caller.agentId, origin, { events: webhook.events });
      await this.repository.insert(transaction, webhook, await this.present(transaction, webhook));
      return { webhook, signingSecret: shown };
    });
  }

  /** One page of an organization's subscriptions, newest first. */
  async list(
    caller: Principal,
    organizationId: string | undefined,
    limit: number,
    cursor: string | undefined,
  ): Promise<Page<WebhookEntity>> {
    const organization = organizationFor(caller, organizationId);
    const list = `webhooks:${organization}`;
    const [createdAt, webhookId] =
      cursor === undefined ? [] : decodeCursor(list, cursor, [/^\d{4}-\d\d-\d\dT[\d:.]{12}Z$/, LOWER_CASE_UUID]);
    const after = createdAt === undefined || webhookId === undefined ? undefined : { createdAt, webhookId };
    const found = await this.repository.list(organization, after, limit + 1);
    return pageOf(found, limit, (last) => encodeCursor(list, [last.createdAt.toISOString(), last.webhookId]));
  }

  /**
   * One subscription of the caller's organization; the operator reads any.
   *
   * @throws Problem `not_found`
   */
  async read(caller: Principal, webhookId: string): Promise<WebhookEntity> {
    const organizationId = await this.organizationOf(caller, webhookId);
    const webhook = await this.repository.find(organizationId, webhookId.toLowerCase());
    if (webhook === null) throw problems.notFound;
    return webhook;
  }

  /**
   * Changes a subscription. One that is disabled is sent nothing, what was to be tried again is given up, and when it is
   * made active it starts anew with what happens from then on.
   *
   * @throws Problem `not_found`, `validation_failed`
   */
  update(caller: Principal, origin: RequestOrigin, webhookId: string, body: UpdateWebhookBody): Promise<WebhookEntity> {
    if (body.url !== undefined) this.requireCallable(body.url);
    return this.change(caller, webhookId, async (transaction, webhook) => {
      const { status: before, events: namedBefore } = webhook;
      const named = Object.entries(body).filter(([, value]) => value !== undefined);
      Object.assign(webhook, Object.fromEntries(named), { updatedAt: this.clock.now() });
      if (webhook.status !== before) webhook.disabledReason = webhook.status === 'disabled' ? 'requested' : null;
      await this.repository.update(transaction, webhook);
      const changed = named.map(([name]) => name).sort();
      const details = { changed, events: webhook.events, status: webhook.status };
      await this.log(transaction, webhook, 'webhook.updated', caller.agentId, origin, details);
      if (webhook.status === before) await this.followCheckpoints(transaction, webhook, namedBefore);
      else if (webhook.status === 'disabled') await this.stop(transaction, webhook);
      else await this.repository.activateLane(transaction, webhook, await this.present(transaction, webhook));
      return webhook;
    });
  }

  /**
   * Ends a subscription.
   *
   * @throws Problem `not_found`
   */
  async delete(caller: Principal, origin: RequestOrigin, webhookId: string): Promise<void> {
    await this.change(caller, webhookId, async (transaction, webhook) => {
      await this.stop(transaction, webhook);
      await this.repository.delete(transaction, webhook.organizationId, webhook.webhookId);
      await this.log(transaction, webhook, 'webhook.deleted', caller.agentId, origin);
    });
  }

  /**
   * Gives a subscription a new secret; for a while messages are signed with the old one too.
   *
   * @throws Problem `not_found`
   */
  rotateSecret(
    caller: Principal,
    origin: RequestOrigin,
    webhookId: string,
    body: RotateSigningSecretBody,
  ): Promise<WebhookWithSecret> {
    return this.change(caller, webhookId, async (transaction, webhook) => {
      const overlapSeconds = body.overlapSeconds ?? DEFAULT_OVERLAP_SECONDS;
      const { sealed, shown } = this.signingKeys.make(webhook.webhookId);
      const nowMs = this.clock.nowMs();
      webhook.sealedPreviousSecret = overlapSeconds === 0 ? null : webhook.sealedSecret;
      webhook.previousSecretExpiresAt = overlapSeconds === 0 ? null : new Date(nowMs + overlapSeconds * 1000);
      webhook.sealedSecret = sealed;
      webhook.updatedAt = new Date(nowMs);
      await this.repository.update(transaction, webhook);
      const details = { overlapSeconds };
      await this.log(transaction, webhook, 'webhook.secret_rotated', caller.agentId, origin, details);
      return { webhook, signingSecret: shown };
    });
  }

  /** Disables a subscription whose receiver is gone or has failed too long. The chain tells the other subscriptions. */
  async disable(organizationId: string, webhookId: string, reason: DisabledReason): Promise<void> {
    await this.unitOfWork.run(async (transaction) => {
      await lockOrganization(transaction, organizationId);
      const webhook = await this.repository.hold(transaction, organizationId, webhookId);
      if (webhook?.status !== 'active') return;
      webhook.status = 'disabled';
      webhook.disabledReason = reason;
      webhook.updatedAt = this.clock.now();
      await this.repository.update(transaction, webhook);
      await this.stop(transaction, webhook);
      await this.log(transaction, webhook, 'webhook.disabled', null, NO_ORIGIN, { reason });
    });
  }

  private async change<T>(caller: Principal, webhookId: string, act: WebhookAct<T>): Promise<T> {
    const organizationId = await this.organizationOf(caller, webhookId);
    return this.unitOfWork.run(async (transaction) => {
      await lockOrganizationFor(transaction, caller, organizationId);
      const webhook = await this.repository.hold(transaction, organizationId, webhookId.toLowerCase());
      if (webhook === null) throw problems.notFound;
      return act(transaction, webhook);
    });
  }

  private async stop(transaction: EntityManager, webhook: WebhookEntity): Promise<void> {
    await this.repository.deactivateLane(transaction, webhook);
    await this.deliveries.giveUp(transaction, webhook.organizationId, webhook.webhookId, MAX_GIVEN_UP);
  }

  /** The organization in which the caller may reach a subscription. */
  private async organizationOf(caller: Principal, webhookId: string): Promise<string> {
    if (!isUuid(webhookId)) throw problems.notFound;
    if (!isOperator(caller)) return caller.organizationId;
    const organizationId = await this.repository.organizationOf(webhookId.toLowerCase());
    if (organizationId === null) throw problems.notFound;
    return organizationId;
  }

  private requireCallable(url: string): void {
    const fault = this.caller.fault(url);
    if (fault !== null) throw problems.validationFailed.withErrors({ pointer: '/url', detail: `url ${fault}` });
  }

  private async requireRoom(transaction: EntityManager, organizationId: string): Promise<void> {
    const { webhooks: limit } = await this.organizations.limits(organizationId, transaction);
    if (limit === null) return;
    const used = await this.repository.count(organizationId, transaction);
    if (used < limit) return;
    throw problems.limitReached
      .withDetail(`The organization has ${used} of ${limit} webhooks.`)
      .withExtensions({ limit, used });
  }

  /** Where a lane begins: what happens from now on is sent. */
  private async present(transaction: EntityManager, { organizationId, events }: WebhookEntity): Promise<LanePlace> {
    return {
      sequence: await this.audit.headSequence(organizationId, transaction),
      checkpoint: namesCheckpoints(events) ? await this.checkpoints.newestSequence(organizationId, transaction) : null,
    };
  }

  /** Has a lane begin or cease to follow the checkpoints, where other events are named than before. */
  private async followCheckpoints(
    transaction: EntityManager,
    webhook: WebhookEntity,
    before: readonly string[],
  ): Promise<void> {
    if (webhook.status === 'disabled' || namesCheckpoints(webhook.events) === namesCheckpoints(before)) return;
    const { checkpoint } = await this.present(transaction, webhook);
    await this.repository.moveAmongCheckpoints(transaction, webhook, checkpoint);
  }

  /** Of the URL only the origin is told: path and query of a webhook are often a secret. */
  private async log(
    transaction: EntityManager,
    webhook: WebhookEntity,
    action: AuditAction,
    actor: string | null,
    origin: RequestOrigin,
    details: Record<string, AuditDetail> = {},
  ): Promise<void> {
    await this.audit.append(transaction, {
      organizationId: webhook.organizationId,
      action,
      outcome: 'success',
      actor,
      target: { type: 'webhook', id: webhook.webhookId },
      origin,
      details: { urlOrigin: new URL(webhook.url).origin, ...details },
    });
  }
}

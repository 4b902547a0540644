import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { CreateWebhookBody, RotateSigningSecretBody, UpdateWebhookBody } from './dto/webhook.bodies.js';
import { ListWebhooksQuery } from './dto/webhook.queries.js';
import { WebhookPage, WebhookView, WebhookWithSecretView } from './dto/webhook.view.js';
import { WebhooksService, type WebhookWithSecret } from './webhooks.service.js';

/** Subscriptions: what is sent where. */
@ApiTags('Webhooks')
@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly webhooks: WebhooksService) {}

  @Post()
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'Subscribe to events; the signing secret is shown this once' })
  @ApiCreatedResponse({ type: WebhookWithSecretView, headers: { Location: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 404, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: CreateWebhookBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WebhookWithSecretView> {
    const created = await this.webhooks.create(caller, origin, body);
    void reply.header('Location', `/api/v1/webhooks/${created.webhook.webhookId}`);
    return withSecret(created);
  }

  @Get()
  @RequireScopes('webhooks:read')
  @ApiOperation({ summary: 'List subscriptions, newest first' })
  @ApiOkResponse({ type: WebhookPage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Caller() caller: Principal, @Query() query: ListWebhooksQuery): Promise<WebhookPage> {
    const page = await this.webhooks.list(caller, query.organizationId, query.limit, query.cursor);
    return { data: page.data.map((webhook) => WebhookView.of(webhook)), nextCursor: page.nextCursor };
  }

  @Get(':webhookId')
  @RequireScopes('webhooks:read')
  @ApiOperation({ summary: 'Read a subscription' })
  @ApiOkResponse({ type: WebhookView })
  @ApiProblemResponses(401, 403, 404)
  async read(@Caller() caller: Principal, @Param('webhookId') webhookId: string): Promise<WebhookView> {
    return WebhookView.of(await this.webhooks.read(caller, webhookId));
  }

  @Patch(':webhookId')
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'Change, disable or enable a subscription' })
  @ApiOkResponse({ type: WebhookView })
  @ApiProblemResponses(400, 401, 403, 404, 413, 415)
  async update(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('webhookId') webhookId: string,
    @Body() body: UpdateWebhookBody,
  ): Promise<WebhookView> {
    return WebhookView.of(await this.webhooks.update(caller, origin, webhookId, body));
  }

  @Delete(':webhookId')
  @HttpCode(204)
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'End a subscription' })
  @ApiNoContentResponse()
  @ApiProblemResponses(401, 403, 404)
  delete(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('webhookId') webhookId: string,
  ): Promise<void> {
    return this.webhooks.delete(caller, origin, webhookId);
  }

  @Post(':webhookId/rotate-secret')
  @HttpCode(200)
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'Replace the signing secret; messages are signed with both for a while' })
  @ApiBody({ type: RotateSigningSecretBody, required: false })
  @ApiOkResponse({ type: WebhookWithSecretView })
  @ApiProblemResponses(400, 401, 403, 404, 413, 415)
  async rotateSecret(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('webhookId') webhookId: string,
    @Body() body?: RotateSigningSecretBody,
  ): Promise<WebhookWithSecretView> {
    return withSecret(await this.webhooks.rotateSecret(caller, origin, webhookId, body ?? {}));
  }
}

function withSecret({ webhook, signingSecret }: WebhookWithSecret): WebhookWithSecretView {
  return { ...WebhookView.of(webhook), signingSecret };
}

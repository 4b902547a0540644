import { Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { DeliveriesService } from './deliveries.service.js';
import { DeliveryPage, DeliveryView } from './dto/delivery.view.js';
import { ListDeliveriesQuery } from './dto/webhook.queries.js';

/** What was sent to a subscription, and sending it again. */
@ApiTags('Webhooks')
@Controller('webhooks/:webhookId')
export class DeliveriesController {
  constructor(private readonly deliveries: DeliveriesService) {}

  @Post('test')
  @HttpCode(202)
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'Send a test event' })
  @ApiAcceptedResponse({ type: DeliveryView })
  @ApiProblemResponses(401, 403, 404, 409, 429)
  async test(@Caller() caller: Principal, @Param('webhookId') webhookId: string): Promise<DeliveryView> {
    return DeliveryView.of(await this.deliveries.test(caller, webhookId));
  }

  @Get('deliveries')
  @RequireScopes('webhooks:read')
  @ApiOperation({ summary: 'List what was sent or waits for it, newest first, with every attempt; kept for 30 days' })
  @ApiOkResponse({ type: DeliveryPage })
  @ApiProblemResponses(400, 401, 403, 404)
  async list(
    @Caller() caller: Principal,
    @Param('webhookId') webhookId: string,
    @Query() query: ListDeliveriesQuery,
  ): Promise<DeliveryPage> {
    const page = await this.deliveries.list(caller, webhookId, query.status, query.limit, query.cursor);
    return { data: page.data.map((delivery) => DeliveryView.of(delivery)), nextCursor: page.nextCursor };
  }

  @Post('deliveries/:deliveryId/redeliver')
  @HttpCode(202)
  @RequireScopes('webhooks:write')
  @ApiOperation({ summary: 'Send an event again, under the same webhook-id' })
  @ApiAcceptedResponse({ type: DeliveryView })
  @ApiProblemResponses(401, 403, 404, 409, 429)
  async redeliver(
    @Caller() caller: Principal,
    @Param('webhookId') webhookId: string,
    @Param('deliveryId') deliveryId: string,
  ): Promise<DeliveryView> {
    return DeliveryView.of(await this.deliveries.redeliver(caller, webhookId, deliveryId));
  }
}

import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { EvidenceModule } from '../evidence/evidence.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { DeliveriesController } from './deliveries.controller.js';
import { DeliveriesRepository } from './deliveries.repository.js';
import { DeliveriesService } from './deliveries.service.js';
import { DeliveryPace } from './delivery-pace.js';
import { DeliveryRetention } from './delivery-retention.js';
import { DeliveryEntity } from './delivery.entity.js';
import { Destinations } from './destinations.js';
import { LaneFeed } from './lane-feed.js';
import { LanesRepository } from './lanes.repository.js';
import { SigningKeys } from './signing-keys.js';
import { WaitingDeliveries } from './waiting-deliveries.js';
import { WebhookCaller } from './webhook-caller.js';
import { WebhookDispatcher } from './webhook-dispatcher.js';
import { WebhookEntity } from './webhook.entity.js';
import { WebhooksController } from './webhooks.controller.js';
import { WebhooksRepository } from './webhooks.repository.js';
import { WebhooksService } from './webhooks.service.js';

/** Sends the events of the audit chain to the receivers that organizations name. */
@Module({
  imports: [
    TypeOrmModule.forFeature([WebhookEntity, DeliveryEntity]),
    HttpModule,
    AuditModule,
    EvidenceModule,
    OrganizationsModule,
  ],
  controllers: [WebhooksController, DeliveriesController],
  providers: [
    WebhooksService,
    WebhooksRepository,
    DeliveriesService,
    DeliveriesRepository,
    DeliveryRetention,
    DeliveryPace,
    Destinations,
    LaneFeed,
    LanesRepository,
    SigningKeys,
    WaitingDeliveries,
    WebhookCaller,
    WebhookDispatcher,
  ],
  exports: [WebhooksService],
})
export class WebhooksModule {}

import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { HttpModule } from '../platform/http/http.module.js';
import { AuditEventEntity } from './audit-event.entity.js';
import { AuditController } from './audit.controller.js';
import { AuditRepository } from './audit.repository.js';
import { AuditService } from './audit.service.js';
import { RefusalsRepository } from './refusals.repository.js';
import { RefusalsService } from './refusals.service.js';

/** The audit log. */
@Module({
  imports: [TypeOrmModule.forFeature([AuditEventEntity]), HttpModule],
  controllers: [AuditController],
  providers: [AuditService, AuditRepository, RefusalsService, RefusalsRepository],
  exports: [AuditService, RefusalsService],
})
export class AuditModule {}

import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { ResourceScopeEntity, ResourceServerEntity } from './resource-server.entity.js';
import { ResourcesController } from './resources.controller.js';
import { ResourcesRepository } from './resources.repository.js';
import { ResourcesService } from './resources.service.js';

/** Resource servers and the scopes that they declare. */
@Module({
  imports: [TypeOrmModule.forFeature([ResourceServerEntity, ResourceScopeEntity]), AuditModule],
  controllers: [ResourcesController],
  providers: [ResourcesService, ResourcesRepository],
  exports: [ResourcesService],
})
export class ResourcesModule {}

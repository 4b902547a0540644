import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { ResourcesModule } from '../resources/resources.module.js';
import { AgentTokensRepository } from './agent-tokens.repository.js';
import { AgentTokensService } from './agent-tokens.service.js';
import { AgentEntity } from './agent.entity.js';
import { AgentReader } from './agent-reader.js';
import { AgentsController } from './agents.controller.js';
import { AgentsRepository } from './agents.repository.js';
import { AgentsService } from './agents.service.js';

/** Agent identities. */
@Module({
  imports: [TypeOrmModule.forFeature([AgentEntity]), HttpModule, AuditModule, OrganizationsModule, ResourcesModule],
  controllers: [AgentsController],
  providers: [AgentsService, AgentsRepository, AgentReader, AgentTokensService, AgentTokensRepository],
  exports: [AgentsService, AgentTokensService],
})
export class AgentsModule {}

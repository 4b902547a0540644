import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AgentsModule } from '../agents/agents.module.js';
import { AuditModule } from '../audit/audit.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { AssertionsService } from './assertions.service.js';
import { FederationController } from './federation.controller.js';
import { KeyDocuments } from './key-documents.js';
import { PartnerKeys } from './partner-keys.js';
import { PartnerEntity } from './partner.entity.js';
import { PartnersRepository } from './partners.repository.js';
import { PartnersService } from './partners.service.js';
import { VerificationService } from './verification.service.js';

/** Partners whose assertions prove agents: who they are, and whether an assertion is one of theirs. */
@Module({
  imports: [TypeOrmModule.forFeature([PartnerEntity]), HttpModule, AuditModule, AgentsModule],
  controllers: [FederationController],
  providers: [PartnersService, PartnersRepository, AssertionsService, VerificationService, PartnerKeys, KeyDocuments],
  exports: [PartnersService, AssertionsService],
})
export class FederationModule {}

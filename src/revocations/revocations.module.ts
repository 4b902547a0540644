import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/agents.module.js';
import { AuditModule } from '../audit/audit.module.js';
import { CredentialsModule } from '../credentials/credentials.module.js';
import { EvidenceModule } from '../evidence/evidence.module.js';
import { FederationModule } from '../federation/federation.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { LivingTokensRepository } from './living-tokens.repository.js';
import { RevocationSubjects } from './revocation-subjects.js';
import { RevocationsController } from './revocations.controller.js';
import { RevocationsService } from './revocations.service.js';

/** The revocation of tokens in bulk, with a signed receipt. */
@Module({
  imports: [AuditModule, EvidenceModule, OrganizationsModule, AgentsModule, FederationModule, CredentialsModule],
  controllers: [RevocationsController],
  providers: [RevocationsService, RevocationSubjects, LivingTokensRepository],
  exports: [RevocationsService],
})
export class RevocationsModule {}

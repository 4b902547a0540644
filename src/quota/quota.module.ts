import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/agents.module.js';
import { EvidenceModule } from '../evidence/evidence.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { QuotaController } from './quota.controller.js';
import { QuotaRepository } from './quota.repository.js';
import { QuotaService } from './quota.service.js';
import { UsageController } from './usage.controller.js';
import { UsageRepository } from './usage.repository.js';
import { UsageService } from './usage.service.js';

/** Limits and usage of organizations. */
@Module({
  imports: [EvidenceModule, OrganizationsModule, AgentsModule],
  controllers: [QuotaController, UsageController],
  providers: [QuotaService, QuotaRepository, UsageService, UsageRepository],
  exports: [QuotaService],
})
export class QuotaModule {}

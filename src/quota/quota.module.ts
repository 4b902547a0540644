import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/agents.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { QuotaController } from './quota.controller.js';
import { QuotaRepository } from './quota.repository.js';
import { QuotaService } from './quota.service.js';

@Module({
  imports: [OrganizationsModule, AgentsModule],
  controllers: [QuotaController],
  providers: [QuotaService, QuotaRepository],
  exports: [QuotaService],
})
export class QuotaModule {}

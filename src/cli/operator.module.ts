import { Module } from '@nestjs/common';
import { AuditModule } from '../audit/audit.module.js';
import { KeysModule } from '../keys/keys.module.js';
import { AgentsModule } from '../agents/agents.module.js';
import { CredentialsModule } from '../credentials/credentials.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { OperatorService } from './operator.service.js';

@Module({
  imports: [AuditModule, KeysModule, OrganizationsModule, AgentsModule, CredentialsModule],
  providers: [OperatorService],
  exports: [OperatorService],
})
export class OperatorModule {}

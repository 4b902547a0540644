import { Module } from '@nestjs/common';
import { AgentsModule } from '../agents/agents.module.js';
import { CredentialsModule } from '../credentials/credentials.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { OperatorService } from './operator.service.js';

/** The first operator, and the way back for one who has lost every secret. */
@Module({
  imports: [OrganizationsModule, AgentsModule, CredentialsModule],
  providers: [OperatorService],
  exports: [OperatorService],
})
export class OperatorModule {}

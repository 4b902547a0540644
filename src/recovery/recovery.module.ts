import { Module } from '@nestjs/common';
import { EvidenceModule } from '../evidence/evidence.module.js';
import { OrganizationsModule } from '../organizations/organizations.module.js';
import { RecoveryService } from './recovery.service.js';

/** What has to be done when a backup was restored that is older than the last thing that happened. */
@Module({
  imports: [OrganizationsModule, EvidenceModule],
  providers: [RecoveryService],
  exports: [RecoveryService],
})
export class RecoveryModule {}

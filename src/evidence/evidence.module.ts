import { Module } from '@nestjs/common';
import { AuditModule } from '../audit/audit.module.js';
import { KeysModule } from '../keys/keys.module.js';
import { CheckpointFollower } from './checkpoint-follower.js';
import { CheckpointSigner } from './checkpoint-signer.js';
import { CheckpointsController } from './checkpoints.controller.js';
import { CheckpointsService } from './checkpoints.service.js';
import { DueChains } from './due-chains.js';
import { DueChainsRepository } from './due-chains.repository.js';
import { EvidenceRepository } from './evidence.repository.js';
import { ExportController } from './export.controller.js';
import { ExportService } from './export.service.js';
import { LostHistoryService } from './lost-history.service.js';
import { ProofsController } from './proofs.controller.js';
import { ProofsService } from './proofs.service.js';
import { RetentionRepository } from './retention.repository.js';
import { RetentionService } from './retention.service.js';
import { RevocationReceiptsService } from './revocation-receipts.service.js';
import { VerificationController } from './verification.controller.js';
import { VerificationService } from './verification.service.js';

/** The audit log as evidence: what needs both the chain and a key. */
@Module({
  imports: [AuditModule, KeysModule],
  controllers: [VerificationController, CheckpointsController, ExportController, ProofsController],
  providers: [
    EvidenceRepository,
    CheckpointSigner,
    CheckpointsService,
    DueChainsRepository,
    DueChains,
    CheckpointFollower,
    VerificationService,
    LostHistoryService,
    ExportService,
    ProofsService,
    RetentionRepository,
    RetentionService,
    RevocationReceiptsService,
  ],
  exports: [CheckpointsService, RetentionService, LostHistoryService, RevocationReceiptsService],
})
export class EvidenceModule {}

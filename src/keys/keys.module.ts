import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { JwksController } from './jwks.controller.js';
import { KeyMaker } from './key-maker.js';
import { KeyRing } from './key-ring.js';
import { KeyRotationService } from './key-rotation.service.js';
import { KeySchedule } from './key-schedule.js';
import { KeysController } from './keys.controller.js';
import { KeysRepository } from './keys.repository.js';
import { KeysService } from './keys.service.js';
import { SigningKeyEntity } from './signing-key.entity.js';

/** Our own signing keys: published ahead, signing, retired, revoked. */
@Module({
  imports: [TypeOrmModule.forFeature([SigningKeyEntity]), AuditModule],
  controllers: [JwksController, KeysController],
  providers: [KeysService, KeyRotationService, KeysRepository, KeyRing, KeyMaker, KeySchedule],
  exports: [KeysService],
})
export class KeysModule {}

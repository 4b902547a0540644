import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { JwksController } from './jwks.controller.js';
import { KeysRepository } from './keys.repository.js';
import { KeysService } from './keys.service.js';
import { SigningKeyEntity } from './signing-key.entity.js';

/** Our own signing keys. */
@Module({
  imports: [TypeOrmModule.forFeature([SigningKeyEntity]), AuditModule],
  controllers: [JwksController],
  providers: [KeysService, KeysRepository],
  exports: [KeysService],
})
export class KeysModule {}

import { Module } from '@nestjs/common';
import { PassportModule } from '@nestjs/passport';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AgentsModule } from '../agents/agents.module.js';
import { AuditModule } from '../audit/audit.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { ClientAuthenticator } from './client-authenticator.js';
import { ClientSecretBasicStrategy } from './client-secret-basic.strategy.js';
import { ClientSecretPostStrategy } from './client-secret-post.strategy.js';
import { CredentialEntity } from './credential.entity.js';
import { CredentialsController } from './credentials.controller.js';
import { CredentialsRepository } from './credentials.repository.js';
import { CredentialsService } from './credentials.service.js';
import { FailedAuthentications } from './failed-authentications.js';
import { FailedAuthenticationsRepository } from './failed-authentications.repository.js';
import { LastUse } from './last-use.js';
import { SealedSecretEntity } from './sealed-secret.entity.js';
import { SecretHasher } from './secret-hasher.js';

/** Credentials, and the authentication of clients by them. */
@Module({
  imports: [
    TypeOrmModule.forFeature([CredentialEntity, SealedSecretEntity]),
    PassportModule.register({ session: false }),
    HttpModule,
    AuditModule,
    AgentsModule,
  ],
  controllers: [CredentialsController],
  providers: [
    CredentialsService,
    CredentialsRepository,
    SecretHasher,
    LastUse,
    FailedAuthentications,
    FailedAuthenticationsRepository,
    ClientAuthenticator,
    ClientSecretBasicStrategy,
    ClientSecretPostStrategy,
  ],
  exports: [CredentialsService, ClientSecretBasicStrategy, ClientSecretPostStrategy],
})
export class CredentialsModule {}

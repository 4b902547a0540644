import { Module } from '@nestjs/common';
import { PassportModule } from '@nestjs/passport';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AgentsModule } from '../agents/agents.module.js';
import { AuditModule } from '../audit/audit.module.js';
import { FederationModule } from '../federation/federation.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { AgentKeysController } from './agent-keys.controller.js';
import { AgentKeysService } from './agent-keys.service.js';
import { AssertionAuthenticator } from './assertion-authenticator.js';
import { AssertionsRepository } from './assertions.repository.js';
import { ClientAssertionStrategy } from './client-assertion.strategy.js';
import { ClientAuthenticator } from './client-authenticator.js';
import { ClientSecretBasicStrategy } from './client-secret-basic.strategy.js';
import { ClientSecretPostStrategy } from './client-secret-post.strategy.js';
import { CredentialLife } from './credential-life.js';
import { CredentialEntity } from './credential.entity.js';
import { CredentialTokensRepository } from './credential-tokens.repository.js';
import { CredentialTokensService } from './credential-tokens.service.js';
import { CredentialsController } from './credentials.controller.js';
import { CredentialsRepository } from './credentials.repository.js';
import { CredentialsService } from './credentials.service.js';
import { FailedAuthentications } from './failed-authentications.js';
import { FailedAuthenticationsRepository } from './failed-authentications.repository.js';
import { FederatedIdentitiesController } from './federated-identities.controller.js';
import { FederatedIdentitiesService } from './federated-identities.service.js';
import { LastUse } from './last-use.js';
import { SealedSecretEntity } from './sealed-secret.entity.js';
import { SecretHasher } from './secret-hasher.js';
import { UsedAssertions } from './used-assertions.js';

/** Credentials, and the authentication of clients by them. */
@Module({
  imports: [
    TypeOrmModule.forFeature([CredentialEntity, SealedSecretEntity]),
    PassportModule.register({ session: false }),
    HttpModule,
    AuditModule,
    AgentsModule,
    FederationModule,
  ],
  controllers: [CredentialsController, AgentKeysController, FederatedIdentitiesController],
  providers: [
    CredentialsService,
    CredentialsRepository,
    CredentialLife,
    CredentialTokensService,
    CredentialTokensRepository,
    AgentKeysService,
    FederatedIdentitiesService,
    AssertionsRepository,
    AssertionAuthenticator,
    UsedAssertions,
    SecretHasher,
    LastUse,
    FailedAuthentications,
    FailedAuthenticationsRepository,
    ClientAuthenticator,
    ClientSecretBasicStrategy,
    ClientSecretPostStrategy,
    ClientAssertionStrategy,
  ],
  exports: [
    CredentialsService,
    CredentialTokensService,
    ClientSecretBasicStrategy,
    ClientSecretPostStrategy,
    ClientAssertionStrategy,
  ],
})
export class CredentialsModule {}

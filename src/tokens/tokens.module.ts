import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditModule } from '../audit/audit.module.js';
import { KeysModule } from '../keys/keys.module.js';
import { HttpModule } from '../platform/http/http.module.js';
import { RateLimits } from '../platform/http/rate-limits.js';
import { ResourcesModule } from '../resources/resources.module.js';
import { AuthorizationController } from './authorization.controller.js';
import { ExpiredRevocations } from './expired-revocations.js';
import { Introspections } from './introspections.js';
import { MetadataController } from './metadata.controller.js';
import { TokenIssuer } from './token-issuer.js';
import { TokenRevocationEntity } from './token-revocation.entity.js';
import { TokenSigner } from './token-signer.js';
import { TokenState } from './token-state.js';
import { TokenVerifier } from './token-verifier.js';
import { TokensController } from './tokens.controller.js';
import { TokensRepository } from './tokens.repository.js';
import { TokensService } from './tokens.service.js';

/** Access tokens: issued, checked, revoked. */
@Module({
  imports: [TypeOrmModule.forFeature([TokenRevocationEntity]), HttpModule, AuditModule, KeysModule, ResourcesModule],
  controllers: [TokensController, MetadataController, AuthorizationController],
  providers: [
    TokensService,
    TokensRepository,
    TokenIssuer,
    TokenSigner,
    TokenState,
    TokenVerifier,
    Introspections,
    RateLimits,
    ExpiredRevocations,
  ],
  exports: [TokensService, TokenState, Introspections, RateLimits],
})
export class TokensModule {}

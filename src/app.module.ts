import { Module, type DynamicModule } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { ScheduleModule } from '@nestjs/schedule';
import { AgentsModule } from './agents/agents.module.js';
import { AuditModule } from './audit/audit.module.js';
import { OperatorModule } from './operator/operator.module.js';
import { ClientAuthenticationGuard } from './credentials/client-authentication.guard.js';
import { EvidenceModule } from './evidence/evidence.module.js';
import { CredentialsModule } from './credentials/credentials.module.js';
import { FederationModule } from './federation/federation.module.js';
import { KeysModule } from './keys/keys.module.js';
import { OrganizationsModule } from './organizations/organizations.module.js';
import type { Config } from './platform/config/config.js';
import { DatabaseModule } from './platform/database/database.module.js';
import { HttpModule } from './platform/http/http.module.js';
import { loggingModule } from './platform/http/request-logging.js';
import type { Clock } from './platform/kernel/clock.js';
import { Sealer } from './platform/kernel/sealer.js';
import { KernelModule } from './platform/kernel/kernel.module.js';
import { QuotaModule } from './quota/quota.module.js';
import { RecoveryModule } from './recovery/recovery.module.js';
import { ResourcesModule } from './resources/resources.module.js';
import { RevocationsModule } from './revocations/revocations.module.js';
import { AccessTokenGuard } from './tokens/access-token.guard.js';
import { TokensModule } from './tokens/tokens.module.js';
import { WebhooksModule } from './webhooks/webhooks.module.js';

/** What the application is made of, beside its configuration. */
export interface AppParts {
  readonly config: Config;
  readonly clock: Clock;
  /** 32 bytes; seals secrets at rest. */
  readonly masterKey: Buffer;
  /** Opens what it sealed, while the master key is changed. */
  readonly previousMasterKey?: Buffer | null;
  /** The URL of the database role that serves. */
  readonly servingUrl: string;
  /** Whether the rooms' timers run: unless it is `false`. */
  readonly timers?: boolean;
}

/** Knows every module and binds the global guards. */
@Module({})
export class AppModule {
  static forRoot({
    config,
    clock,
    masterKey,
    previousMasterKey = null,
    servingUrl,
    timers = true,
  }: AppParts): DynamicModule {
    return {
      module: AppModule,
      imports: [
        KernelModule.forRoot(config, clock, new Sealer(masterKey, previousMasterKey)),
        loggingModule(config.logLevel),
        DatabaseModule.forRoot(servingUrl, config.database.poolSize),
        ScheduleModule.forRoot({ intervals: timers }),
        HttpModule,
        AuditModule,
        KeysModule,
        EvidenceModule,
        OrganizationsModule,
        ResourcesModule,
        AgentsModule,
        QuotaModule,
        FederationModule,
        CredentialsModule,
        TokensModule,
        RevocationsModule,
        WebhooksModule,
        OperatorModule,
        RecoveryModule,
      ],
      // In this order: a client that authenticated itself needs no Bearer token.
      providers: [
        { provide: APP_GUARD, useClass: ClientAuthenticationGuard },
        { provide: APP_GUARD, useClass: AccessTokenGuard },
      ],
    };
  }
}

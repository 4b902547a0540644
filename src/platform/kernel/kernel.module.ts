import { Global, Module, type DynamicModule } from '@nestjs/common';
import { Config } from '../config/config.js';
import { Clock } from './clock.js';
import { Sealer } from './sealer.js';

/** What every room may ask for: the configuration, the time, the sealing of secrets at rest. */
@Global()
@Module({})
export class KernelModule {
  static forRoot(config: Config, clock: Clock, sealer: Sealer): DynamicModule {
    return {
      module: KernelModule,
      providers: [
        { provide: Config, useValue: config },
        { provide: Clock, useValue: clock },
        { provide: Sealer, useValue: sealer },
      ],
      exports: [Config, Clock, Sealer],
    };
  }
}

import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { Admission } from './admission.js';
import { Farewell } from './farewell.js';
import { HealthController } from './health.controller.js';
import { MetricsController } from './metrics.controller.js';
import { Metrics } from './metrics.js';
import { Readiness } from './readiness.js';

/** Health and metrics. Takes the `DataSource` of the global TypeORM module. */
@Module({
  imports: [TerminusModule.forRoot({ logger: false })],
  controllers: [HealthController, MetricsController],
  providers: [Metrics, Admission, Readiness, Farewell],
  exports: [Metrics, Admission, Readiness, Farewell],
})
export class HttpModule {}

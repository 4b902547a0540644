import { Global, Logger, Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Backlog } from './backlog.js';
import { dataSourceOptions } from './data-source-options.js';
import { Resealing } from './resealing.js';
import { StatementPool } from './statement-pool.js';
import { UnitOfWork } from './unit-of-work.js';

/** The connection to PostgreSQL and the two ways of using it: units of work, and named statements on the hot path. */
@Global()
@Module({})
export class DatabaseModule {
  /**
   * @param servingUrl the URL of the serving role
   * @param poolSize the most connections that are opened
   */
  static forRoot(servingUrl: string, poolSize: number): DynamicModule {
    const logger = new Logger('Database');
    return {
      module: DatabaseModule,
      imports: [
        TypeOrmModule.forRoot({
          ...dataSourceOptions(servingUrl, poolSize),
          autoLoadEntities: true,
          retryAttempts: 10,
          retryDelay: 500,
          // Without a listener a connection that the server ends would end the process.
          poolErrorHandler: (error: Error) => logger.warn(`a pooled connection broke: ${error.message}`),
        }),
      ],
      providers: [UnitOfWork, StatementPool, Backlog, Resealing],
      exports: [UnitOfWork, StatementPool, Backlog, Resealing],
    };
  }
}

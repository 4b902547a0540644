import { Global, Logger, Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Backlog } from './backlog.js';
import { ConnectionSockets } from './connection-sockets.js';
import { dataSourceOptions } from './data-source-options.js';
import { DatabaseWatch } from './database-watch.js';
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
    const sockets = new ConnectionSockets();
    const options = dataSourceOptions(servingUrl, poolSize);
    const watch = { provide: DatabaseWatch, useFactory: () => new DatabaseWatch(servingUrl, sockets) };
    return {
      module: DatabaseModule,
      imports: [
        TypeOrmModule.forRoot({
          ...options,
          extra: { ...options.extra, stream: sockets.make },
          autoLoadEntities: true,
          retryAttempts: 10,
          retryDelay: 500,
          // Without a listener a connection that the server ends would end the process.
          poolErrorHandler: (error: Error) => {
            if (!sockets.isOver) logger.warn(`a pooled connection broke: ${error.message}`);
          },
        }),
      ],
      providers: [watch, UnitOfWork, StatementPool, Backlog, Resealing],
      exports: [UnitOfWork, StatementPool, Backlog, Resealing],
    };
  }
}

import type { Client } from 'pg';
import type { DataSourceOptions } from 'typeorm';
import { MIGRATIONS } from './migration-list.js';

/** The options of a PostgreSQL data source, without entities: the app loads those of its modules. */
export type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

/**
 * The one set of options for the app, the migrations and the TypeORM CLI. Every statement and every wait for a lock has
 * a limit, so that nothing holds a connection for ever.
 *
 * @param url the URL of a PostgreSQL role
 * @param poolSize the most connections that are opened
 */
export function dataSourceOptions(url: string, poolSize: number): PostgresOptions {
  return {
    type: 'postgres',
    url,
    applicationName: 'agentidp',
    poolSize,
    connectTimeoutMS: 2000,
    synchronize: false,
    migrations: MIGRATIONS,
    migrationsTableName: 'schema_migrations',
    logging: false,
    extra: {
      statement_timeout: 5000,
      lock_timeout: 2000,
      // Nothing of ours pauses within a transaction: one that does is of a process that stands still, and holds a lock.
      idle_in_transaction_session_timeout: 3000,
      idleTimeoutMillis: 60_000,
      keepAlive: true,
      // From the moment in which the pool hands a connection out to that in which TypeORM listens to it nobody else does:
      // a server that ends it just then would end the process.
      onConnect: (client: Client) => void client.on('error', () => undefined),
    },
  };
}

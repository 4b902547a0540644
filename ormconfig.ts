import { DataSource } from 'typeorm';
import { loadConfig } from './src/platform/config/load-config.js';
import { dataSourceOptions } from './src/platform/database/data-source-options.js';

const { database } = loadConfig(process.env);
const url = database.migrationUrl ?? database.url;
if (url === null) throw new Error('set DATABASE_URL or MIGRATION_DATABASE_URL to use the TypeORM CLI');

/** The data source of the TypeORM CLI: `npx typeorm -d dist/ormconfig.js migration:show`. */
export const dataSource = new DataSource(dataSourceOptions(url, 3));

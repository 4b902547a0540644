import { Injectable } from '@nestjs/common';
import { types, type Pool, type QueryConfig, type QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';
import { plainItems } from './array-literal.js';
import { DatabaseWatch } from './database-watch.js';
import { isReadOnly } from './sql-errors.js';

/** A statement that the server prepares once a connection and knows by its name from then on. */
export interface NamedStatement {
  readonly name: string;
  readonly text: string;
}

/** The types text[] and uuid[]. */
const TEXT_ARRAYS: ReadonlySet<number> = new Set([1009, 2951]);

/** The driver's parsers, but for arrays of plain texts: the driver takes every array apart letter by letter. */
const PARSERS: NonNullable<QueryConfig['types']> = {
  getTypeParser: (oid, format) => {
    const parse = types.getTypeParser(oid, format) as (text: string) => unknown;
    return TEXT_ARRAYS.has(oid) && format !== 'binary' ? (text: string) => plainItems(text) ?? parse(text) : parse;
  },
};

/** Named prepared statements on the connections of TypeORM's own pool: for the hot path only. */
@Injectable()
export class StatementPool {
  private readonly pool: Pool;

  constructor(
    dataSource: DataSource,
    private readonly watch: DatabaseWatch,
  ) {
    this.pool = poolOf(dataSource);
  }

  /**
   * Runs a prepared statement in a transaction of its own.
   *
   * @param statement its name and text; one name has one text
   * @param values its parameters
   * @returns its rows
   */
  async query<Row extends QueryResultRow>(statement: NamedStatement, values: readonly unknown[]): Promise<Row[]> {
    try {
      const { rows } = await this.pool.query<Row>({
        name: statement.name,
        text: statement.text,
        values: [...values],
        types: PARSERS,
      });
      return rows;
    } catch (error) {
      if (isReadOnly(error)) this.watch.connectionsLeadAstray();
      throw error;
    }
  }
}

/** The `pg` pool underneath a data source. */
export function poolOf(dataSource: DataSource): Pool {
  const { driver } = dataSource;
  if (!('master' in driver)) throw new Error('the data source has no PostgreSQL pool');
  return driver.master as Pool;
}

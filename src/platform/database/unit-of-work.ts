import { Injectable } from '@nestjs/common';
import { DataSource, type EntityManager } from 'typeorm';

/** Opens transactions. Whoever writes takes the transaction's `EntityManager` as an argument. */
@Injectable()
export class UnitOfWork {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * Runs `work` in one transaction at READ COMMITTED: committed when it resolves, rolled back when it rejects.
   *
   * @returns what `work` resolves to, after COMMIT
   */
  run<T>(work: (transaction: EntityManager) => Promise<T>): Promise<T> {
    return this.dataSource.transaction('READ COMMITTED', work);
  }

  /** The manager for reads that need no transaction. */
  get reader(): EntityManager {
    return this.dataSource.manager;
  }
}

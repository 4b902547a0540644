import type { MigrationInterface, QueryRunner } from 'typeorm';

const NAME = 'credentials_credential_id';

/** A credential is found by its id alone, as a token names it in `cred`. */
export class CredentialsById1764000130001 implements MigrationInterface {
  /** Clients authenticate meanwhile: the index is built without holding up who writes. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    // What an attempt that broke off has left behind is not whole, and is made anew.
    const broken = await runner.manager.query<unknown[]>(
      'SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid',
      [NAME],
    );
    if (broken.length > 0) await runner.query(`DROP INDEX CONCURRENTLY ${NAME}`);
    await runner.query(`CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ${NAME} ON credentials (credential_id)`);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

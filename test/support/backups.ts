import { expect } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { environmentOf, runCommand, type Ended } from './service-process.js';
import { startTestApp, type TestApp } from './test-app.js';
import { createEmptyDatabase, type TestDatabase } from './test-database.js';

const ISSUER = 'https://issuer.example';

/** Backups of a test file, the databases that they are restored into, and the services on these. */
export class Backups {
  /** Where the files are. */
  readonly folder = mkdtempSync(join(tmpdir(), 'agentidp-backup-'));
  readonly issuer = ISSUER;
  private readonly databases: TestDatabase[] = [];
  private readonly services: TestApp[] = [];

  /** A name that no file has yet. */
  newFile(): string {
    return join(this.folder, `${randomBytes(6).toString('hex')}.backup`);
  }

  /** Keeps a database until `end`. */
  async own(made: Promise<TestDatabase>): Promise<TestDatabase> {
    const database = await made;
    this.databases.push(database);
    return database;
  }

  /** A replica in this process, which many failures do not slow down. */
  async serve(database: TestDatabase): Promise<TestApp> {
    const env = {
      ISSUER,
      WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1',
      AUTHENTICATION_FAILURES_PER_CLIENT: '1000',
      RATE_LIMIT_ENTERPRISE: '0',
    };
    const service = await startTestApp({ database, env });
    this.services.push(service);
    return service;
  }

  /** Writes a backup by the command, and gives its file. */
  async take(database: TestDatabase): Promise<string> {
    const file = this.newFile();
    const { code, output } = await runCommand(['backup', file], environmentOf(database));
    expect([code, output]).toEqual([0, expect.stringContaining('The master key is not in it')]);
    return file;
  }

  /** Restores by the command. */
  restore(file: string, into: TestDatabase, ...more: string[]): Promise<Ended> {
    return runCommand(['restore', file, ...more], environmentOf(into));
  }

  /** Restores into a new database. */
  async restored(file: string, ...more: string[]): Promise<TestDatabase> {
    const database = await this.own(createEmptyDatabase());
    const { code, output } = await this.restore(file, database, ...more);
    expect([code, output]).toEqual([0, expect.stringContaining('Restored.')]);
    return database;
  }

  /** Ends the services and drops the databases so far. */
  async end(): Promise<void> {
    for (const service of this.services.splice(0)) await service.close();
    for (const database of this.databases.splice(0)) await database.drop();
  }

  /** Removes the files. */
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The organizations of a database. */
export async function organizationsOf(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ id: string }>('SELECT organization_id AS id FROM organizations ORDER BY 1');
  return rows.map(({ id }) => id);
}

/** Expects the chain of an organization to verify. */
export async function expectVerifies(service: TestApp, token: string, organizationId: string): Promise<void> {
  const { body } = await service.api.call('GET', `/audit/verify?organizationId=${organizationId}`, token);
  expect(body).toMatchObject({ valid: true, brokenAt: null });
}

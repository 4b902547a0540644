import { createHash, randomUUID } from 'node:crypto';
import type { TestDatabase } from './test-database.js';

/** Adds an organization to a database and gives its id. */
export async function addOrganization(database: TestDatabase, tier = 'free'): Promise<string> {
  const id = randomUUID();
  await database.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      VALUES ($1::uuid, 'Another', $3, $2, 'active', now(), now())`,
    [id, tier, id],
  );
  const genesis = createHash('sha256').update(id).digest();
  await database.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [id, genesis]);
  return id;
}

import { createHash, randomUUID } from 'node:crypto';
import type { TestDatabase } from './test-database.js';

/** Another tenant, as its row and its ledger; the operator makes its agents. */
export async function addOrganization(database: TestDatabase, tier = 'enterprise'): Promise<string> {
  const organizationId = randomUUID();
  await database.query(
    `INSERT INTO organizations (organization_id, name, slug, tier, status, created_at, updated_at)
      VALUES ($1, 'Tenant', $2, $3, 'active', now(), now())`,
    [organizationId, `tenant-${organizationId.slice(0, 8)}`, tier],
  );
  await database.query('INSERT INTO organization_ledgers (organization_id, head_hash) VALUES ($1, $2)', [
    organizationId,
    createHash('sha256').update(organizationId).digest(),
  ]);
  return organizationId;
}

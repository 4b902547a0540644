import type { EntityManager } from 'typeorm';

/**
 * Locks an organization's ledger row until the transaction ends. Every change of state takes this lock first and reads
 * afterwards, in a statement of its own, so that it sees all that was committed before it and issuance waits for it.
 *
 * @returns false where there is no such organization
 */
export async function lockOrganization(transaction: EntityManager, organizationId: string): Promise<boolean> {
  const rows = await transaction.query<unknown[]>(
    'SELECT 1 FROM organization_ledgers WHERE organization_id = $1 FOR UPDATE',
    [organizationId],
  );
  return rows.length === 1;
}

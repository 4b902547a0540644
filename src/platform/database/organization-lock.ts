import type { EntityManager } from 'typeorm';
import type { Principal } from '../kernel/principal.js';
import { problems } from '../kernel/problem.js';

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

/**
 * Locks an organization for an act of somebody's, and asks under the lock whether the caller's token is still alive: it
 * was when the request came in, but a suspension or a revocation, of its key too, may have been answered while the act
 * waited.
 *
 * @returns false where there is no such organization
 * @throws Problem `invalid_token`
 */
export async function lockOrganizationFor(
  transaction: EntityManager,
  caller: Principal,
  organizationId: string,
): Promise<boolean> {
  const exists = await lockOrganization(transaction, organizationId);
  if (caller.token === null) return exists;
  const { jti, kid, scope, generations } = caller.token;
  const [row] = await transaction.query<{ alive: boolean }[]>(
    `SELECT (tokens_alive(ARRAY[$1::uuid], ARRAY[$2::uuid], ARRAY[$3::uuid], ARRAY[$4::uuid], ARRAY[$5::text],
      ARRAY[$6::integer], ARRAY[$7::integer], ARRAY[$8::integer]))[1]
      AND EXISTS (SELECT 1 FROM signing_keys WHERE kid = $9 AND phase <> 'revoked') AS alive`,
    [caller.organizationId, caller.agentId, caller.credentialId, jti, scope, ...generations, kid],
  );
  if (row?.alive !== true) {
    throw problems.invalidToken.withHeaders({ 'WWW-Authenticate': 'Bearer error="invalid_token"' });
  }
  return exists;
}

import type { EntityManager } from 'typeorm';
import { firstUuidAt } from '../kernel/uuid.js';

/** Tokens carry the generation that they were issued under: all so far are dead. */
const END_ALL = 'generation = generation + 1';

/**
 * Those of the generations so far live on from the `jti` in `$1`. An earlier revocation holds on; see the migration
 * that made these columns.
 */
const END_EARLIER = `generation = generation + 1, revoked_generation = generation + 1,
  kept_from_generation = CASE WHEN revoked_generation = generation THEN kept_from_generation ELSE generation END,
  revoked_below = greatest(revoked_below, $1::uuid)`;

/** A row whose tokens are to end, or several. */
interface TokenOwners {
  readonly table: 'organizations' | 'credentials';
  /** A condition over columns that are named here and have these values. */
  readonly where: Readonly<Record<string, string>>;
}

/**
 * Ends the tokens of organizations or credentials in one statement, under the lock of the organization, which the caller
 * holds: issuance compares generations under it.
 *
 * @param owners whose tokens
 * @param issuedBefore only tokens issued before this instant; null: all so far
 */
export async function endTokens(
  transaction: EntityManager,
  { table, where }: TokenOwners,
  issuedBefore: Date | null,
): Promise<void> {
  const values = [...(issuedBefore === null ? [] : [firstUuidAt(issuedBefore)]), ...Object.values(where)];
  const first = values.length - Object.keys(where).length + 1;
  const conditions = Object.keys(where).map((column, index) => `${column} = $${first + index}::uuid`);
  await transaction.query(
    `UPDATE ${table} SET ${issuedBefore === null ? END_ALL : END_EARLIER} WHERE ${conditions.join(' AND ')}`,
    values,
  );
}

import type { QueryRunner } from 'typeorm';
import { DELIVERY_SLOTS, deliverySlotTable } from './delivery-slots.js';

/**
 * What the serving role may do with each table: no more than the service does. The audit log can be appended to and
 * read, by nobody changed.
 */
const TABLE_GRANTS: Readonly<Record<string, string>> = {
  tiers: 'SELECT',
  organizations: 'SELECT, INSERT, UPDATE',
  organization_ledgers: 'SELECT, INSERT, UPDATE',
  agents: 'SELECT, INSERT, UPDATE',
  credentials: 'SELECT, INSERT, UPDATE',
  federation_partners: 'SELECT, INSERT, UPDATE, DELETE',
  used_assertions: 'SELECT, INSERT, DELETE',
  resource_servers: 'SELECT, INSERT, UPDATE, DELETE',
  resource_identifiers: 'SELECT, INSERT',
  resource_scopes: 'SELECT, INSERT, UPDATE, DELETE',
  organization_usage: 'SELECT, INSERT, UPDATE',
  organization_usage_cursors: 'SELECT, INSERT, UPDATE',
  token_revocations: 'SELECT, INSERT, DELETE',
  authentication_failures: 'SELECT, INSERT, DELETE',
  signing_keys: 'SELECT, INSERT, UPDATE',
  signing_key_set: 'SELECT, UPDATE',
  // A change of the master key seals them anew.
  sealed_secrets: 'SELECT, INSERT, UPDATE (sealed)',
  audit_events: 'SELECT, INSERT',
  webhooks: 'SELECT, INSERT, UPDATE, DELETE',
  webhook_lanes: 'SELECT, INSERT, UPDATE, DELETE',
  webhook_queue: 'SELECT, INSERT, UPDATE, DELETE',
  webhook_deliveries: 'SELECT, INSERT, UPDATE',
  // The history is dropped a day at a time.
  ...Object.fromEntries(DELIVERY_SLOTS.map((slot) => [deliverySlotTable(slot), 'TRUNCATE'])),
  audit_refusals: 'SELECT, INSERT, UPDATE, DELETE',
  audit_checkpoints: 'SELECT, INSERT',
  audit_tree_tiles: 'SELECT, INSERT, UPDATE (hashes, oldest_at, newest_at)',
  // What retention has removed is written by its own function only.
  audit_trees: 'SELECT, INSERT (organization_id), UPDATE (size, chain_hash, checkpoint_sequence, checkpoint_hash)',
  schema_migrations: 'SELECT',
};

/** What the serving role may do with the rights of the owning one. */
const FUNCTION_GRANTS: readonly string[] = [
  'remove_audit_prefix(uuid, bigint, text, integer)',
  'remove_signing_key(text)',
];

/**
 * Grants the serving role what it needs and takes away what it no longer needs. Does nothing where the serving role is
 * the owner itself.
 *
 * @param runner a connection of the owning role
 * @param servingUrl the serving role's URL
 */
export async function grantServingRole(runner: QueryRunner, servingUrl: string): Promise<void> {
  const quoted = await servingRoleOf(runner, servingUrl);
  if (quoted === null) return;
  // In one transaction, so that a replica that serves meanwhile never finds its privileges gone.
  await runner.startTransaction();
  try {
    for (const [table, privileges] of Object.entries(TABLE_GRANTS)) {
      await runner.query(`REVOKE ALL ON ${table} FROM ${quoted}`);
      await runner.query(`GRANT ${privileges} ON ${table} TO ${quoted}`);
    }
    for (const signature of FUNCTION_GRANTS) await runner.query(`GRANT EXECUTE ON FUNCTION ${signature} TO ${quoted}`);
    await runner.query(`GRANT USAGE ON SCHEMA public TO ${quoted}`);
    await runner.commitTransaction();
  } catch (error) {
    await runner.rollbackTransaction();
    throw error;
  }
}

/**
 * Grants the serving role what it needs of what there is by now, and takes nothing away. For the transaction of a
 * migration: from its commit on, a replica of the version before may call a function that it replaced, and a table that
 * it made with it.
 *
 * @param runner a connection of the owning role
 * @param servingUrl the serving role's URL
 */
export async function grantWhatIsThere(runner: QueryRunner, servingUrl: string): Promise<void> {
  const quoted = await servingRoleOf(runner, servingUrl);
  if (quoted === null) return;
  const grants = [
    ...Object.entries(TABLE_GRANTS).map(([table, privileges]) => `${privileges} ON ${table}`),
    ...FUNCTION_GRANTS.map((signature) => `EXECUTE ON FUNCTION ${signature}`),
  ];
  // What later migrations make is left to them.
  const each = grants.map(
    (grant) => `BEGIN
      GRANT ${grant} TO ${quoted};
    EXCEPTION WHEN undefined_table OR undefined_column OR undefined_function THEN NULL;
    END;`,
  );
  await runner.query(`DO $grants$ BEGIN ${each.join('\n')} END $grants$`);
}

/** The serving role as an identifier; null where it is the owner itself. */
async function servingRoleOf(runner: QueryRunner, servingUrl: string): Promise<string | null> {
  const [row] = await runner.manager.query<{ owner: string }[]>('SELECT current_user AS owner');
  const role = decodeURIComponent(new URL(servingUrl).username);
  return role === '' || row?.owner === role ? null : `"${role.replaceAll('"', '""')}"`;
}

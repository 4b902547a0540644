import { randomBytes, randomUUID } from 'node:crypto';
import { Sealer } from '../../src/platform/kernel/sealer.js';
import { TEST_MASTER_KEY, type TestDatabase } from './test-database.js';

/** Every secret that the database holds, opened, by what it was sealed for. */
export async function openAll(database: TestDatabase, sealer: Sealer): Promise<Map<string, string>> {
  const rows = await database.query<{ purpose: string; sealed: Buffer }>(
    `SELECT 'signing-key:' || kid AS purpose, sealed_private_key AS sealed FROM signing_keys
      UNION ALL SELECT name, sealed FROM sealed_secrets
      UNION ALL SELECT 'webhook:' || webhook_id, sealed_secret FROM webhooks
      UNION ALL SELECT 'webhook:' || webhook_id, sealed_previous_secret FROM webhooks
        WHERE sealed_previous_secret IS NOT NULL`,
  );
  return new Map(
    rows.map(({ purpose, sealed }, at) => [`${purpose} ${at}`, sealer.open(sealed, purpose).toString('hex')]),
  );
}

/** How many secrets name a key. */
export async function countUnder(database: TestDatabase, key: Buffer): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `SELECT count(*)::integer AS count FROM (
      SELECT sealed_private_key AS sealed FROM signing_keys UNION ALL SELECT sealed FROM sealed_secrets
      UNION ALL SELECT sealed_secret FROM webhooks UNION ALL SELECT sealed_previous_secret FROM webhooks) s
      WHERE substring(sealed FROM 2 FOR 4) = $1`,
    [new Sealer(key).presentId],
  );
  return row?.count ?? 0;
}

/** Adds webhooks with a present and a previous secret, as they are stored. */
export async function plantWebhooks(database: TestDatabase, count: number): Promise<void> {
  const sealer = new Sealer(TEST_MASTER_KEY);
  const ids = Array.from({ length: count }, () => randomUUID());
  const sealed = ids.map((id) => sealer.seal(randomBytes(32), `webhook:${id}`));
  await database.query(
    `INSERT INTO webhooks (organization_id, webhook_id, url, events, status, disabled_reason, sealed_secret,
        sealed_previous_secret, created_at, updated_at)
      SELECT (SELECT organization_id FROM organizations LIMIT 1), id, 'https://receiver.example', '{*}', 'disabled',
          'requested', sealed, sealed, now(), now()
        FROM unnest($1::uuid[], $2::bytea[]) AS n (id, sealed)`,
    [ids, sealed],
  );
}

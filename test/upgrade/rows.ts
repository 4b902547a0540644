import type { TestDatabase } from '../support/test-database.js';

/**
 * Tables whose rows stay as they are unless somebody changes them, and the columns that change by themselves. Of the
 * audit log no row ever changes.
 */
const LASTING: Readonly<Record<string, readonly string[]>> = {
  tiers: [],
  organizations: [],
  agents: [],
  credentials: ['last_used_at'],
  resource_servers: [],
  resource_scopes: [],
  resource_identifiers: [],
  federation_partners: [],
  token_revocations: [],
  // A version may plan a key's life anew; the key stays.
  signing_keys: ['phase', 'retired_at'],
  sealed_secrets: [],
  webhooks: [],
  audit_events: [],
  audit_checkpoints: [],
};

/** Every lasting row of a database, by table, as the version that wrote it knows it. */
export type Rows = ReadonlyMap<string, { readonly columns: readonly string[]; readonly rows: readonly string[] }>;

/**
 * Reads every lasting row.
 *
 * @param like what was read before: its tables and columns, so that what a migration adds is left out
 */
export async function readRows(database: TestDatabase, like?: Rows): Promise<Rows> {
  const found = new Map<string, { columns: readonly string[]; rows: readonly string[] }>();
  for (const [table, volatile] of Object.entries(LASTING)) {
    const columns = like === undefined ? await columnsOf(database, table, volatile) : like.get(table)?.columns;
    if (columns === undefined || columns.length === 0) continue;
    const rows = await database.query<{ row: string }>(
      `SELECT jsonb_build_array(${columns.map((name) => `"${name}"`).join(', ')})::text AS row FROM ${table}`,
    );
    found.set(table, { columns, rows: rows.map(({ row }) => row) });
  }
  return found;
}

async function columnsOf(database: TestDatabase, table: string, volatile: readonly string[]): Promise<string[]> {
  const columns = await database.query<{ name: string }>(
    `SELECT column_name AS name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1`,
    [table],
  );
  return columns.map(({ name }) => name).filter((name) => !volatile.includes(name));
}

/** The rows of before that are no longer there, each with its table. */
export function missingRows(before: Rows, after: Rows): string[] {
  return [...before].flatMap(([table, { rows }]) => {
    const there = new Set(after.get(table)?.rows);
    return rows.filter((row) => !there.has(row)).map((row) => `${table}: ${row}`);
  });
}

import type pg from 'pg';
import { NO_TABLES_OF_A_BACKUP, type BackupTable } from './backup-format.js';

/**
 * The tables of the schema that a backup holds, each behind those that it refers to; partitioned ones last, because the
 * parts of theirs that have had their time are emptied, which has to wait for whoever reads them from then on.
 */
export async function tablesOf(client: pg.Client): Promise<BackupTable[]> {
  const { rows } = await client.query<{ name: string; columns: string[]; refers: string[]; partitioned: boolean }>(
    `SELECT c.relname::text AS name, c.relkind = 'p' AS partitioned,
        ARRAY(SELECT a.attname::text FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum
        ) AS columns,
        ARRAY(SELECT r.relname::text FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid
          WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid) AS refers
      FROM pg_class c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname <> ALL ($1::text[])
      ORDER BY c.relkind = 'p', c.relname`,
    [[...NO_TABLES_OF_A_BACKUP]],
  );
  const ordered: BackupTable[] = [];
  const left = new Map(rows.map((row) => [row.name, row]));
  while (left.size > 0) {
    const next = [...left.values()].find(({ refers }) => !refers.some((name) => left.has(name)));
    if (next === undefined) throw new Error('Tables refer to each other in a circle.');
    left.delete(next.name);
    ordered.push({ table: next.name, columns: next.columns });
  }
  return ordered;
}

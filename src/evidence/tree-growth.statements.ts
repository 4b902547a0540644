import type { NamedStatement } from '../platform/database/statement-pool.js';
import { TILE_WIDTH } from './hash-tree.js';

/** Each level that a tree can have, and how many events a hash of it stands for. */
const EDGE_LEVELS = [0, 1, 2, 3, 4, 5].map((level) => `(${level}, ${TILE_WIDTH ** level}::bigint)`).join(', ');

/**
 * The tiles of the edge are the last of each level that are not complete. Events are grouped by the tile that they go to,
 * and each group is compared with itself, one place further: that is cheaper than a look at the neighbour of each.
 */
export const READ_GROWTH: NamedStatement = {
  name: 'read-audit-growth',
  text: `WITH chain AS MATERIALIZED (
      SELECT t.*, l.sequence AS head, l.head_hash
        FROM audit_trees t JOIN organization_ledgers l ON l.organization_id = t.organization_id
        WHERE t.organization_id = $1)
    SELECT c.*, given.*
      FROM chain c LEFT JOIN LATERAL (
        SELECT k.level, k.tile, k.hashes, NULL::bigint AS events, NULL::bigint AS first_sequence, NULL::bytea AS first_link,
            NULL::bytea AS last_hash, NULL::boolean AS linked, NULL::timestamptz AS oldest_at, NULL::timestamptz AS newest_at
          FROM (VALUES ${EDGE_LEVELS}) AS e (level, width)
          JOIN audit_tree_tiles k
            ON k.organization_id = $1 AND k.level = e.level AND k.tile = c.size / e.width / ${TILE_WIDTH}
          WHERE c.size / e.width % ${TILE_WIDTH} <> 0
        UNION ALL
        SELECT NULL, tile, leaves, events, first_sequence, substring(links FROM 1 FOR 32),
            substring(hashes FROM octet_length(hashes) - 31),
            events = last_sequence - first_sequence + 1 AND of_length
              AND substring(links FROM 33) = substring(hashes FROM 1 FOR octet_length(hashes) - 32),
            run_oldest_at, run_newest_at
          FROM (
            SELECT (n.sequence - 1) / ${TILE_WIDTH} AS tile, count(*) AS events, min(n.sequence) AS first_sequence,
                max(n.sequence) AS last_sequence,
                bool_and(octet_length(n.hash) = 32 AND octet_length(n.previous_hash) = 32) AS of_length,
                string_agg(sha256('\\x00'::bytea || n.hash), ''::bytea ORDER BY n.sequence) AS leaves,
                string_agg(n.hash, ''::bytea ORDER BY n.sequence) AS hashes,
                string_agg(n.previous_hash, ''::bytea ORDER BY n.sequence) AS links,
                min(n.occurred_at) AS run_oldest_at, max(n.occurred_at) AS run_newest_at
              FROM (
                SELECT v.sequence, v.hash, v.previous_hash, v.occurred_at FROM audit_events v
                  WHERE v.organization_id = $1 AND v.sequence > c.size AND v.sequence <= c.head
                  ORDER BY v.sequence LIMIT $2) n
              GROUP BY (n.sequence - 1) / ${TILE_WIDTH}) runs
      ) given ON true`,
};

/**
 * All hangs on the tree's row: nothing is changed or inserted where it is not any more what it was, or where somebody
 * else is at it, for whom nobody waits.
 */
export const SAVE_GROWTH: NamedStatement = {
  name: 'save-audit-growth',
  text: `WITH free AS (
      SELECT organization_id FROM audit_trees
        WHERE organization_id = $1::uuid AND size = $13 AND checkpoint_sequence = $14 FOR UPDATE SKIP LOCKED),
    grown AS (
      UPDATE audit_trees t SET size = $7, chain_hash = $8, checkpoint_sequence = coalesce($9::bigint, checkpoint_sequence),
          checkpoint_hash = coalesce($12::bytea, checkpoint_hash)
        FROM free WHERE t.organization_id = free.organization_id
        RETURNING t.organization_id),
    tiles AS (
      INSERT INTO audit_tree_tiles AS t (organization_id, level, tile, hashes, oldest_at, newest_at)
        SELECT g.organization_id, n.* FROM grown g
          CROSS JOIN unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::timestamptz[]) n
        ON CONFLICT (organization_id, level, tile) DO UPDATE SET hashes = EXCLUDED.hashes,
          oldest_at = least(t.oldest_at, EXCLUDED.oldest_at), newest_at = greatest(t.newest_at, EXCLUDED.newest_at)),
    made AS (
      INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at)
        SELECT organization_id, $9::bigint, $10::text, $11::timestamptz FROM grown WHERE $10::text IS NOT NULL)
    SELECT EXISTS (SELECT 1 FROM grown) AS saved`,
};

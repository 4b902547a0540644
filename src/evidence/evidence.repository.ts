import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { ChainHead } from '../audit/audit.service.js';
import { StatementPool, type NamedStatement } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { checkpointHash } from './checkpoint.js';
import { TILE_WIDTH, type KnownTile, type LeafRun, type Tile } from './hash-tree.js';

/** How far the tree and the checkpoints over a chain have come. */
export interface TreeState {
  /** Events in the tree. */
  readonly size: number;
  /** The `hash` of the last of them; null for an empty tree. */
  readonly chainHash: Buffer | null;
  /** The newest checkpoint; 0 where there is none. */
  readonly checkpointSequence: number;
  /** `hex(SHA-256(its JWS))`. */
  readonly checkpointHash: string | null;
  /** Events up to here were removed by retention. */
  readonly removedThrough: number;
  /** The signed statement of it. */
  readonly cut: string | null;
}

/** A checkpoint as it is stored. */
export interface StoredCheckpoint {
  readonly sequence: number;
  readonly checkpoint: string;
  readonly issuedAt: Date;
}

/** What one tile gets of a chain. */
export interface ChainedRun extends LeafRun {
  readonly events: number;
  readonly firstSequence: number;
  /** What the first of them points to. */
  readonly firstLink: Buffer;
  /** The `hash` of the last of them. */
  readonly lastHash: Buffer;
  /** Whether each of them is the next one and points to the one before it. */
  readonly linked: boolean;
}

/** A chain and the tree over it, as they stood at one instant. */
export interface ChainGrowth {
  readonly tree: TreeState;
  readonly head: ChainHead;
  /** The tiles at the tree's edge. */
  readonly edge: readonly KnownTile[];
  /** What the tree has not taken in yet, or the first of it. */
  readonly runs: readonly ChainedRun[];
}

/** What a tree has grown by. */
export interface TreeGrowth {
  readonly tiles: readonly Tile[];
  readonly size: number;
  readonly chainHash: Buffer;
  readonly checkpoint: StoredCheckpoint | null;
}

/** The tree and the head, and beside them a tile of the edge (with its `level`) or a run of events (without). */
interface GrowthRow extends TreeRow {
  head: string;
  head_hash: Buffer;
  level: number | null;
  tile: string | null;
  hashes: Buffer | null;
  events: string;
  first_sequence: string;
  first_link: Buffer;
  last_hash: Buffer;
  linked: boolean;
  oldest_at: Date;
  newest_at: Date;
}

interface TreeRow {
  size: string;
  chain_hash: Buffer | null;
  checkpoint_sequence: string;
  checkpoint_hash: Buffer | null;
  removed_through: string;
  cut: string | null;
}

interface CheckpointRow {
  sequence: string;
  checkpoint: string;
  issued_at: Date;
}

/** Each level that a tree can have, and how many events a hash of it stands for. */
const EDGE_LEVELS = [0, 1, 2, 3, 4, 5].map((level) => `(${level}, ${TILE_WIDTH ** level}::bigint)`).join(', ');

/**
 * The tiles of the edge are the last of each level that are not complete. Events are grouped by the tile that they go to,
 * and each group is compared with itself, one place further: that is cheaper than a look at the neighbour of each.
 */
const READ_GROWTH: NamedStatement = {
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
const SAVE_GROWTH: NamedStatement = {
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

/** All SQL on trees and checkpoints. */
@Injectable()
export class EvidenceRepository {
  constructor(
    private readonly unitOfWork: UnitOfWork,
    private readonly statements: StatementPool,
  ) {}

  /**
   * The event that tells of the first restore of an older backup since `since` that stands at or before `upTo`; null
   * where there is none.
   */
  async restoredAt(organizationId: string, upTo: number, since: string): Promise<number | null> {
    const rows = await this.unitOfWork.reader.query<{ sequence: string }[]>(
      `SELECT sequence FROM audit_events
        WHERE organization_id = $1 AND action = 'organization.restored' AND sequence <= $2 AND occurred_at >= $3
        ORDER BY sequence LIMIT 1`,
      [organizationId, upTo, since],
    );
    return rows[0] === undefined ? null : Number(rows[0].sequence);
  }

  /** The state of an organization's tree; null where it has none yet. */
  async tree(organizationId: string, reader: EntityManager = this.unitOfWork.reader): Promise<TreeState | null> {
    const rows = await reader.query<TreeRow[]>('SELECT * FROM audit_trees WHERE organization_id = $1', [
      organizationId,
    ]);
    return rows[0] === undefined ? null : toTreeState(rows[0]);
  }

  /** Makes the row of an organization's tree where there is none. */
  async ensureTree(organizationId: string): Promise<void> {
    await this.unitOfWork.reader.query('INSERT INTO audit_trees (organization_id) VALUES ($1) ON CONFLICT DO NOTHING', [
      organizationId,
    ]);
  }

  /**
   * Locks an organization's tree until the transaction ends, after whoever holds it. The ledger is not locked, so that
   * issuance goes on.
   *
   * @returns whether there is one
   */
  async lockTree(transaction: EntityManager, organizationId: string): Promise<boolean> {
    const rows = await transaction.query<unknown[]>('SELECT 1 FROM audit_trees WHERE organization_id = $1 FOR UPDATE', [
      organizationId,
    ]);
    return rows.length > 0;
  }

  /**
   * A chain and its tree, for the tree to grow by up to `limit` events: one statement, and so one instant.
   *
   * @param transaction one that holds the tree's lock; without it nothing is locked
   * @returns null where the organization has no tree yet
   */
  async growth(organizationId: string, limit: number, transaction?: EntityManager): Promise<ChainGrowth | null> {
    const rows = await this.query<GrowthRow>(READ_GROWTH, [organizationId, limit], transaction);
    const [first] = rows;
    if (first === undefined) return null;
    const given = rows.filter(({ hashes }) => hashes !== null);
    return {
      tree: toTreeState(first),
      head: { sequence: Number(first.head), hash: first.head_hash.toString('hex') },
      edge: given.flatMap(({ level, tile, hashes }) =>
        level === null ? [] : [{ level, tile: Number(tile), hashes: hashes as Buffer }],
      ),
      runs: given
        .filter(({ level }) => level === null)
        .map((row) => ({
          events: Number(row.events),
          firstSequence: Number(row.first_sequence),
          firstLink: row.first_link,
          lastHash: row.last_hash,
          linked: row.linked,
          leaves: row.hashes as Buffer,
          oldestAt: row.oldest_at,
          newestAt: row.newest_at,
        }))
        .sort((one, other) => one.firstSequence - other.firstSequence),
    };
  }

  /**
   * Where a chain breaks first behind the sequence `after`: a sequence that is not the next, or a `previousHash` that is
   * not the `hash` before.
   *
   * @param linkedTo the `hash` that the first of them has to point to
   * @param limit events that are looked at
   */
  async firstBreak(organizationId: string, after: number, linkedTo: Buffer, limit: number): Promise<number | null> {
    const rows = await this.unitOfWork.reader.query<{ broken: string | null }[]>(
      `SELECT min(before + 1) FILTER (WHERE sequence <> before + 1 OR previous_hash <> linked) AS broken
        FROM (
          SELECT sequence, previous_hash, lag(sequence, 1, $2::bigint) OVER chain AS before,
              lag(hash, 1, $3::bytea) OVER chain AS linked
            FROM (SELECT sequence, previous_hash, hash FROM audit_events
              WHERE organization_id = $1 AND sequence > $2::bigint ORDER BY sequence LIMIT $4) events
            WINDOW chain AS (ORDER BY sequence)) links`,
      [organizationId, after, linkedTo, limit],
    );
    const broken = rows[0]?.broken ?? null;
    return broken === null ? null : Number(broken);
  }

  /**
   * Stores what the tree has grown by, and the checkpoint over it where there is one: all of it, or nothing where the
   * tree is not any more what it grew from, or somebody else holds its lock.
   *
   * @param from the tree that it grew from
   * @param transaction one that holds the tree's lock; without it this is a transaction of its own
   * @returns whether it is stored
   */
  async saveTree(
    organizationId: string,
    from: TreeState,
    { tiles, size, chainHash, checkpoint }: TreeGrowth,
    transaction?: EntityManager,
  ): Promise<boolean> {
    const rows = await this.query<{ saved: boolean }>(
      SAVE_GROWTH,
      [
        organizationId,
        tiles.map(({ level }) => level),
        tiles.map(({ tile }) => tile),
        tiles.map(({ hashes }) => hashes),
        tiles.map(({ oldestAt }) => oldestAt),
        tiles.map(({ newestAt }) => newestAt),
        size,
        chainHash,
        checkpoint?.sequence ?? null,
        checkpoint?.checkpoint ?? null,
        checkpoint?.issuedAt ?? null,
        checkpoint === null ? null : Buffer.from(checkpointHash(checkpoint.checkpoint), 'hex'),
        from.size,
        from.checkpointSequence,
      ],
      transaction,
    );
    return rows[0]?.saved === true;
  }

  /** The hashes of a tile, or null. */
  async tile(reader: EntityManager, organizationId: string, level: number, tile: number): Promise<Buffer | null> {
    const rows = await reader.query<{ hashes: Buffer }[]>(
      'SELECT hashes FROM audit_tree_tiles WHERE organization_id = $1 AND level = $2 AND tile = $3',
      [organizationId, level, tile],
    );
    return rows[0]?.hashes ?? null;
  }

  /** How many checkpoints were issued after `since`; counts no further than `most`. */
  async countCheckpoints(reader: EntityManager, organizationId: string, since: Date, most: number): Promise<number> {
    const rows = await reader.query<{ count: string }[]>(
      `SELECT count(*) FROM (
          SELECT 1 FROM audit_checkpoints WHERE organization_id = $1 AND issued_at > $2 LIMIT $3) made`,
      [organizationId, since, most],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** The checkpoint over exactly `sequence` events, or null. */
  async checkpoint(
    organizationId: string,
    sequence: number,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<StoredCheckpoint | null> {
    const rows = await reader.query<CheckpointRow[]>(
      'SELECT sequence, checkpoint, issued_at FROM audit_checkpoints WHERE organization_id = $1 AND sequence = $2',
      [organizationId, sequence],
    );
    return rows[0] === undefined ? null : toStoredCheckpoint(rows[0]);
  }

  /** Up to `limit` checkpoints below `before`, newest first. */
  async checkpointsBefore(organizationId: string, before: string, limit: number): Promise<StoredCheckpoint[]> {
    const rows = await this.unitOfWork.reader.query<CheckpointRow[]>(
      `SELECT sequence, checkpoint, issued_at FROM audit_checkpoints WHERE organization_id = $1 AND sequence < $2
        ORDER BY sequence DESC LIMIT $3`,
      [organizationId, before, limit],
    );
    return rows.map(toStoredCheckpoint);
  }

  /** Up to `limit` checkpoints from `sequence` on, oldest first. */
  async checkpointsFrom(organizationId: string, sequence: number, limit: number): Promise<StoredCheckpoint[]> {
    const rows = await this.unitOfWork.reader.query<CheckpointRow[]>(
      `SELECT sequence, checkpoint, issued_at FROM audit_checkpoints WHERE organization_id = $1 AND sequence >= $2
        ORDER BY sequence LIMIT $3`,
      [organizationId, sequence, limit],
    );
    return rows.map(toStoredCheckpoint);
  }

  /**
   * What stands beyond the head that the ledger names, seen at one instant: the first event there, or null, whether
   * there is a checkpoint, and where the head is.
   */
  async beyondHead(organizationId: string): Promise<{ head: number; event: number | null; checkpoint: boolean }> {
    const rows = await this.unitOfWork.reader.query<{ head: string; event: string | null; checkpoint: boolean }[]>(
      `SELECT l.sequence AS head,
          (SELECT min(e.sequence) FROM audit_events e WHERE e.organization_id = $1 AND e.sequence > l.sequence) AS event,
          EXISTS (SELECT 1 FROM audit_checkpoints c WHERE c.organization_id = $1 AND c.sequence > l.sequence) AS checkpoint
        FROM organization_ledgers l WHERE l.organization_id = $1`,
      [organizationId],
    );
    const [row] = rows;
    return {
      head: Number(row?.head ?? 0),
      event: row === undefined || row.event === null ? null : Number(row.event),
      checkpoint: row?.checkpoint ?? false,
    };
  }

  /** The first event that stands before the first place of the chain, or null. */
  async belowFirst(organizationId: string): Promise<number | null> {
    const rows = await this.unitOfWork.reader.query<{ event: string | null }[]>(
      'SELECT min(sequence) AS event FROM audit_events WHERE organization_id = $1 AND sequence < 1',
      [organizationId],
    );
    const event = rows[0]?.event ?? null;
    return event === null ? null : Number(event);
  }

  private query<Row extends object>(
    statement: NamedStatement,
    values: unknown[],
    transaction: EntityManager | undefined,
  ): Promise<Row[]> {
    return transaction === undefined
      ? this.statements.query<Row>(statement, values)
      : transaction.query<Row[]>(statement.text, values);
  }
}

function toTreeState(row: TreeRow): TreeState {
  return {
    size: Number(row.size),
    chainHash: row.chain_hash,
    checkpointSequence: Number(row.checkpoint_sequence),
    checkpointHash: row.checkpoint_hash?.toString('hex') ?? null,
    removedThrough: Number(row.removed_through),
    cut: row.cut,
  };
}

function toStoredCheckpoint(row: CheckpointRow): StoredCheckpoint {
  return { sequence: Number(row.sequence), checkpoint: row.checkpoint, issuedAt: row.issued_at };
}

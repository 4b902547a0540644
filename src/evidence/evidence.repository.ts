import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
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
  /** The first place at which the chain does not go on; null where it does. */
  readonly broken: number | null;
  /** The `hash` of the last event asked for; null where it is not in this tile. */
  readonly lastHash: Buffer | null;
}

/** What a tree has grown by. */
export interface TreeGrowth {
  readonly tiles: readonly Tile[];
  readonly size: number;
  readonly chainHash: Buffer;
  readonly checkpoint: StoredCheckpoint | null;
}

interface RunRow {
  events: string;
  broken: string | null;
  leaves: Buffer;
  last_hash: Buffer | null;
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

/** All SQL on trees and checkpoints. */
@Injectable()
export class EvidenceRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

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
   * Locks an organization's tree until the transaction ends: one checkpoint at a time over all replicas. The ledger is
   * not locked, so that issuance goes on.
   *
   * @param wait whether to wait for whoever holds it
   * @returns null where somebody else holds it and `wait` is false
   */
  async lockTree(transaction: EntityManager, organizationId: string, wait: boolean): Promise<TreeState | null> {
    const rows = await transaction.query<TreeRow[]>(
      `SELECT * FROM audit_trees WHERE organization_id = $1 FOR UPDATE ${wait ? '' : 'SKIP LOCKED'}`,
      [organizationId],
    );
    return rows[0] === undefined ? null : toTreeState(rows[0]);
  }

  /**
   * What the tree takes of up to `limit` events after the sequence `after`, tile by tile, and where their chain breaks: a
   * sequence that is not the next, or a `previousHash` that is not the `hash` before.
   *
   * @param linkedTo the `hash` that the first of them has to point to
   */
  async leafRuns(
    transaction: EntityManager,
    organizationId: string,
    after: number,
    linkedTo: Buffer,
    limit: number,
  ): Promise<ChainedRun[]> {
    const rows = await transaction.query<RunRow[]>(
      `SELECT count(*) AS events, min(before + 1) FILTER (WHERE sequence <> before + 1 OR previous_hash <> linked) AS broken,
          string_agg(sha256('\\x00'::bytea || hash), ''::bytea ORDER BY sequence) AS leaves,
          string_agg(hash, ''::bytea) FILTER (WHERE sequence = $2::bigint + $4) AS last_hash,
          min(occurred_at) AS oldest_at, max(occurred_at) AS newest_at
        FROM (
          SELECT sequence, previous_hash, hash, occurred_at, lag(sequence, 1, $2::bigint) OVER chain AS before,
              lag(hash, 1, $3::bytea) OVER chain AS linked
            FROM (SELECT sequence, previous_hash, hash, occurred_at FROM audit_events
              WHERE organization_id = $1 AND sequence > $2::bigint ORDER BY sequence LIMIT $4) events
            WINDOW chain AS (ORDER BY sequence)) links
        GROUP BY (sequence - 1) / ${TILE_WIDTH} ORDER BY (sequence - 1) / ${TILE_WIDTH}`,
      [organizationId, after, linkedTo, limit],
    );
    return rows.map((row) => ({
      events: Number(row.events),
      broken: row.broken === null ? null : Number(row.broken),
      leaves: row.leaves,
      lastHash: row.last_hash,
      oldestAt: row.oldest_at,
      newestAt: row.newest_at,
    }));
  }

  /** Those of the given tiles that there are. */
  async tiles(
    reader: EntityManager,
    organizationId: string,
    places: readonly { readonly level: number; readonly tile: number }[],
  ): Promise<KnownTile[]> {
    const rows = await reader.query<{ level: number; tile: string; hashes: Buffer }[]>(
      `SELECT t.level, t.tile, t.hashes FROM unnest($2::smallint[], $3::bigint[]) AS p (level, tile)
        JOIN audit_tree_tiles t ON t.organization_id = $1 AND t.level = p.level AND t.tile = p.tile`,
      [organizationId, places.map(({ level }) => level), places.map(({ tile }) => tile)],
    );
    return rows.map((row) => ({ level: row.level, tile: Number(row.tile), hashes: row.hashes }));
  }

  /** Stores what the tree has grown by, and the checkpoint over it where there is one. */
  async saveTree(
    transaction: EntityManager,
    organizationId: string,
    { tiles, size, chainHash, checkpoint }: TreeGrowth,
  ): Promise<void> {
    await transaction.query(
      `WITH grown AS (
          INSERT INTO audit_tree_tiles AS t (organization_id, level, tile, hashes, oldest_at, newest_at)
            SELECT $1::uuid, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::timestamptz[])
            ON CONFLICT (organization_id, level, tile) DO UPDATE SET hashes = EXCLUDED.hashes,
              oldest_at = least(t.oldest_at, EXCLUDED.oldest_at), newest_at = greatest(t.newest_at, EXCLUDED.newest_at)),
        made AS (
          INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at)
            SELECT $1::uuid, $9::bigint, $10::text, $11::timestamptz WHERE $10::text IS NOT NULL)
        UPDATE audit_trees SET size = $7, chain_hash = $8, checkpoint_sequence = coalesce($9::bigint, checkpoint_sequence),
            checkpoint_hash = coalesce($12::bytea, checkpoint_hash)
          WHERE organization_id = $1::uuid`,
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
      ],
    );
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

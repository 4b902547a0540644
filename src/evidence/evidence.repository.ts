import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { Tile } from './hash-tree.js';

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

/** An organization whose chain wants a checkpoint. */
export interface DueOrganization {
  readonly organizationId: string;
  /** Its newest checkpoint when this was found. */
  readonly checkpointSequence: number;
}

/** An organization, and how far its chain has come. */
export interface WaitingOrganization extends DueOrganization {
  /** Its newest event. */
  readonly sequence: number;
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

  /** Stores what the tree has grown by. */
  async saveTree(
    transaction: EntityManager,
    organizationId: string,
    tiles: readonly Tile[],
    size: number,
    chainHash: Buffer,
  ): Promise<void> {
    await transaction.query(
      `INSERT INTO audit_tree_tiles AS t (organization_id, level, tile, hashes, oldest_at, newest_at)
        SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[], $5::timestamptz[], $6::timestamptz[])
        ON CONFLICT (organization_id, level, tile) DO UPDATE SET hashes = EXCLUDED.hashes,
          oldest_at = least(t.oldest_at, EXCLUDED.oldest_at), newest_at = greatest(t.newest_at, EXCLUDED.newest_at)`,
      [
        organizationId,
        tiles.map(({ level }) => level),
        tiles.map(({ tile }) => tile),
        tiles.map(({ hashes }) => hashes),
        tiles.map(({ oldestAt }) => oldestAt),
        tiles.map(({ newestAt }) => newestAt),
      ],
    );
    await transaction.query('UPDATE audit_trees SET size = $2, chain_hash = $3 WHERE organization_id = $1', [
      organizationId,
      size,
      chainHash,
    ]);
  }

  /** The hashes of a tile, or null. */
  async tile(reader: EntityManager, organizationId: string, level: number, tile: number): Promise<Buffer | null> {
    const rows = await reader.query<{ hashes: Buffer }[]>(
      'SELECT hashes FROM audit_tree_tiles WHERE organization_id = $1 AND level = $2 AND tile = $3',
      [organizationId, level, tile],
    );
    return rows[0]?.hashes ?? null;
  }

  /** Stores a checkpoint. */
  async insertCheckpoint(
    transaction: EntityManager,
    organizationId: string,
    { sequence, checkpoint, issuedAt }: StoredCheckpoint,
    checkpointHash: string,
  ): Promise<void> {
    await transaction.query(
      'INSERT INTO audit_checkpoints (organization_id, sequence, checkpoint, issued_at) VALUES ($1, $2, $3, $4)',
      [organizationId, sequence, checkpoint, issuedAt],
    );
    await transaction.query(
      'UPDATE audit_trees SET checkpoint_sequence = $2, checkpoint_hash = $3 WHERE organization_id = $1',
      [organizationId, sequence, Buffer.from(checkpointHash, 'hex')],
    );
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

  /** The last of the `limit` organizations after `after`; null where fewer are left. */
  async pageEnd(after: string, limit: number): Promise<string | null> {
    const rows = await this.unitOfWork.reader.query<{ organization_id: string }[]>(
      `SELECT organization_id FROM organization_ledgers WHERE organization_id > $1
        ORDER BY organization_id OFFSET $2 LIMIT 1`,
      [after, limit - 1],
    );
    return rows[0]?.organization_id ?? null;
  }

  /** How far given chains have come, and their newest checkpoints. */
  async waiting(organizationIds: readonly string[]): Promise<WaitingOrganization[]> {
    const rows = await this.unitOfWork.reader.query<
      { organization_id: string; sequence: string; checkpoint_sequence: string }[]
    >(
      `SELECT l.organization_id, l.sequence, coalesce(t.checkpoint_sequence, 0) AS checkpoint_sequence
        FROM organization_ledgers l
        LEFT JOIN audit_trees t ON t.organization_id = l.organization_id
        WHERE l.organization_id = ANY ($1::uuid[])`,
      [organizationIds],
    );
    return rows.map((row) => ({
      organizationId: row.organization_id,
      sequence: Number(row.sequence),
      checkpointSequence: Number(row.checkpoint_sequence),
    }));
  }

  /**
   * Organizations after `after` up to `end` whose chains want a checkpoint: `events` events wait for one, or one that
   * occurred at `before` or earlier does.
   */
  async due(after: string, end: string, events: number, before: Date): Promise<DueOrganization[]> {
    const rows = await this.unitOfWork.reader.query<{ organization_id: string; checkpoint_sequence: string }[]>(
      `SELECT l.organization_id, coalesce(t.checkpoint_sequence, 0) AS checkpoint_sequence
        FROM organization_ledgers l
        LEFT JOIN audit_trees t ON t.organization_id = l.organization_id
        WHERE l.organization_id > $1 AND l.organization_id <= $2 AND l.sequence > coalesce(t.checkpoint_sequence, 0)
          AND (l.sequence - coalesce(t.checkpoint_sequence, 0) >= $3 OR (
            SELECT e.occurred_at FROM audit_events e
              WHERE e.organization_id = l.organization_id AND e.sequence > coalesce(t.checkpoint_sequence, 0)
              ORDER BY e.sequence LIMIT 1) <= $4)`,
      [after, end, events, before],
    );
    return rows.map((row) => ({
      organizationId: row.organization_id,
      checkpointSequence: Number(row.checkpoint_sequence),
    }));
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

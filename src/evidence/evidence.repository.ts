import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { StatementPool, type NamedStatement } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { checkpointHash } from './checkpoint.js';
import { READ_GROWTH, SAVE_GROWTH } from './tree-growth.statements.js';
import type { ChainGrowth, GrowthRow, StoredCheckpoint, TreeGrowth, TreeRow, TreeState } from './tree-growth.js';

interface CheckpointRow {
  sequence: string;
  checkpoint: string;
  issued_at: Date;
}

/** Where a chain ends, and what was made of it up to there. */
export interface ChainEnd {
  /** The head that the ledger names. */
  readonly head: number;
  /** The first event beyond it; null where there is none. */
  readonly beyond: number | null;
  /** The sequence of the newest checkpoint; 0 where there is none. */
  readonly newestCheckpoint: number;
  /** The one that the row of the tree names. */
  readonly namedCheckpoint: number;
  readonly treeSize: number;
}

/** Events that retention is about to remove. */
export interface Leftovers {
  readonly events: number;
  readonly first: number;
  readonly last: number;
  /** Whether each points to the one before it. */
  readonly linked: boolean;
}

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

  /** The end of a chain, seen at one instant: what stands beyond its head, and how far checkpoints and tree go. */
  async end(organizationId: string): Promise<ChainEnd> {
    const rows = await this.unitOfWork.reader.query<
      { head: string; beyond: string | null; newest: string; named: string; size: string }[]
    >(
      `SELECT l.sequence AS head,
          (SELECT min(e.sequence) FROM audit_events e WHERE e.organization_id = $1 AND e.sequence > l.sequence) AS beyond,
          coalesce((SELECT max(c.sequence) FROM audit_checkpoints c WHERE c.organization_id = $1), 0) AS newest,
          coalesce(t.checkpoint_sequence, 0) AS named, coalesce(t.size, 0) AS size
        FROM organization_ledgers l LEFT JOIN audit_trees t ON t.organization_id = l.organization_id
        WHERE l.organization_id = $1`,
      [organizationId],
    );
    const [row] = rows;
    return {
      head: Number(row?.head ?? 0),
      beyond: row === undefined || row.beyond === null ? null : Number(row.beyond),
      newestCheckpoint: Number(row?.newest ?? 0),
      namedCheckpoint: Number(row?.named ?? 0),
      treeSize: Number(row?.size ?? 0),
    };
  }

  /** The first event that stands before the first place of the chain, or 0 for one without a place; null where there is none. */
  async belowFirst(organizationId: string): Promise<number | null> {
    const rows = await this.unitOfWork.reader.query<{ event: string | null }[]>(
      `SELECT sequence AS event FROM audit_events WHERE organization_id = $1 AND (sequence < 1 OR sequence IS NULL)
        ORDER BY sequence LIMIT 1`,
      [organizationId],
    );
    return rows[0] === undefined ? null : Number(rows[0].event ?? 0);
  }

  /** The events up to `through`, seen at one instant; null where there is none. */
  async leftovers(organizationId: string, through: number): Promise<Leftovers | null> {
    const rows = await this.unitOfWork.run(async (transaction) => {
      // While retention removes a long prefix there may be millions of them.
      await transaction.query("SET LOCAL statement_timeout = '60s'");
      return transaction.query<{ events: string; first: string | null; last: string; linked: boolean }[]>(
        `SELECT count(*) AS events, min(sequence) AS first, max(sequence) AS last, bool_and(linked) AS linked
        FROM (
          SELECT sequence, previous_hash = lag(hash, 1, previous_hash) OVER (ORDER BY sequence) AS linked
            FROM audit_events WHERE organization_id = $1 AND sequence <= $2) links`,
        [organizationId, through],
      );
    });
    const [row] = rows;
    if (row === undefined || row.first === null) return null;
    return { events: Number(row.events), first: Number(row.first), last: Number(row.last), linked: row.linked };
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

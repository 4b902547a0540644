import type { ChainHead } from '../audit/audit.service.js';
import type { KnownTile, LeafRun, Tile } from './hash-tree.js';

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
export interface GrowthRow extends TreeRow {
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

/** What is stored of a tree, as the driver reads it. */
export interface TreeRow {
  size: string;
  chain_hash: Buffer | null;
  checkpoint_sequence: string;
  checkpoint_hash: Buffer | null;
  removed_through: string;
  cut: string | null;
}

import { nodesOver, rootOf, subtreesOf, type SubtreeHash } from './merkle.js';

/** Hashes of one tile, and the height of the subtree that a complete tile stands for. */
export const TILE_WIDTH = 256;
const TILE_HEIGHT = 8;
const HASH_LENGTH = 32;
/** Tiles in memory at one time; one has 8 KiB. */
const MAX_TILES = 64;

/** A tile as it is stored: up to 256 hashes, and on level 0 when its events occurred. */
export interface Tile {
  readonly level: number;
  readonly tile: number;
  readonly hashes: Buffer;
  readonly oldestAt: Date | null;
  readonly newestAt: Date | null;
}

/** Reads the hashes of a stored tile; null where there is none. */
export type LoadTile = (level: number, tile: number) => Promise<Buffer | null>;

/** The stored tree lacks hashes that it should have. */
export class TreeDamaged extends Error {
  constructor(level: number, tile: number) {
    super(`the audit tree lacks hashes of tile ${level}/${tile}`);
    this.name = 'TreeDamaged';
  }
}

/** Leaf hashes of events that stand one behind the other in one tile. */
export interface LeafRun {
  readonly leaves: Buffer;
  readonly oldestAt: Date;
  readonly newestAt: Date;
}

/** A tile that was read. */
export interface KnownTile {
  readonly level: number;
  readonly tile: number;
  readonly hashes: Buffer;
}

/**
 * The Merkle tree of an organization, stored in tiles: level 0 holds leaf hashes, level n the roots of complete tiles of
 * level n - 1.
 */
export class HashTree {
  private readonly known = new Map<string, Buffer>();
  private readonly grown = new Map<string, Tile>();

  /**
   * @param load reads a tile that is not known
   * @param known tiles that were read already
   */
  constructor(
    private readonly load: LoadTile,
    known: readonly KnownTile[] = [],
  ) {
    for (const { level, tile, hashes } of known) this.known.set(`${level}/${tile}`, hashes);
  }

  /** The hash of a complete subtree. Throws `TreeDamaged`. */
  readonly subtree: SubtreeHash = async (height, index) => {
    const level = Math.floor(height / TILE_HEIGHT);
    const width = 2 ** (height % TILE_HEIGHT);
    const first = index * width;
    return this.fold(level, Math.floor(first / TILE_WIDTH), first % TILE_WIDTH, width);
  };

  /** The root over the first `size` events. Throws `TreeDamaged`. */
  root(size: number): Promise<Buffer> {
    return rootOf(this.subtree, 0, size);
  }

  /** The complete subtrees of the first `size` events, the largest first. */
  async subtrees(size: number): Promise<Buffer[]> {
    const hashes: Buffer[] = [];
    for (const { height, index } of subtreesOf(size)) hashes.push(await this.subtree(height, index));
    return hashes;
  }

  /** The stored leaf hash of the event at `index`, from 0; null where there is none. */
  async leaf(index: number): Promise<Buffer | null> {
    const at = (index % TILE_WIDTH) * HASH_LENGTH;
    const hashes = await this.hashesOf(0, Math.floor(index / TILE_WIDTH));
    return hashes.length < at + HASH_LENGTH ? null : hashes.subarray(at, at + HASH_LENGTH);
  }

  /** Whether the roots of complete tiles that end at `size` stand one level higher as they should. */
  async isBoundAt(size: number): Promise<boolean> {
    for (let level = 0, rest = size; rest > 0 && rest % TILE_WIDTH === 0; level += 1) {
      rest /= TILE_WIDTH;
      const inside = await this.fold(level, rest - 1, 0, TILE_WIDTH);
      const above = rest - 1;
      const named = await this.fold(level + 1, Math.floor(above / TILE_WIDTH), above % TILE_WIDTH, 1);
      if (!named.equals(inside)) return false;
    }
    return true;
  }

  /**
   * Appends leaves.
   *
   * @param size how many the tree has
   */
  append(size: number, run: LeafRun): Promise<void> {
    return this.push(0, size, run.leaves, run);
  }

  /** The tiles that grew, as they are to be stored. */
  takeGrown(): Tile[] {
    const tiles = [...this.grown.values()];
    this.grown.clear();
    return tiles;
  }

  /** Puts hashes into one tile, which has room for them, and the root of a tile that is complete one level higher. */
  private async push(level: number, index: number, hashes: Buffer, span: LeafRun | null): Promise<void> {
    const tile = Math.floor(index / TILE_WIDTH);
    const at = index % TILE_WIDTH;
    const before = at === 0 ? Buffer.alloc(0) : await this.hashesOf(level, tile);
    if (before.length < at * HASH_LENGTH) throw new TreeDamaged(level, tile);
    const end = at + hashes.length / HASH_LENGTH;
    if (end > TILE_WIDTH) throw new Error('the hashes do not fit into one tile');
    const whole = Buffer.concat([before.subarray(0, at * HASH_LENGTH), hashes]);
    const key = `${level}/${tile}`;
    const known = this.grown.get(key);
    this.remember(key, whole);
    this.grown.set(key, {
      level,
      tile,
      hashes: whole,
      oldestAt: earlier(known?.oldestAt ?? null, span?.oldestAt ?? null),
      newestAt: later(known?.newestAt ?? null, span?.newestAt ?? null),
    });
    if (end === TILE_WIDTH) await this.push(level + 1, tile, foldHashes(whole), null);
  }

  private async fold(level: number, tile: number, at: number, width: number): Promise<Buffer> {
    const hashes = await this.hashesOf(level, tile);
    const end = (at + width) * HASH_LENGTH;
    if (hashes.length < end) throw new TreeDamaged(level, tile);
    return foldHashes(hashes.subarray(at * HASH_LENGTH, end));
  }

  private async hashesOf(level: number, tile: number): Promise<Buffer> {
    const key = `${level}/${tile}`;
    const known = this.grown.get(key)?.hashes ?? this.known.get(key);
    if (known !== undefined) return known;
    const hashes = (await this.load(level, tile)) ?? Buffer.alloc(0);
    this.remember(key, hashes);
    return hashes;
  }

  private remember(key: string, hashes: Buffer): void {
    if (this.known.size >= MAX_TILES) this.known.clear();
    this.known.set(key, hashes);
  }
}

/** The root over a power of two of hashes that stand one behind the other. */
function foldHashes(hashes: Buffer): Buffer {
  let row = hashes;
  while (row.length > HASH_LENGTH) row = nodesOver(row);
  return row;
}

function earlier(a: Date | null, b: Date | null): Date | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}

function later(a: Date | null, b: Date | null): Date | null {
  if (a === null || b === null) return a ?? b;
  return a > b ? a : b;
}

import { hash } from 'node:crypto';

const LEAF = Buffer.of(0);
/** 0x01 and room for two hashes: filled and hashed in one go, so that a node costs no memory of its own. */
const NODE = Buffer.alloc(65, 1);

/**
 * The leaf hash of an event, RFC 9162 §2.1.1: SHA-256 over 0x00 and the 32 bytes of the event's `hash`.
 *
 * @param eventHash 32 bytes
 */
export function leafHash(eventHash: Buffer): Buffer {
  return hash('sha256', Buffer.concat([LEAF, eventHash]), 'buffer');
}

/** The hash of an inner node, RFC 9162 §2.1.1: SHA-256 over 0x01 and the hashes of its two children. */
export function nodeHash(left: Buffer, right: Buffer): Buffer {
  left.copy(NODE, 1);
  right.copy(NODE, 33);
  return hash('sha256', NODE, 'buffer');
}

/** The hashes one level above hashes that stand one behind the other, an even number of them. */
export function nodesOver(hashes: Buffer): Buffer {
  const nodes = Buffer.allocUnsafe(hashes.length / 2);
  for (let at = 0; at < hashes.length; at += 64) {
    hashes.copy(NODE, 1, at, at + 64);
    // As text of one byte a letter: a Buffer for each costs as much as the hash.
    nodes.write(hash('sha256', NODE, 'binary'), at / 2, 'latin1');
  }
  return nodes;
}

/** The hash of a complete subtree: its leaves are `2^height · index` up to, not including, `2^height · (index + 1)`. */
export type SubtreeHash = (height: number, index: number) => Promise<Buffer>;

/** The largest power of two below `size`, as an exponent; `size` at least 2. */
function splitHeight(size: number): number {
  let height = 0;
  while (2 ** (height + 1) < size) height += 1;
  return height;
}

/**
 * The Merkle Tree Hash of RFC 9162 §2.1.1 over `size` leaves from `start` on. `start` is where RFC 9162 would split, so
 * all complete subtrees are aligned.
 */
export async function rootOf(subtree: SubtreeHash, start: number, size: number): Promise<Buffer> {
  const height = Math.round(Math.log2(size));
  if (2 ** height === size) return subtree(height, start / size);
  const left = 2 ** splitHeight(size);
  return nodeHash(await rootOf(subtree, start, left), await rootOf(subtree, start + left, size - left));
}

/**
 * The inclusion proof of a leaf, RFC 9162 §2.1.3.1.
 *
 * @param index the leaf's place, from 0
 * @param size the tree's leaves
 */
export async function inclusionPath(subtree: SubtreeHash, index: number, size: number): Promise<Buffer[]> {
  const path: Buffer[] = [];
  let start = 0;
  let rest = size;
  while (rest > 1) {
    const left = 2 ** splitHeight(rest);
    if (index - start < left) {
      path.unshift(await rootOf(subtree, start + left, rest - left));
      rest = left;
    } else {
      path.unshift(await rootOf(subtree, start, left));
      start += left;
      rest -= left;
    }
  }
  return path;
}

/**
 * The consistency proof of two trees, RFC 9162 §2.1.4.1.
 *
 * @param from the leaves of the smaller tree, at least 1
 * @param to the leaves of the larger one
 */
export async function consistencyPath(subtree: SubtreeHash, from: number, to: number): Promise<Buffer[]> {
  const path: Buffer[] = [];
  let start = 0;
  let rest = to;
  let known = from;
  let whole = true;
  while (known !== rest) {
    const left = 2 ** splitHeight(rest);
    if (known <= left) {
      path.unshift(await rootOf(subtree, start + left, rest - left));
      rest = left;
    } else {
      path.unshift(await rootOf(subtree, start, left));
      start += left;
      rest -= left;
      known -= left;
      whole = false;
    }
  }
  return whole ? path : [await rootOf(subtree, start, rest), ...path];
}

/** Verifies an inclusion proof, RFC 9162 §2.1.3.2. */
export function isIncluded(leaf: Buffer, index: number, size: number, path: readonly Buffer[], root: Buffer): boolean {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false;
  let node = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      while (node % 2 === 0 && node !== 0) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      hash = nodeHash(hash, sibling);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 && hash.equals(root);
}

/** Verifies a consistency proof, RFC 9162 §2.1.4.2. */
export function isConsistent(
  from: number,
  to: number,
  path: readonly Buffer[],
  fromRoot: Buffer,
  toRoot: Buffer,
): boolean {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 1 || from > to) return false;
  if (from === to) return path.length === 0 && fromRoot.equals(toRoot);
  const steps =
    Number.isInteger(Math.log2(from)) && 2 ** Math.round(Math.log2(from)) === from ? [fromRoot, ...path] : [...path];
  const first = steps.shift();
  if (first === undefined) return false;
  let node = from - 1;
  let last = to - 1;
  while (node % 2 === 1) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  let fromHash = first;
  let toHash = first;
  for (const step of steps) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      fromHash = nodeHash(step, fromHash);
      toHash = nodeHash(step, toHash);
      while (node % 2 === 0 && node !== 0) [node, last] = [node / 2, Math.floor(last / 2)];
    } else {
      toHash = nodeHash(toHash, step);
    }
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 && fromHash.equals(fromRoot) && toHash.equals(toRoot);
}

/** The root over leaves that come one by one, in memory of logarithmic size. */
export class GrowingTree {
  private readonly subtrees: Buffer[];

  /**
   * @param size the leaves that the tree has already
   * @param subtrees their complete subtrees, the largest first: one for each bit of `size` that is set
   */
  constructor(
    private size = 0,
    subtrees: readonly Buffer[] = [],
  ) {
    this.subtrees = [...subtrees];
  }

  /** Takes the next leaf. */
  append(leaf: Buffer): void {
    let hash = leaf;
    for (let rest = this.size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      hash = nodeHash(this.subtrees.pop() as Buffer, hash);
    }
    this.subtrees.push(hash);
    this.size += 1;
  }

  /** The Merkle Tree Hash over the leaves so far; at least one. */
  root(): Buffer {
    const [last, ...larger] = [...this.subtrees].reverse();
    if (last === undefined) throw new Error('an empty tree has no root here');
    return larger.reduce((hash, subtree) => nodeHash(subtree, hash), last);
  }
}

/** The complete subtrees of a tree with `size` leaves, the largest first, as (height, index). */
export function subtreesOf(size: number): { height: number; index: number }[] {
  const subtrees: { height: number; index: number }[] = [];
  let start = 0;
  for (let height = 52; height >= 0; height -= 1) {
    const width = 2 ** height;
    if (size - start < width) continue;
    subtrees.push({ height, index: start / width });
    start += width;
  }
  return subtrees;
}

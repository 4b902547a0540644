import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { HashTree, TILE_WIDTH, TreeDamaged } from './hash-tree.js';
import { consistencyPath, GrowingTree, inclusionPath, isConsistent, isIncluded, leafHash, nodeHash } from './merkle.js';

const sha256 = (...parts: Buffer[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const eventHash = (index: number) => sha256(Buffer.from(`event ${index}`));
const LEAVES = Array.from({ length: 3000 }, (_, index) => leafHash(eventHash(index)));

/** RFC 9162 §2.1.1, word by word. */
function merkleTreeHash(leaves: readonly Buffer[]): Buffer {
  const [only] = leaves;
  if (only === undefined) return sha256();
  if (leaves.length === 1) return only;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Buffer.of(1), merkleTreeHash(leaves.slice(0, k)), merkleTreeHash(leaves.slice(k)));
}

/** A tree of `size` events in tiles that were stored and read back, grown by steps. */
async function storedTree(size: number, step = 700): Promise<{ tree: HashTree; tiles: Map<string, Buffer> }> {
  const tiles = new Map<string, Buffer>();
  const load = (level: number, tile: number) => Promise.resolve(tiles.get(`${level}/${tile}`) ?? null);
  for (let from = 0; from < size; from += step) {
    const tree = new HashTree(load);
    const end = Math.min(from + step, size);
    for (let at = from; at < end;) {
      const next = Math.min(end, (Math.floor(at / TILE_WIDTH) + 1) * TILE_WIDTH);
      const leaves = Buffer.concat(LEAVES.slice(at, next));
      await tree.append(at, { leaves, oldestAt: new Date(at), newestAt: new Date(next - 1) });
      at = next;
    }
    for (const { level, tile, hashes } of tree.takeGrown()) tiles.set(`${level}/${tile}`, hashes);
  }
  return { tree: new HashTree(load), tiles };
}

/** The last tiles of a tree of `size` leaves that are not complete: what growing it and its root need, level by level. */
function edgeOf(size: number): { readonly level: number; readonly tile: number }[] {
  const edge: { level: number; tile: number }[] = [];
  for (let [level, count] = [0, size]; count > 0; level += 1, count = Math.floor(count / TILE_WIDTH)) {
    if (count % TILE_WIDTH !== 0) edge.push({ level, tile: Math.floor(count / TILE_WIDTH) });
  }
  return edge;
}

describe('the Merkle tree of RFC 9162', () => {
  const size = LEAVES.length;

  it('hashes leaves and nodes as section 2.1.1 says', () => {
    const hash = eventHash(1);
    expect(leafHash(hash)).toEqual(sha256(Buffer.of(0), hash));
    expect(nodeHash(hash, hash)).toEqual(sha256(Buffer.of(1), hash, hash));
  });

  it('has the roots of the definition at every size, in tiles and while it grows', async () => {
    const { tree } = await storedTree(600, 97);
    const growing = new GrowingTree();
    for (let count = 1; count <= 600; count += 1) {
      growing.append(LEAVES[count - 1] as Buffer);
      if (count % 37 !== 0 && ![1, 2, 255, 256, 257, 511, 512, 513].includes(count)) continue;
      const root = merkleTreeHash(LEAVES.slice(0, count));
      expect(growing.root()).toEqual(root);
      expect(await tree.root(count)).toEqual(root);
      expect(new GrowingTree(count, await tree.subtrees(count)).root()).toEqual(root);
    }
  });

  it('needs no tiles but those at its edge to grow and to have its root', async () => {
    for (const size of [1, 255, 256, 257, 511, 512, 2000, 2816]) {
      const { tiles } = await storedTree(size);
      const known = edgeOf(size).map(({ level, tile }) => {
        const hashes = tiles.get(`${level}/${tile}`);
        if (hashes === undefined) throw new Error(`there is no tile ${level}/${tile}`);
        return { level, tile, hashes };
      });
      const tree = new HashTree(() => Promise.reject(new Error('no tile more is read')), known);
      const next = Math.min(3000, (Math.floor(size / TILE_WIDTH) + 1) * TILE_WIDTH);
      const leaves = Buffer.concat(LEAVES.slice(size, next));
      await tree.append(size, { leaves, oldestAt: new Date(0), newestAt: new Date(0) });
      expect(await tree.root(next)).toEqual(merkleTreeHash(LEAVES.slice(0, next)));
    }
  });

  it('proves every leaf of every tree, and no other leaf, place or root', async () => {
    const { tree } = await storedTree(size);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: size }), fc.nat(), async (count, some) => {
        const index = some % count;
        const root = await tree.root(count);
        const path = await inclusionPath(tree.subtree, index, count);
        const leaf = LEAVES[index] as Buffer;
        expect(path.length).toBeLessThanOrEqual(12);
        expect(isIncluded(leaf, index, count, path, root)).toBe(true);
        expect(isIncluded(leafHash(leaf), index, count, path, root)).toBe(false);
        expect(isIncluded(leaf, index, count, path, leaf)).toBe(count === 1);
        expect(isIncluded(leaf, index, count, [...path, leaf], root)).toBe(false);
        expect(isIncluded(leaf, count, count, path, root)).toBe(false);
        if (path.length > 0) expect(isIncluded(leaf, index, count, path.slice(1), root)).toBe(false);
        if (path.length > 0) expect(isIncluded(leaf, index ^ 1, count, path, root)).toBe(false);
      }),
      { numRuns: 150 },
    );
  });

  it('proves that every tree extends every smaller one, and no other', async () => {
    const { tree } = await storedTree(size);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: size }), fc.nat(), async (to, some) => {
        const from = 1 + (some % to);
        const [fromRoot, toRoot] = [await tree.root(from), await tree.root(to)];
        const path = await consistencyPath(tree.subtree, from, to);
        expect(isConsistent(from, to, path, fromRoot, toRoot)).toBe(true);
        expect(isConsistent(from, to, path, leafHash(fromRoot), toRoot)).toBe(false);
        expect(isConsistent(from, to, path, fromRoot, leafHash(toRoot))).toBe(false);
        expect(isConsistent(from, to, [...path, toRoot], fromRoot, toRoot)).toBe(false);
        expect(isConsistent(to + 1, to, path, fromRoot, toRoot)).toBe(false);
        expect(isConsistent(0, to, path, fromRoot, toRoot)).toBe(false);
        if (path.length > 0) expect(isConsistent(from, to, path.slice(0, -1), fromRoot, toRoot)).toBe(false);
      }),
      { numRuns: 150 },
    );
  });

  it('tells a tile that lost hashes, and one whose root above is not its own', async () => {
    const { tiles } = await storedTree(600);
    const read = () => new HashTree((level, tile) => Promise.resolve(tiles.get(`${level}/${tile}`) ?? null));
    expect(await read().isBoundAt(256)).toBe(true);
    const above = tiles.get('1/0') as Buffer;
    tiles.set('1/0', Buffer.from(above.map((byte, index) => (index === 5 ? byte ^ 1 : byte))));
    expect(await read().isBoundAt(256)).toBe(false);
    tiles.delete('0/2');
    await expect(read().root(600)).rejects.toThrow(TreeDamaged);
    expect(await read().leaf(599)).toBeNull();
  });
});

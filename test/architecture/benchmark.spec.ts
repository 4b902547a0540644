import { describe, expect, it } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Manifest {
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly workspaces?: unknown;
}

const product = JSON.parse(read('package.json')) as Manifest;
const benchmark = JSON.parse(read('test/bench/package.json')) as Manifest;
const rivals = Object.keys(benchmark.dependencies ?? {});

describe('the benchmark', () => {
  it('has packages of its own, among them the rivals', () => {
    expect(rivals).toEqual(expect.arrayContaining(['@node-oauth/oauth2-server', 'oidc-provider']));
  });

  it('shares none of them with the product, neither named nor installed', () => {
    const { dependencies, devDependencies, optionalDependencies, peerDependencies } = product;
    const named = { ...dependencies, ...devDependencies, ...optionalDependencies, ...peerDependencies };
    expect(rivals.filter((name) => name in named)).toEqual([]);
    const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, unknown> };
    const installed = Object.keys(packages).map((path) => path.slice(path.lastIndexOf('node_modules/') + 13));
    expect(installed).toContain('pg');
    expect(rivals.filter((name) => installed.includes(name))).toEqual([]);
    // A workspace would be installed with the product.
    expect(product.workspaces).toBeUndefined();
  });

  it('is named by no file of the product, and in its scripts by the one that runs it', () => {
    const files = ['src', 'scripts', 'docker'].flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name).slice(ROOT.length + 1)),
    );
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((path) => read(path).includes('test/bench'))).toEqual(['scripts/bench.cjs']);
  });
});

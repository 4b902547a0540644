import { describe, expect, it } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { read, ROOT } from './markdown.js';

const TEST = /`((?:src|test)\/[\w./-]+\.ts)` “([^”]+)”/g;

describe('docs/threat-model.md', () => {
  const lines = read('docs/threat-model.md').split('\n');
  const rows = lines.filter((line) => /^\| (?:[STRIDE]|\d[\d., to]*) +\|/.test(line));

  it('names tests that there are', () => {
    const missing = lines.flatMap((line) =>
      [...line.matchAll(TEST)].flatMap(([whole, file = '', name = '']) => (isThere(file, name) ? [] : [whole])),
    );
    expect(missing).toEqual([]);
  });

  it('names a test for every threat, and for every requirement that applies', () => {
    expect(rows.length).toBeGreaterThan(50);
    const without = rows.filter((row) => !/\| no +\|/.test(row) && [...row.matchAll(TEST)].length === 0);
    expect(without).toEqual([]);
  });

  it('looks at every kind of threat', () => {
    const kinds = rows.flatMap((row) => /^\| ([STRIDE]) /.exec(row)?.[1] ?? []);
    expect([...new Set(kinds)].sort()).toEqual(['D', 'E', 'I', 'R', 'S', 'T']);
  });
});

function isThere(file: string, name: string): boolean {
  const path = join(ROOT, file);
  return existsSync(path) && readFileSync(path, 'utf8').includes(name);
}

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

interface Verdict {
  modules: { source: string; dependencies: unknown[] }[];
  summary: { error: number; warn: number; violations: { from: string; to: string; rule: { name: string } }[] };
}

/** Runs dependency-cruiser with the project's own rules on the sources below a folder. */
function cruise(folder: string, ...entries: string[]): Promise<Verdict> {
  const program = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const rules = join(ROOT, '.dependency-cruiser.cjs');
  const args = [program, ...entries, '--config', rules, '--output-type', 'json'];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd: folder, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      // It ends with the number of violations.
      if (stdout === '') reject(new Error(`dependency-cruiser failed: ${error?.message ?? ''} ${stderr}`));
      else resolve(JSON.parse(stdout) as Verdict);
    });
  });
}

describe('the imports', () => {
  it('all point the way that the house allows', async () => {
    const { modules, summary } = await cruise(ROOT, 'src', 'ormconfig.ts');
    expect(summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`)).toEqual([]);
    expect([summary.error, summary.warn]).toEqual([0, 0]);
    // It did see the sources, and what they import.
    const sources = modules.filter(({ source }) => source.startsWith('src/'));
    expect(sources.length).toBeGreaterThan(100);
    expect(sources.some(({ dependencies }) => dependencies.length > 10)).toBe(true);
  });
});

describe('the rules for imports', () => {
  let folder: string;
  const broken = new Set<string>();

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agentidp-imports-'));
    const write = (path: string, text: string): void => {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    };
    write('package.json', '{"type":"module","devDependencies":{"for-tests":"*"}}');
    write('tsconfig.json', '{"compilerOptions":{"module":"nodenext","moduleResolution":"nodenext","target":"es2022"}}');
    write('node_modules/for-tests/package.json', '{"name":"for-tests","version":"1.0.0","main":"index.js"}');
    write('node_modules/for-tests/index.js', 'module.exports = 1;');
    write('node_modules/unnamed/package.json', '{"name":"unnamed","version":"1.0.0","main":"index.js"}');
    write('node_modules/unnamed/index.js', 'module.exports = 1;');
    const sources: Record<string, string[]> = {
      'src/tokens/tokens.service.ts': [],
      'src/agents/agents.service.ts': [],
      'src/agents/agents.repository.ts': [],
      'src/app.ts': [],
      'test/support/x.ts': [],
      // Against the order; also where only a type is imported.
      'src/audit/downwards.ts': ['../tokens/tokens.service.js'],
      // Past the service of a feature above.
      'src/tokens/past-the-service.ts': ['../agents/agents.repository.js'],
      'src/tokens/by-the-service.ts': ['../agents/agents.service.js'],
      'src/platform/upwards.ts': ['../agents/agents.service.js'],
      'src/tokens/boot.ts': ['../app.js'],
      'src/tokens/tests.ts': ['../../test/support/x.js'],
      'src/tokens/development.ts': ['for-tests'],
      'src/tokens/unnamed.ts': ['unnamed'],
      'src/tokens/nowhere.ts': ['./nothing.js'],
      'src/tokens/circle-a.ts': ['./circle-b.js'],
      'src/tokens/circle-b.ts': ['./circle-a.js'],
      'src/basement/x.ts': [],
      'src/cellar.ts': ['./basement/x.js'],
    };
    for (const [path, imports] of Object.entries(sources)) {
      write(path, `${imports.map((from) => `import type {} from '${from}';`).join('\n')}\nexport const x = 1;\n`);
    }
    const { summary } = await cruise(folder, 'src');
    for (const { rule, from } of summary.violations) broken.add(`${rule.name}: ${from}`);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    'audit-not-downwards: src/audit/downwards.ts',
    'tokens-services-only: src/tokens/past-the-service.ts',
    'platform-imports-packages-only: src/platform/upwards.ts',
    'no-import-of-the-boot: src/tokens/boot.ts',
    'no-tests-in-the-product: src/tokens/tests.ts',
    'no-development-packages-in-the-product: src/tokens/development.ts',
    'no-development-packages-in-the-product: src/tokens/unnamed.ts',
    'resolvable: src/tokens/nowhere.ts',
    'no-circles: src/tokens/circle-a.ts',
    'known-rooms-only: src/cellar.ts',
  ])('find %s', (violation) => {
    expect([...broken]).toContain(violation);
  });

  it('let the allowed way through', () => {
    expect([...broken].filter((violation) => violation.includes('by-the-service'))).toEqual([]);
  });
});

import { describe, expect, it } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { EXAMPLES } from './example-process.js';

const ROOT = join(EXAMPLES, '..');

/** Each guide with the programs that it shows, in their order. */
const GUIDES: [guide: string, programs: string[]][] = [
  ['protect-your-own-api.md', ['protected-api-jwks/server.mjs', 'protected-api-introspection/server.mjs']],
  ['protect-an-mcp-server.md', ['mcp-server/server.mjs', 'mcp-server/client.mjs']],
];

interface Manifest {
  readonly private?: boolean;
  readonly name?: string;
  readonly version?: string;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
}

const read = (...path: string[]): string => readFileSync(join(ROOT, ...path), 'utf8');
const manifest = (...path: string[]): Manifest => JSON.parse(read(...path, 'package.json')) as Manifest;
const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, found]) => found ?? '');

describe.each(GUIDES)('docs/%s', (guide, programs) => {
  const text = read('docs', guide);

  it('shows the programs that the tests run, letter by letter', () => {
    expect(all(text, /^```js\n(.*?)^```$/gms)).toEqual(programs.map((program) => read('examples', program)));
    expect(all(text, /^`examples\/(\S+)`:$/gm)).toEqual(programs);
  });

  it('runs these programs and no others', () => {
    const run = all(text, /\bnode examples\/([\w/.-]+)/g);
    expect(run).toEqual(programs);
  });

  it('calls the ports that the programs listen on', () => {
    const own = programs.flatMap((program) => all(read('examples', program), /PORT = '(\d+)'/g));
    const called = all(text, /localhost:(\d+)/g).filter((port) => port !== '3000');
    expect(new Set(called)).toEqual(new Set(own));
  });

  it('links to what there is', () => {
    for (const link of all(text, /\]\(([^)#:]+)(?:#[^)]*)?\)/g)) expect(read('docs', link)).not.toBe('');
  });
});

describe.each(readdirSync(EXAMPLES))('examples/%s', (example) => {
  const programs = readdirSync(join(EXAMPLES, example)).filter((file) => file.endsWith('.mjs'));
  const code = programs.map((file) => read('examples', example, file)).join('\n');

  it('states what it imports, and nothing else', () => {
    const packages = all(code, / from '((?:@[^/']+\/)?[^/']+)/g).filter((name) => !builtinModules.includes(name));
    const { dependencies = {}, private: isPrivate, name } = manifest('examples', example);
    expect(Object.keys(dependencies)).toEqual([...new Set(packages)].sort());
    expect([name, isPrivate]).toEqual([`example-${example}`, true]);
  });

  it('asks for the versions that the tests run it with', () => {
    const root = manifest();
    const versions: Record<string, string> = { ...root.dependencies, ...root.devDependencies };
    for (const [name, range] of Object.entries(manifest('examples', example).dependencies ?? {})) {
      const { version = '' } = manifest('node_modules', name);
      // zod only comes along with the SDK: it is not in our own manifest.
      if (name in versions) expect([name, range]).toEqual([name, versions[name]]);
      else expect([name, /^\^\d+/.exec(range)?.[0]]).toEqual([name, `^${version.split('.')[0]}`]);
    }
  });

  it('has every setting in its README', () => {
    const settings = all(code, /(?:^const \{|,) ([A-Z_]+)(?= =)/gm);
    const listed = all(read('examples', example, 'README.md'), /^\| `([A-Z_]+)`/gm);
    expect(new Set(listed)).toEqual(new Set(settings));
  });
});

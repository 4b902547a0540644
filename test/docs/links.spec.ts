import { describe, expect, it } from '@jest/globals';
import { existsSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { documents, read, ROOT, withoutFences } from './markdown.js';

const LINK = /\[(?:[^\][]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|^\[[^\]]+\]:\s*(\S+)/gm;

describe.each(documents())('%s', (file) => {
  const text = withoutFences(read(file));

  it('links to files and headings that there are', () => {
    const targets = [...text.matchAll(LINK)].map(([, inline, reference]) => inline ?? reference ?? '');
    const broken = targets.filter((target) => !/^[a-z]+:/.test(target) && !leadsSomewhere(file, target));
    expect(broken).toEqual([]);
  });

  it('has one title, and it comes first', () => {
    const headings = text.split('\n').filter((line) => /^#+ /.test(line));
    expect(headings.map((line) => line.startsWith('# '))).toEqual(headings.map((_line, index) => index === 0));
  });
});

it('has every decision in the list of decisions, once and in order', () => {
  const pages = documents().filter((file) => /^docs\/adr\/\d/.test(file));
  const listed = [...read('docs/adr/README.md').matchAll(/^- \[(.+)\]\((.+)\)$/gm)];
  expect(listed.map(([, , page = '']) => `docs/adr/${page}`)).toEqual(pages);
  for (const [, title = '', page = ''] of listed) {
    const number = page.slice(0, 4);
    const headings = [...read(`docs/adr/${page}`).matchAll(/^#+ .*$/gm)].map(([line]) => line);
    expect(headings).toEqual([`# ${number}. ${title}`, '## Context', '## Decision', '## Consequences']);
    expect(read(`docs/adr/${page}`)).toMatch(/^Status: \w+/m);
  }
});

it('has every document of docs/ in README.md', () => {
  const readme = read('README.md');
  const pages = documents().filter((file) => /^docs\/[^/]+\.md$/.test(file));
  expect(pages.filter((page) => !readme.includes(`(${page})`))).toEqual([]);
});

function leadsSomewhere(file: string, target: string): boolean {
  const [path = '', anchor] = target.split('#', 2);
  const found = path === '' ? file : normalize(join(dirname(file), path));
  if (found.startsWith('..') || !existsSync(join(ROOT, found))) return false;
  if (anchor === undefined) return true;
  return statSync(join(ROOT, found)).isFile() && anchorsOf(read(found)).includes(anchor);
}

/** The anchors of the headings, as GitHub makes them. */
function anchorsOf(markdown: string): string[] {
  const seen = new Map<string, number>();
  return [...withoutFences(markdown).matchAll(/^#{1,6} +(.+?) *#* *$/gm)].map(([, heading = '']) => {
    const words = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '');
    const anchor = words
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}\p{Pc} -]/gu, '')
      .replaceAll(' ', '-');
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
}

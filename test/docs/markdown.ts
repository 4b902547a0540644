import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The top of the project. */
export const ROOT = join(import.meta.dirname, '../..');

/** A fenced block of code. */
export interface Fence {
  /** The word after the opening fence; empty where there is none. */
  readonly language: string;
  readonly text: string;
  /** The line of the opening fence, from 1. */
  readonly line: number;
  /** The paragraph or heading before the fence, on one line. */
  readonly lead: string;
  /** The block before, in the same file. */
  readonly previous: Fence | null;
}

/** The documents for people: those at the top and all under `docs/`. */
export function documents(): string[] {
  const below = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) => `docs/${name}`);
  const top = readdirSync(ROOT).filter((name) => !name.startsWith('.'));
  return [...top, ...below].filter((name) => name.endsWith('.md')).sort();
}

/** The text of a file of the project. */
export function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8');
}

/** The fenced blocks of a document, in order. */
export function fences(markdown: string): Fence[] {
  const found: Fence[] = [];
  const lines = markdown.split('\n');
  let opened: { index: number; language: string } | null = null;
  let lead = '';
  let ended = true;
  for (const [index, line] of lines.entries()) {
    const language = /^ *```(\S*)/.exec(line)?.[1];
    if (language === undefined) {
      if (opened !== null) continue;
      if (line.trim() !== '') lead = ended ? line.trim() : `${lead} ${line.trim()}`;
      ended = line.trim() === '';
    } else if (opened === null) {
      opened = { index, language };
    } else {
      const text = lines.slice(opened.index + 1, index).join('\n');
      found.push({ language: opened.language, text, line: opened.index + 1, lead, previous: found.at(-1) ?? null });
      opened = null;
    }
  }
  if (opened !== null) throw new Error(`the fence of line ${opened.index + 1} is not closed`);
  return found;
}

/** A document without its fenced blocks; lines keep their numbers. */
export function withoutFences(markdown: string): string {
  let inside = false;
  return markdown
    .split('\n')
    .map((line) => {
      const isFence = /^ *```/.test(line);
      if (isFence) inside = !inside;
      return inside || isFence ? '' : line;
    })
    .join('\n');
}

/**
 * The rows of the table whose first column is called `first`, by column.
 *
 * @throws Error where there is no such table
 */
export function table(markdown: string, first: string, occurrence = 0): Record<string, string>[] {
  const lines = withoutFences(markdown).split('\n');
  const starts = lines.flatMap((line, index) => (cells(line)[0] === first ? [index] : []));
  const start = starts[occurrence];
  if (start === undefined) throw new Error(`there is no table ${occurrence} whose first column is ${first}`);
  const header = cells(lines[start] ?? '');
  const rows: Record<string, string>[] = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break;
    const values = cells(line);
    rows.push(Object.fromEntries(header.map((name, column) => [name, values[column] ?? ''])));
  }
  return rows;
}

function cells(line: string): string[] {
  if (!line.startsWith('|')) return [];
  return line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim());
}

/** The text of a cell that is one piece of code, else the cell as it is. */
export function codeOf(cell: string | undefined): string {
  return /^`([^`]*)`$/.exec(cell ?? '')?.[1] ?? cell ?? '';
}

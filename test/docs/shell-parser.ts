/** A piece of a word. */
export type Part =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'variable'; readonly name: string; readonly quoted: boolean }
  | { readonly kind: 'commands'; readonly script: Script; readonly quoted: boolean };

/** What becomes one argument. */
export type Word = readonly Part[];

/** One command of a pipeline. */
export interface Command {
  readonly assignments: readonly { readonly name: string; readonly value: Word }[];
  readonly words: readonly Word[];
  /** The file that takes the output. */
  readonly output: Word | null;
}

/** Commands of which each reads what the one before wrote. */
export interface Pipeline {
  readonly commands: readonly Command[];
  /** The text as it stands, continued lines joined. */
  readonly source: string;
}

/** Pipelines one after another. */
export type Script = readonly Pipeline[];

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const ASSIGNMENT = /([A-Za-z_][A-Za-z0-9_]*)=/y;
/** Characters that the shell gives a meaning that this parser does not know. */
const UNKNOWN = new Set(['(', ')', '<', '`', '*', '[', '!', '~']);

/**
 * Parses the part of the shell's language that the documents use: words, quotes, variables, assignments, command
 * substitutions, pipes, `> file`, `2>/dev/null`, `&`, comments, and lines that end with a backslash.
 *
 * @throws Error for anything else
 */
export function parseShell(text: string): Script {
  const parser = new ShellParser(text);
  const script = parser.script('');
  parser.expectEnd();
  return script;
}

class ShellParser {
  private at = 0;

  constructor(private readonly text: string) {}

  /** Pipelines up to `end`, or the end of the text. */
  script(end: string): Script {
    const pipelines: Pipeline[] = [];
    for (;;) {
      this.skipBlank(true);
      if (this.at >= this.text.length || this.peek() === end) return pipelines;
      pipelines.push(this.pipeline(end));
    }
  }

  expectEnd(): void {
    if (this.at < this.text.length) throw this.unknown();
  }

  private pipeline(end: string): Pipeline {
    const start = this.at;
    const commands = [this.command(end)];
    while (this.peek() === '|') {
      this.at += 1;
      this.skipBlank(true);
      commands.push(this.command(end));
    }
    const source = this.text.slice(start, this.at).replaceAll('\\\n', ' ').replace(/\s+/g, ' ').trim();
    return { commands, source };
  }

  private command(end: string): Command {
    const assignments: { name: string; value: Word }[] = [];
    const words: Word[] = [];
    let output: Word | null = null;
    for (;;) {
      this.skipBlank(false);
      const next = this.peek();
      if (next === '' || '\n;|&'.includes(next) || next === end) break;
      if (this.text.startsWith('2>/dev/null', this.at)) {
        this.at += '2>/dev/null'.length;
      } else if (next === '>') {
        this.at += 1;
        this.skipBlank(false);
        output = this.word(end);
      } else {
        const name = words.length === 0 ? this.match(ASSIGNMENT) : null;
        if (name === null) words.push(this.word(end));
        else assignments.push({ name: name.slice(0, -1), value: this.word(end) });
      }
    }
    // What runs in the background here is a server, and the shell waits until that listens.
    if (/[;&]/.test(this.peek())) this.at += 1;
    if (assignments.length + words.length === 0) throw this.unknown();
    return { assignments, words, output };
  }

  private word(end: string): Word {
    const parts: Part[] = [];
    for (;;) {
      const next = this.peek();
      if (next === '' || /[\s;|&>]/.test(next) || next === end) return parts;
      if (next === "'") parts.push(this.singleQuoted());
      else if (next === '"') parts.push(...this.doubleQuoted());
      else if (next === '$') parts.push(this.expansion(false));
      else if (next === '\\') parts.push({ kind: 'text', text: this.text.charAt((this.at += 2) - 1) });
      else if (UNKNOWN.has(next)) throw this.unknown();
      else parts.push({ kind: 'text', text: this.text.charAt((this.at += 1) - 1) });
    }
  }

  private singleQuoted(): Part {
    const close = this.text.indexOf("'", this.at + 1);
    if (close === -1) throw this.unknown();
    const text = this.text.slice(this.at + 1, close);
    this.at = close + 1;
    return { kind: 'text', text };
  }

  private doubleQuoted(): Part[] {
    const parts: Part[] = [{ kind: 'text', text: '' }];
    this.at += 1;
    for (;;) {
      const next = this.peek();
      if (next === '' || next === '`') throw this.unknown();
      if (next === '$') {
        parts.push(this.expansion(true));
      } else if (next === '"') {
        this.at += 1;
        return parts;
      } else {
        if (next === '\\' && /["\\$`]/.test(this.text.charAt(this.at + 1))) this.at += 1;
        parts.push({ kind: 'text', text: this.peek() });
        this.at += 1;
      }
    }
  }

  private expansion(quoted: boolean): Part {
    this.at += 1;
    if (this.peek() === '(') {
      this.at += 1;
      const script = this.script(')');
      this.expect(')');
      return { kind: 'commands', script, quoted };
    }
    const braced = this.peek() === '{';
    if (braced) this.at += 1;
    const name = this.match(NAME);
    if (name === null) throw this.unknown();
    if (braced) this.expect('}');
    return { kind: 'variable', name, quoted };
  }

  /** Skips spaces and continued lines, and, where `lines` is set, ends of lines and comments. */
  private skipBlank(lines: boolean): void {
    for (;;) {
      if (this.text.startsWith('\\\n', this.at)) this.at += 2;
      else if (this.peek() === ' ' || (lines && this.peek() === '\n')) this.at += 1;
      else if (this.peek() === '#') while (this.at < this.text.length && this.peek() !== '\n') this.at += 1;
      else return;
    }
  }

  private match(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? null;
    if (found !== null) this.at += found.length;
    return found;
  }

  private expect(character: string): void {
    if (this.peek() !== character) throw this.unknown();
    this.at += 1;
  }

  private peek(): string {
    return this.text.charAt(this.at);
  }

  private unknown(): Error {
    return new Error(`this test does not understand the shell here: ${this.text.slice(this.at, this.at + 40)}`);
  }
}

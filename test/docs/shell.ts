import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseShell, type Command, type Pipeline, type Script, type Word } from './shell-parser.js';

const run = promisify(execFile);

/** What a program does: it gets its arguments, its input and variables of its own, and gives its output. */
export type Program = (
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string>>,
) => string | Promise<string>;

/** Runs scripts of the documents with programs of the test's own; nothing is handed to a real shell. */
export class Shell {
  private readonly programs: Readonly<Record<string, Program>>;

  /**
   * @param variables what the reader has set already
   * @param folder where files are written and scripts are run
   * @param curl sends requests
   * @param example runs a program of `examples/`
   * @param notRun told each pipeline as it stands; true where it is one of those that are not run
   * @param others programs that only some documents use
   */
  constructor(
    private readonly variables: Map<string, string>,
    private readonly folder: string,
    curl: Program,
    private readonly example: Program,
    private readonly notRun: (source: string) => boolean,
    others: Readonly<Record<string, Program>> = {},
  ) {
    this.programs = { ...others, curl, jq, echo, cut, tr, base64, node: (...given) => this.node(...given) };
  }

  /** Runs a script and gives what it writes. */
  async run(text: string): Promise<string> {
    return this.script(parseShell(text));
  }

  private async script(script: Script): Promise<string> {
    let output = '';
    for (const pipeline of script) output += await this.pipeline(pipeline);
    return output;
  }

  private async pipeline({ commands, source }: Pipeline): Promise<string> {
    if (this.notRun(source)) return '';
    let data = '';
    for (const command of commands) data = await this.command(command, data);
    return data;
  }

  private async command({ assignments, words, output }: Command, input: string): Promise<string> {
    const args: string[] = [];
    for (const word of words) args.push(await this.expand(word));
    const [name, ...rest] = args;
    const values: Record<string, string> = {};
    for (const { name: variable, value } of assignments) values[variable] = await this.expand(value);
    if (name === undefined) {
      for (const [variable, value] of Object.entries(values)) this.variables.set(variable, value);
      return '';
    }
    if (name === 'export') return this.export(rest);
    const program = this.programs[name];
    if (program === undefined) throw new Error(`this test does not know the program ${name}`);
    const written = await program(rest, input, values);
    if (output === null) return written;
    writeFileSync(join(this.folder, await this.expand(output)), written);
    return '';
  }

  private export(args: readonly string[]): string {
    for (const argument of args) {
      const equals = argument.indexOf('=');
      if (equals === -1) throw new Error('this test does not understand export without a value');
      this.variables.set(argument.slice(0, equals), argument.slice(equals + 1));
    }
    return '';
  }

  private async expand(word: Word): Promise<string> {
    let text = '';
    for (const part of word) {
      if (part.kind === 'text') text += part.text;
      else text += this.whole(await this.valueOf(part), part.quoted);
    }
    return text;
  }

  private async valueOf(part: Exclude<Word[number], { kind: 'text' }>): Promise<string> {
    if (part.kind === 'commands') return (await this.script(part.script)).replace(/\n+$/, '');
    const value = this.variables.get(part.name);
    if (value === undefined) throw new Error(`the variable ${part.name} is not set`);
    return value;
  }

  /** A real shell would split an unquoted value at its white space, and drop an empty one. */
  private whole(value: string, quoted: boolean): string {
    if (!quoted && (value === '' || /[\s*?[]/.test(value)) && !value.startsWith('{')) {
      throw new Error(`the value ${value} must stand in double quotes`);
    }
    return value;
  }

  /** Really runs Node.js: on an expression, a script that the document shows, or an example. */
  private async node(args: readonly string[], input: string, env: Readonly<Record<string, string>>): Promise<string> {
    const [first = ''] = args;
    if (first.startsWith('examples/')) return this.example(args, input, env);
    if (first !== '-p' && !existsSync(join(this.folder, first))) {
      throw new Error(`the document does not show the script ${first}`);
    }
    const { stdout } = await run(process.execPath, [...args], { cwd: this.folder });
    return stdout;
  }
}

/** The part of jq that the documents use: `.` and paths such as `.data[0].agentId` or `.[0].svid`. */
function jq(args: readonly string[], input: string): string {
  const raw = args.includes('-r');
  const [filter, ...others] = args.filter((argument) => argument !== '-r');
  if (filter === undefined || others.length > 0 || !/^(\.|(\.\[\d+\])?(\.\w+(\[\d+\])*)*)$/.test(filter)) {
    throw new Error(`this test does not understand jq ${args.join(' ')}`);
  }
  let value: unknown = JSON.parse(input);
  for (const [, name, index] of filter.matchAll(/\.(\w+)|\[(\d+)\]/g)) {
    value = (value as Record<string, unknown> | null | undefined)?.[name ?? index ?? ''];
  }
  if (value === undefined || value === null) throw new Error(`jq ${filter} finds nothing in ${input}`);
  return `${raw && typeof value === 'string' ? value : JSON.stringify(value, null, 2)}\n`;
}

function echo(args: readonly string[]): string {
  return `${args.join(' ')}\n`;
}

/** `cut -d. -f2` */
function cut(args: readonly string[], input: string): string {
  const delimiter = /^-d(.)$/.exec(args[0] ?? '')?.[1];
  const field = /^-f(\d)$/.exec(args[1] ?? '')?.[1];
  if (delimiter === undefined || field === undefined || args.length !== 2) throw new Error('cut is not understood');
  return input.replaceAll(/[^\n]+/g, (line) => line.split(delimiter)[Number(field) - 1] ?? '');
}

/** `tr '_-' '/+'` */
function tr(args: readonly string[], input: string): string {
  const [from, to] = args;
  if (from === undefined || to === undefined || from.length !== to.length || args.length !== 2 || /.-./.test(from)) {
    throw new Error('tr is not understood');
  }
  return [...input]
    .map((character) => (from.includes(character) ? to.charAt(from.indexOf(character)) : character))
    .join('');
}

/** `base64 --decode`: the plain alphabet; what is missing at the end does no harm, as with 2>/dev/null. */
function base64(args: readonly string[], input: string): string {
  if (args.length !== 1 || args[0] !== '--decode') throw new Error('base64 is not understood');
  return Buffer.from(input, 'base64').toString('utf8');
}

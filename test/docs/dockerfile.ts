import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';

/** One instruction of a Dockerfile. */
export interface Instruction {
  readonly name: string;
  readonly rest: string;
}

/** What the steps of a stage have made, in a folder instead of an image. */
export interface Stage {
  readonly image: string;
  readonly name: string | null;
  /** Stands for `/`. */
  readonly root: string;
  readonly env: Record<string, string>;
  workingDirectory: string;
  user: string | null;
  command: readonly string[];
  healthCheck: readonly string[];
}

/** The uid and gid of the user `node` in the images of Node.js. */
const NODE_USER = 1000;
/** What a step may run: only npm, which is the only one to use the network. */
const ALLOWED_RUN = /^npm (?:ci|run build|prune)\b[\w =-]*$/;

/** The instructions, with continued lines joined and comments left out. */
export function parseDockerfile(text: string): Instruction[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  return lines
    .join('\n')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
      return { name, rest: rest.trim() };
    });
}

/**
 * Runs the steps of a Dockerfile in empty folders, one a stage; paths of the image are paths below the stage's folder.
 *
 * @param instructions the Dockerfile
 * @param context the folder that it is built from
 * @param ignored whether `.dockerignore` leaves a path of the context out
 * @param stages takes the stages as they begin, so that their folders can be removed whatever happens
 * @returns the last stage
 * @throws Error for an instruction that is not known here, or a step that fails
 */
export function build(
  instructions: readonly Instruction[],
  context: string,
  ignored: (path: string) => boolean,
  stages: Stage[],
): Stage {
  for (const { name, rest } of instructions) {
    const stage = stages.at(-1);
    if (name === 'FROM') stages.push(newStage(rest));
    else if (stage === undefined) throw new Error(`${name} stands before FROM`);
    else step(stage, name, rest, stages, context, ignored);
  }
  const last = stages.at(-1);
  if (last === undefined) throw new Error('there is no FROM');
  return last;
}

/** The ids that a command of a stage runs under; none where we cannot become another user. */
export function idsOf({ user }: Stage): { uid?: number; gid?: number } {
  if (user === null || process.getuid?.() !== 0) return {};
  if (user !== 'node') throw new Error(`this test does not know the user ${user}`);
  return { uid: NODE_USER, gid: NODE_USER };
}

/** The environment of a command of a stage. */
export function environmentOf({ env }: Stage): Record<string, string> {
  const search = process.env['PATH'] ?? '';
  return { ...env, PATH: `${dirname(process.execPath)}:${search}` };
}

/** Where a path of the image is. */
export function placeOf({ root, workingDirectory }: Stage, path: string): string {
  return join(root, resolve(workingDirectory, path));
}

function newStage(rest: string): Stage {
  const [, image = '', name = null] = /^(\S+)(?: AS (\S+))?$/.exec(rest) ?? [];
  const root = mkdtempSync(join(tmpdir(), 'agentidp-image-'));
  chmodSync(root, 0o755);
  return { image, name, root, env: {}, workingDirectory: '/', user: null, command: [], healthCheck: [] };
}

function step(
  stage: Stage,
  name: string,
  rest: string,
  stages: readonly Stage[],
  context: string,
  ignored: (path: string) => boolean,
): void {
  switch (name) {
    case 'WORKDIR':
      stage.workingDirectory = resolve(stage.workingDirectory, rest);
      mkdirSync(placeOf(stage, '.'), { recursive: true });
      return;
    case 'ENV':
      for (const pair of rest.split(/\s+/)) {
        const [, variable = '', value = ''] = /^(\w+)=([^"'$\\]+)$/.exec(pair) ?? [];
        if (variable === '') throw new Error(`this test does not understand ENV ${rest}`);
        stage.env[variable] = value;
      }
      return;
    case 'USER':
      stage.user = rest;
      return;
    case 'COPY':
      copy(stage, rest, stages, context, ignored);
      return;
    case 'RUN':
      runStep(stage, rest);
      return;
    case 'EXPOSE':
      if (!/^\d+$/.test(rest)) throw new Error(`this test does not understand EXPOSE ${rest}`);
      return;
    case 'HEALTHCHECK':
      stage.healthCheck = wordsOf(/^(?:--[a-z-]+=\w+\s+)*CMD (.*)$/.exec(rest)?.[1]);
      return;
    case 'CMD':
      stage.command = wordsOf(rest);
      return;
    default:
      throw new Error(`this test does not understand ${name}`);
  }
}

/** The words of a command in the form of a JSON array, which no shell reads. */
function wordsOf(json = ''): string[] {
  const words: unknown = JSON.parse(json);
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) throw new Error(`no command: ${json}`);
  return words;
}

function copy(
  stage: Stage,
  rest: string,
  stages: readonly Stage[],
  context: string,
  ignored: (path: string) => boolean,
): void {
  const words = rest.split(/\s+/);
  const from = /^--from=(.+)$/.exec(words[0] ?? '')?.[1];
  if (from !== undefined) words.shift();
  const destination = words.pop() ?? '';
  const source = stages.find(({ name }) => name === from);
  if (from !== undefined && source === undefined) throw new Error(`there is no stage ${from}`);
  if (words.some((word) => word.startsWith('-') || /[*?[]/.test(word)))
    throw new Error(`COPY ${rest} is not understood`);
  if (words.length > 1 && !destination.endsWith('/')) throw new Error('COPY of several files needs a folder');
  for (const word of words) {
    const root = source?.root ?? context;
    const path = join(root, word);
    const left = (file: string): boolean => source === undefined && ignored(relative(context, file));
    if (!existsSync(path) || !hasFiles(path, left)) throw new Error(`COPY finds nothing at ${word}`);
    const target = placeOf(stage, destination);
    const isFolder = statSync(path).isDirectory();
    const place = isFolder || !destination.endsWith('/') ? target : join(target, word.split('/').at(-1) ?? '');
    mkdirSync(isFolder ? place : dirname(place), { recursive: true });
    cpSync(path, place, {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
      filter: (file) => statSync(file, { throwIfNoEntry: false })?.isDirectory() === true || !left(file),
    });
  }
}

/** Whether something of `path` is left. */
function hasFiles(path: string, left: (file: string) => boolean): boolean {
  if (!statSync(path).isDirectory()) return !left(path);
  return readdirSync(path).some((name) => hasFiles(join(path, name), left));
}

function runStep(stage: Stage, command: string): void {
  if (!ALLOWED_RUN.test(command)) throw new Error(`this test does not run ${command}`);
  const { status, stderr, stdout } = spawnSync('/bin/sh', ['-c', command], {
    cwd: placeOf(stage, '.'),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    // npm's own settings of the machine: its cache, its registry, certificates.
    env: { ...settingsOfNpm(), ...environmentOf(stage) },
  });
  if (status !== 0) throw new Error(`RUN ${command} failed:\n${stdout}\n${stderr}`);
}

function settingsOfNpm(): Record<string, string> {
  const names = /^(?:home|npm_config_.*|https?_proxy|no_proxy|node_extra_ca_certs)$/i;
  return Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => names.test(entry[0]) && entry[1] !== undefined,
    ),
  );
}

/**
 * Reads a `.dockerignore`: the last pattern that matches a path, or a folder above it, decides.
 *
 * @returns whether a path of the context is left out
 */
export function parseDockerignore(text: string): (path: string) => boolean {
  const rules = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const kept = line.startsWith('!');
      return { kept, pattern: patternOf((kept ? line.slice(1) : line).replace(/\/$/, '')) };
    });
  return (path) => {
    const steps = path.split('/');
    const paths = steps.map((_step, index) => steps.slice(0, index + 1).join('/'));
    const last = rules.findLast(({ pattern }) => paths.some((candidate) => pattern.test(candidate)));
    return last !== undefined && !last.kept;
  };
}

function patternOf(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('**/', '<any>')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
    .replaceAll('<any>', '(?:.*/)?');
  return new RegExp(`^${source}$`);
}

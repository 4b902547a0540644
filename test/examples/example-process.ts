import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { Api } from '../support/api.js';
import { freePort, type TestApp } from '../support/test-app.js';

/** The folder of the examples. */
export const EXAMPLES = join(import.meta.dirname, '../../examples');
/** How long an example may take to listen or to end on a slow machine, in milliseconds. */
const LIMIT_MS = 20_000;

/** How an example ended, and all that it wrote. */
export interface Ended {
  readonly code: number | null;
  readonly output: string;
}

/** An example that listens. */
export interface ListeningExample {
  /** Where it says that it listens. */
  readonly url: string;
  /** Calls to it. */
  readonly api: Api;
}

type Environment = Readonly<Record<string, string>>;

const running = new Set<ChildProcess>();

/** Runs an example to its end; `file` from the folder of the examples. */
export async function runExample(file: string, args: readonly string[], env: Environment): Promise<Ended> {
  const { child, ended } = start(file, args, env);
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  try {
    return await ended;
  } finally {
    clearTimeout(limit);
  }
}

/** Ends every example that runs; for `afterAll`. */
export async function stopExamples(): Promise<void> {
  const ends = [...running].map((child) => new Promise((resolve) => child.once('close', resolve)));
  for (const child of running) child.kill('SIGKILL');
  await Promise.all(ends);
}

/** Starts an example on a free port and waits for its line. */
export async function startExample(file: string, env: Environment): Promise<ListeningExample> {
  const { child, output, ended } = start(file, [], { PORT: '0', ...env });
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', () => {
      const found = /^listening on (\S+)$/m.exec(output());
      if (found?.[1] !== undefined) resolve(found[1]);
    });
    ended.then(({ code }) => reject(new Error(`${file} ended with ${code}: ${output()}`)), reject);
  }).finally(() => clearTimeout(limit));
  return { url, api: new Api(new URL(url).origin) };
}

/** Starts an example that has to know its port beforehand; once more where somebody else took it in between. */
export async function startExampleOnPort(
  file: string,
  envOf: (port: number) => Environment,
): Promise<ListeningExample> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await freePort();
    try {
      return await startExample(file, { ...envOf(port), PORT: String(port) });
    } catch (error) {
      if (!String(error).includes('EADDRINUSE') || attempt === 5) throw error;
    }
  }
}

/** The organization's API with the scopes `names`; answers its id. */
export async function registerResource(
  service: TestApp,
  token: string,
  identifier: string,
  names: readonly string[],
): Promise<string> {
  const scopes = names.map((name) => ({ name, description: `May ${name}` }));
  const { status, body, text } = await service.api.call('POST', '/resources', token, {
    identifier,
    name: identifier,
    scopes,
  });
  if (status !== 201) throw new Error(`no resource server: ${status} ${text}`);
  return body['resourceId'] as string;
}

/** The header of a request with an access token. */
export function bearer(token: string): { headers: Record<string, string> } {
  return { headers: { Authorization: `Bearer ${token}` } };
}

function start(
  file: string,
  args: readonly string[],
  env: Environment,
): { child: ChildProcess; output: () => string; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [join(EXAMPLES, file), ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => (text += chunk));
  }
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      running.delete(child);
      resolve({ code, output: text });
    });
  });
  return { child, output: () => text, ended };
}

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startTestApp, type TestApp } from '../support/test-app.js';
import { runExample, startExample, stopExamples } from '../examples/example-process.js';
import { curl, type Exchange } from './curl.js';
import { documents, fences, read, type Fence } from './markdown.js';
import { platformOf, type Platform } from './platform.js';
import { Shell } from './shell.js';

/** An address of the documents: the service's, or an example's. */
const ADDRESS = /http:\/\/localhost:(\d+)/g;
const SERVICE = 'http://localhost:3000';

const GUIDE = 'docs/issue-and-revoke-tokens.md';

/** Commands that are not run here, and why. Anything else is run, or fails the test. */
const NOT_RUN: Readonly<Record<string, string>> = {
  'npm start': 'the tests start the same application in this process',
  'npm test': 'these are the tests',
  'npm test -- test/e2e': 'these are the tests',
  'npm ci': 'has been done, or nothing would run here',
  'npm run cli -- operator:reset': 'would need a built copy; catalogues.spec.ts compares the commands',
  'npm run cli -- backup /var/backups/agentidp/': 'backup.long.ts runs it on the built copy',
  'npm run cli -- restore /var/backups/agentidp/agentidp-20261128T151500Z.backup': 'backup.long.ts runs it',
  'npm run cli -- restore:end-tokens': 'lost-history.spec.ts runs it',
  'npm run cli -- restore:check export.ndjson checkpoint.jws': 'lost-history.spec.ts runs it',
  'node --env-file=.env scripts/start.cjs': 'npm start with variables from a file',
  'docker build -f docker/Dockerfile -t agentidp .': 'docker.long.ts runs the steps of the Dockerfile',
  'docker compose --env-file .env -f docker/compose.yaml up --build': 'there is no container engine here',
  'docker compose --env-file .env -f docker/compose.yaml run --rm agentidp node dist/src/cli/main.js operator:reset':
    'there is no container engine here',
};

/** JSON that answers no command above it: what answers so, by the document and the line before. */
const PROVOKED: Readonly<Record<string, (service: TestApp) => Promise<Exchange>>> = {
  [`${GUIDE}: Response for an inactive (expired or revoked) token:`]: async (service) => {
    const caller = await service.api.token(service.operator);
    const revoked = await service.api.token(service.operator);
    await service.api.revoke(caller, revoked);
    return service.api.form('/api/v1/token/introspect', { token: revoked }, { Authorization: `Bearer ${caller}` });
  },
  [`${GUIDE}: ### 401 invalid_client — wrong credentials`]: ({ api, operator }) =>
    api.requestToken({ ...operator, clientSecret: 'wrong' }),
  [`${GUIDE}: ### 403 unauthorized_client — agent suspended or monthly limit reached`]: async ({ api, operator }) => {
    const token = await api.token(operator);
    const agent = await api.agent(token);
    await api.call('POST', `/agents/${agent.agentId}/suspend`, token);
    return api.requestToken(agent);
  },
  [`${GUIDE}: Or:`]: async ({ api, database, operator }) => {
    await database.query("UPDATE organizations SET tier = 'free'");
    await database.query('UPDATE organization_ledgers SET tokens_used = 10000');
    return api.requestToken(operator);
  },
  'docs/credentials.md: Response to whoever waits (429 Too Many Requests):': async ({ api, operator }) => {
    const agent = await api.agent(await api.token(operator));
    for (let time = 0; time < 10; time += 1) await api.requestToken({ ...agent, clientSecret: 'wrong' });
    return api.requestToken(agent);
  },
  [`${GUIDE}: ### 400 unsupported_grant_type`]: ({ api, operator }) =>
    api.requestToken(operator, { grant_type: 'password' }),
};

/** The guide shows what introspection answers at least; we answer more. */
const AT_LEAST = new Set([`${GUIDE}: Response for an active token:`]);

/** The variables that the reader of a document has set before its first command. */
async function variablesOf(file: string, { api, operator }: TestApp): Promise<Map<string, string>> {
  const variables = new Map([
    ['CLIENT_ID', operator.clientId],
    ['CLIENT_SECRET', operator.clientSecret],
  ]);
  if (file !== GUIDE) return variables;
  const scopes = ['agents:read', 'agents:write', 'tokens:read'];
  const agent = await api.agent(await api.token(operator), { scopes });
  variables.set('CLIENT_ID', agent.clientId).set('CLIENT_SECRET', agent.clientSecret);
  for (const name of ['TOKEN', 'TOKEN_TO_CHECK', 'TOKEN_TO_REVOKE']) variables.set(name, await api.token(agent));
  return variables;
}

const used = new Set<string>();

describe.each(documents().filter((file) => /^(README|CONTRIBUTING|docs\/[^/]+)\.md$/.test(file)))('%s', (file) => {
  const examples = fences(read(file)).filter(({ language }) => language !== 'sql');
  if (examples.length === 0) {
    it('has no examples', () => expect(examples).toEqual([]));
    return;
  }
  let folder = '';
  /** Where the addresses of the document really are. */
  const addresses = new Map<string, string>();
  let service: TestApp;
  let shell: Shell;
  /** What stands for the platform that a guide is about. */
  let platform: Platform | null;
  let exchanges: Exchange[] = [];
  let written = '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agentidp-docs-'));
    service = await startTestApp({ env: { FEDERATION_ALLOWED_NETWORKS: '127.0.0.1' } });
    platform = await platformOf(file, service);
    for (const [address] of examples.flatMap(({ text }) => [...text.matchAll(ADDRESS)])) {
      if (!addresses.has(address)) addresses.set(address, `http://localhost:${await freePort()}`);
    }
    addresses.set(SERVICE, service.url);
    const variables = new Map([...(await variablesOf(file, service)), ...(platform?.variables ?? [])]);
    const isNotRun = (source: string): boolean => {
      used.add(source);
      return source in NOT_RUN;
    };
    shell = new Shell(variables, folder, send, example, isNotRun, platform?.programs);
  });
  afterAll(async () => {
    await stopExamples();
    rmSync(folder, { recursive: true, force: true });
    await platform?.close();
    await service.close();
  });

  const actual = (text: string): string => {
    const own = text.replace(ADDRESS, (address) => addresses.get(address) ?? address);
    return platform?.actual(own) ?? own;
  };

  async function send(args: readonly string[]): Promise<string> {
    const answer = await curl(args);
    exchanges.push(answer.exchange);
    return answer.written;
  }

  /** Starts a server of the examples, or runs a client to its end. */
  async function example(args: readonly string[], _input: string, env: Record<string, string>): Promise<string> {
    const [path = '', ...rest] = args;
    const program = path.slice('examples/'.length);
    if (!program.endsWith('/server.mjs')) {
      const settings = Object.fromEntries(
        [...read(path).matchAll(/(\w+) = '(http:\/\/localhost:[^']*)'/g)].map(([, name = '', url = '']) => [
          name,
          actual(url),
        ]),
      );
      const { code, output } = await runExample(program, rest, { ...settings, ...env });
      expect({ code, output }).toMatchObject({ code: 0 });
      return output;
    }
    const [, port = ''] = /PORT = '(\d+)'/.exec(read(path)) ?? [];
    await startExample(program, {
      PORT: new URL(actual(`http://localhost:${port}`)).port,
      ISSUER: service.url,
      ...env,
    });
    return '';
  }

  it.each(examples.map((fence) => [fence.line, fence] as const))('line %d', async (_line, fence) => {
    switch (fence.language) {
      case 'bash':
      case 'sh':
        exchanges = [];
        written = await shell.run(actual(fence.text));
        // What a reader pastes into another terminal.
        if (/\bPaste that\b/.test(fence.lead)) written = await shell.run(written);
        expectAnswered(examples, fence, exchanges);
        return;
      case 'yaml':
        // The scripts of a workflow; other manifests run none.
        for (const script of scriptsOf(fence.text)) {
          exchanges = [];
          await shell.run(actual(script));
          expect(exchanges.length).toBeGreaterThan(0);
          expectAnswered(examples, fence, exchanges);
        }
        return;
      case 'hcl':
        return;
      case 'json':
        await expectAnswer(fence);
        return;
      case 'js':
        if (!/^`examples\/\S+`:$/.test(fence.lead)) saveScript(folder, fence.text);
        return;
      case 'text':
        if (fence.previous !== null && /^(bash|sh)$/.test(fence.previous.language))
          expectWritten(written, actual(fence.text));
        return;
      default:
        throw new Error(`this test does not know examples in "${fence.language}"`);
    }
  });

  async function expectAnswer(fence: Fence): Promise<void> {
    const name = `${file}: ${fence.lead}`;
    const provoke = PROVOKED[name];
    const follows = fence.previous?.language === 'bash' || fence.previous?.language === 'sh';
    if (provoke === undefined && !follows) throw new Error(`nothing is known to answer so: ${name}`);
    const answer = provoke === undefined ? exchanges.at(-1) : await provoke(service);
    if (answer === undefined) throw new Error('the commands above send nothing');
    const status = statusIn(fence.lead);
    if (status !== undefined) expect(answer.status).toBe(Number(status));
    const documented: unknown = JSON.parse(fence.text);
    const body: unknown = JSON.parse(answer.text);
    if (isError(documented)) expect(body).toEqual(documented);
    else expectShape(body, documented, '', AT_LEAST.has(name));
  }
});

it('has no entries that no document needs', () => {
  expect(Object.keys(NOT_RUN).filter((command) => !used.has(command))).toEqual([]);
});

/** Commands answer well, unless the document says what the last of them answers. */
function expectAnswered(examples: readonly Fence[], fence: Fence, exchanges: readonly Exchange[]): void {
  const announced = announcedStatus(fence, examples[examples.indexOf(fence) + 1]);
  const well = announced === null ? exchanges : exchanges.slice(0, -1);
  expect(well.filter(({ status }) => status >= 400)).toEqual([]);
  if (typeof announced === 'number') expect(exchanges.at(-1)?.status).toBe(announced);
}

/** The status that the text before a command or the block after it names; `error` where it shows some error. */
function announcedStatus(fence: Fence, next: Fence | undefined): number | 'error' | null {
  const status = statusIn(fence.lead) ?? /^HTTP\/1\.1 (\d{3})/.exec(next?.text ?? '')?.[1];
  if (status !== undefined) return Number(status);
  return next?.language === 'json' && isError(JSON.parse(next.text)) ? 'error' : null;
}

function statusIn(lead: string): string | undefined {
  return /(?:^#+ |\(|answers )(\d{3})\b/.exec(lead)?.[1];
}

/** Whether a body is an error in one of the two shapes; its text is then documented letter by letter. */
function isError(body: unknown): boolean {
  return typeof body === 'object' && body !== null && ('error' in body || ('type' in body && 'code' in body));
}

/** The same members with values of the same kind, all the way down. */
function expectShape(actual: unknown, documented: unknown, path: string, atLeast: boolean): void {
  const at = `${path || 'the body'} is `;
  expect(at + kindOf(actual)).toBe(at + kindOf(documented));
  if (Array.isArray(documented) && Array.isArray(actual)) {
    expect(`${at}${actual.length === 0 ? 'empty' : 'filled'}`).toBe(
      `${at}${documented.length === 0 ? 'empty' : 'filled'}`,
    );
    for (const item of actual as unknown[]) expectShape(item, documented[0], `${path}[]`, atLeast);
  } else if (kindOf(documented) === 'object') {
    const names = Object.keys(documented as object).sort();
    const found = Object.keys(actual as object).sort();
    expect([path, ...(atLeast ? found.filter((name) => names.includes(name)) : found)]).toEqual([path, ...names]);
    for (const name of names) {
      const [left, right] = [actual, documented] as Record<string, unknown>[];
      expectShape(left?.[name], right?.[name], `${path}.${name}`, atLeast);
    }
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

/** What a command writes: of an answer with its header fields, the lines shown; else all of it. */
function expectWritten(written: string, shown: string): void {
  // What is not run writes nothing.
  if (written === '') return;
  if (!written.startsWith('HTTP/')) {
    expect(constant(written.trim())).toBe(constant(shown));
    return;
  }
  const lines = constant(written).split('\n').map(lowerName);
  expect(lines).toEqual(expect.arrayContaining(constant(shown).split('\n').map(lowerName)));
}

/** What `run: |` holds in a workflow. */
function scriptsOf(yaml: string): string[] {
  return [...yaml.matchAll(/^( *)(?:- )?run: \|\n((?:\1 +.*\n?|\n)+)/gm)].map(([, , block = '']) => {
    const margin = /^ */.exec(block)?.[0] ?? '';
    return block.replaceAll(new RegExp(`^${margin}`, 'gm'), '');
  });
}

/** Names of header fields have no case. */
function lowerName(line: string): string {
  return line.replace(/^[A-Za-z-]+:/, (name) => name.toLowerCase());
}

/** A text without ids and hashes, which are others each time. */
function constant(text: string): string {
  return text
    .replaceAll(/\b[0-9a-f]{64}\b/g, '<hash>')
    .replaceAll(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, '<id>');
}

/** Saves a script under the name that its first line gives. */
function saveScript(folder: string, text: string): void {
  const name = /^\/\/ ([a-z-]+\.mjs)\n/.exec(text)?.[1];
  if (name === undefined) throw new Error('a script must begin with its name in a comment');
  writeFileSync(join(folder, name), text);
}

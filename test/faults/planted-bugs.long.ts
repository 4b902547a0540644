import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
/** What the tests of a copy need. */
const COPIED = ['src', 'test', 'package.json', 'tsconfig.json', 'jest.config.mjs', 'ormconfig.ts'];

/** A bug as somebody could make it: where, what stands there, and what stands there instead. */
interface PlantedBug {
  readonly name: string;
  readonly file: string;
  readonly original: string;
  readonly planted: string;
  /** The file of tests that is to find it. */
  readonly suite: string;
  /** The tests of that file, where not all of it is needed. */
  readonly tests?: string;
  /** Which operations the fuzzer asks, where it is that. */
  readonly operations?: string;
  /** What the failure has to say, where the same test may fail for another reason. */
  readonly says?: string;
}

const BUGS: readonly PlantedBug[] = [
  {
    name: 'synchronous_commit=off',
    file: 'src/platform/database/data-source-options.ts',
    original: 'statement_timeout: 5000,',
    planted: "statement_timeout: 5000, options: '-c synchronous_commit=off',",
    suite: 'test/faults/postgres-kill.spec.ts',
  },
  {
    name: 'forget the quota lock',
    file: 'src/platform/database/migrations/1764000070000-issue-together.ts',
    original: 'ORDER BY l.organization_id FOR UPDATE);',
    planted: 'ORDER BY l.organization_id);',
    suite: 'test/e2e/quota-exactness.spec.ts',
  },
  {
    name: 'cache a token state for 1 s',
    file: 'src/tokens/token-state.ts',
    original: 'const tier = await this.lookup.read(token);',
    planted: `const known = CACHE.get(token.claims.jti);
    if (known !== undefined && Date.now() - known.at < 1000) return { ...token, tier: known.tier };
    const tier = await this.lookup.read(token);
    if (tier !== null) CACHE.set(token.claims.jti, { tier, at: Date.now() });`,
    suite: 'test/e2e/replicas.spec.ts',
  },
  {
    name: 'resolve before COMMIT',
    file: 'src/tokens/token-issuer.ts',
    original: 'Promise.all([signing, this.commits.commit(issuance)])',
    planted: 'Promise.all([signing, this.unawaited(issuance)])',
    suite: 'test/faults/flush.spec.ts',
    tests: 'whose connection was killed',
  },
  {
    name: 'retry a flush whose connection broke',
    file: 'src/platform/database/group-commit.ts',
    original: 'if (items.length === 1 || !isRowFault(error)) throw error;',
    planted: `if (!isRowFault(error)) return (await this.flush(items)).map((result) => ({ result }));
      if (items.length === 1) throw error;`,
    suite: 'test/faults/flush.spec.ts',
    tests: 'the answer was lost on the way is tokens',
  },
  {
    name: 'retry a transaction whose connection broke',
    file: 'src/platform/database/unit-of-work.ts',
    original: "return await this.dataSource.transaction('READ COMMITTED', work);",
    planted: `return await this.dataSource.transaction('READ COMMITTED', work).catch((error: unknown) => {
        if (!String(error).includes('Connection terminated')) throw error;
        return this.dataSource.transaction('READ COMMITTED', work);
      });`,
    suite: 'test/faults/flush.spec.ts',
    tests: 'the answer was lost on the way is an agent',
  },
  {
    name: 'answer a revocation that was not written',
    file: 'src/tokens/tokens.repository.ts',
    original: 'return inserted.length > 0;',
    planted:
      'await transaction.query("DELETE FROM token_revocations WHERE jti = $1", [claims.jti]); return inserted.length > 0;',
    suite: 'test/e2e/replicas.spec.ts',
  },
  {
    name: 'let one too many in',
    file: 'src/platform/http/in-flight-bound.ts',
    original: 'if (this.underWay < this.bound) return false;',
    planted: 'if (this.underWay <= this.bound) return false;',
    suite: 'src/platform/http/in-flight-bound.spec.ts',
  },
  {
    name: 'believe that the database is always there',
    file: 'src/platform/database/connection-sockets.ts',
    original: 'this.away = true;\n    this.end();',
    planted: 'this.away = false;',
    suite: 'test/faults/database-away.spec.ts',
    tests: 'lets nothing through',
  },
  {
    name: 'give the database whatever stands in the place of an id',
    file: 'src/agents/agents.service.ts',
    original: 'if (!isUuid(agentId)) throw problems.notFound;',
    planted: '',
    suite: 'test/fuzz/fuzz.spec.ts',
    operations: 'GET /api/v1/agents/{agentId}',
    says: 'answers 500',
  },
  {
    name: 'show a column that the document does not name',
    file: 'src/agents/dto/agent.view.ts',
    original: 'scopes: agent.scopes,',
    planted: 'scopes: agent.scopes, generation: agent.generation,',
    suite: 'test/fuzz/fuzz.spec.ts',
    operations: 'GET /api/v1/agents',
    says: 'must NOT have additional properties',
  },
  {
    name: 'forget the organization in a list',
    file: 'src/agents/agents.repository.ts',
    original: `.createQueryBuilder(AgentEntity, 'agent')
      .where('agent.organization_id = :organizationId', { organizationId })`,
    planted: `.createQueryBuilder(AgentEntity, 'agent')
      .where('agent.organization_id IS NOT NULL')`,
    suite: 'test/fuzz/fuzz.spec.ts',
    operations: 'GET /api/v1/agents',
    says: 'leaks ',
  },
];

/** What else a bug needs in its file. */
const BESIDES: Readonly<Record<string, readonly [string, string][]>> = {
  'cache a token state for 1 s': [
    [
      '/** A token that is alive,',
      `const CACHE = new Map<string, { tier: Tier; at: number }>();\n\n/** A token that is alive,`,
    ],
  ],
  'resolve before COMMIT': [
    [
      '  /** Drains the queue once',
      `  private unawaited(issuance: Issuance): UnderKeys<IssuanceOutcome> {
    this.commits.commit(issuance).catch(() => undefined);
    return { result: { outcome: 'issued' }, keyVersion: 0 };
  }

  /** Drains the queue once`,
    ],
  ],
};

/** How long the tests that are to find a bug may take, in milliseconds: what it breaks may run into time limits. */
const LIMIT_MS = 240_000;

describe('a bug that is planted in a copy', () => {
  let copy: string;
  const caught: string[] = [];

  beforeAll(async () => {
    copy = await mkdtemp(join(tmpdir(), 'agentidp-planted-'));
    for (const name of COPIED) await cp(join(ROOT, name), join(copy, name), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    await symlink(join(ROOT, 'dist'), join(copy, 'dist'));
  });
  afterAll(async () => {
    process.stderr.write(`${caught.map((line) => `planted: ${line}`).join('\n')}\n`);
    await rm(copy, { recursive: true, force: true });
  });

  it.each(BUGS.map((bug) => [bug.name, bug] as const))(
    'is found: %s',
    async (name, bug) => {
      const file = join(copy, bug.file);
      const original = await readFile(file, 'utf8');
      let changed = replaced(original, bug.original, bug.planted);
      for (const [from, to] of BESIDES[name] ?? []) changed = replaced(changed, from, to);
      await writeFile(file, changed);
      try {
        const { code, failed } = await runSuite(copy, bug);
        expect(code).not.toBe(0);
        expect(failed.length).toBeGreaterThan(0);
        if (bug.says !== undefined) expect(failed.map(({ message }) => message).join('\n')).toContain(bug.says);
        caught.push(`${name}: ${bug.suite}: ${failed[0]?.fullName}`);
      } finally {
        await writeFile(file, original);
      }
    },
    LIMIT_MS + 30_000,
  );
});

function replaced(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`the place for the bug has changed: ${from}`);
  return text.replace(from, () => to);
}

interface FailedTest {
  readonly fullName: string;
  readonly message: string;
}

/** Runs a file of tests in the copy; gives those that failed. */
async function runSuite(copy: string, bug: PlantedBug): Promise<{ code: number | null; failed: FailedTest[] }> {
  const result = join(copy, 'result.json');
  await rm(result, { force: true });
  const args = ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js', '--runInBand', '--json', '--forceExit'];
  const which = [`--outputFile=${result}`, bug.suite, ...(bug.tests === undefined ? [] : ['-t', bug.tests])];
  const env = { ...process.env, FUZZ_ONLY: bug.operations ?? '' };
  const limit = { timeout: LIMIT_MS, killSignal: 'SIGKILL' } as const;
  const jest = spawn(process.execPath, [...args, ...which], { cwd: copy, stdio: 'ignore', env, ...limit });
  const code = await new Promise<number | null>((resolve) => jest.once('close', resolve));
  const { testResults } = JSON.parse(await readFile(result, 'utf8')) as {
    testResults: {
      message: string;
      assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
    }[];
  };
  const failed = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => ({ fullName, message: failureMessages.join('\n') }));
  return { code, failed };
}

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { copyPostgresBinaries, locatePostgresBinaries } from './postgres-binaries.js';
import { runUnder } from './server-account.js';

describe('the programs of the embedded PostgreSQL', () => {
  let parent: string;
  beforeAll(async () => {
    parent = await mkdtemp(path.join(tmpdir(), 'agentidp-spec-'));
  });
  afterAll(() => rm(parent, { recursive: true, force: true }));

  it('are copied once, without links, which are made anew, and run', async () => {
    const original = await locatePostgresBinaries();
    const shared = path.join(parent, 'shared');
    const [one, other] = await Promise.all([
      copyPostgresBinaries(original, shared),
      copyPostgresBinaries(original, shared),
    ]);
    expect(one).toEqual(other);
    expect(await readdir(shared)).toHaveLength(1);
    expect((await lstat(one.postgres)).mode & 0o777).toBe(0o755);
    // initdb needs libpq by its linked name.
    expect(await runUnder(null, one.initdb, ['--version'])).toContain(`(PostgreSQL) ${one.majorVersion}`);
  });
});

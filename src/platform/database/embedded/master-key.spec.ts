import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readOrCreateMasterKey } from './master-key.js';

describe('readOrCreateMasterKey', () => {
  let parent: string;
  beforeAll(async () => {
    parent = await mkdtemp(path.join(tmpdir(), 'agentidp-spec-'));
  });
  afterAll(() => rm(parent, { recursive: true, force: true }));

  it('makes one key, however many come first at once, and reads it afterwards', async () => {
    const directory = path.join(parent, 'fresh');
    const keys = await Promise.all(Array.from({ length: 8 }, () => readOrCreateMasterKey(directory)));
    expect(new Set(keys.map((key) => key.toString('hex'))).size).toBe(1);
    expect(keys[0]).toHaveLength(32);
    expect(await readOrCreateMasterKey(directory)).toEqual(keys[0]);
    expect(await readdir(directory)).toEqual(['master.key']);
    const file = path.join(directory, 'master.key');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await readFile(file, 'utf8')).trim()).toBe(keys[0]?.toString('base64'));
  });

  it.each(['', 'short', Buffer.alloc(31).toString('base64'), `${Buffer.alloc(32).toString('base64')}AA`])(
    'refuses a malformed key (%j) by the name of its file and leaves it alone',
    async (content) => {
      const directory = await mkdtemp(path.join(parent, 'malformed-'));
      const file = path.join(directory, 'master.key');
      await writeFile(file, content);
      await expect(readOrCreateMasterKey(directory)).rejects.toThrow(`The master key ${file} is malformed`);
      expect(await readFile(file, 'utf8')).toBe(content);
    },
  );
});

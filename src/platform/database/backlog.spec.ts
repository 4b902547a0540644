import { expect, it } from '@jest/globals';
import { availableParallelism } from 'node:os';
import { loadConfig } from '../config/load-config.js';
import { Backlog } from './backlog.js';

it('makes gathering worthwhile while five jobs wait behind those on the threads, and tells when it ends', () => {
  const backlog = new Backlog(loadConfig({}));
  const threads = Math.max(2, availableParallelism());
  const gathering = backlog.gathering(64);
  let told = 0;
  gathering.onEnd(() => (told += 1));
  for (let jobs = 0; jobs < threads + 4; jobs += 1) backlog.begin();
  expect(gathering.worthwhile()).toBe(false);
  backlog.begin();
  backlog.begin();
  expect(gathering.worthwhile()).toBe(true);
  backlog.end();
  expect([gathering.worthwhile(), told]).toEqual([true, 0]);
  backlog.end();
  expect([gathering.worthwhile(), told]).toEqual([false, 1]);
});

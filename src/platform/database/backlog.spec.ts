import { expect, it } from '@jest/globals';
import { availableParallelism } from 'node:os';
import { loadConfig } from '../config/load-config.js';
import { Backlog } from './backlog.js';

/** A backlog with so many requests under way, of which so many have a job that waits for a thread. */
function backlogOf(requests: number, waiting: number): Backlog {
  const backlog = new Backlog(loadConfig({}));
  backlog.observeRequests(() => requests);
  const threads = Math.max(2, availableParallelism());
  for (let jobs = 0; jobs < threads + waiting; jobs += 1) backlog.begin();
  return backlog;
}

it('makes gathering worthwhile while two jobs wait behind those on the threads, and tells of every end', () => {
  const backlog = backlogOf(100, 1);
  const gathering = backlog.gathering();
  let told = 0;
  gathering.onChange(() => (told += 1));
  expect(gathering.worthwhile(1)).toBe(false);
  backlog.begin();
  backlog.begin();
  expect(gathering.worthwhile(1)).toBe(true);
  backlog.end();
  expect([gathering.worthwhile(1), told]).toEqual([true, 1]);
  backlog.end();
  expect([gathering.worthwhile(1), told]).toEqual([false, 2]);
});

it('has a batch gather three quarters of the requests under way, and 64 at most', () => {
  const worthwhile = (requests: number, items: number) => backlogOf(requests, 50).gathering().worthwhile(items);
  expect([worthwhile(20, 14), worthwhile(20, 15)]).toEqual([true, false]);
  expect([worthwhile(1000, 63), worthwhile(1000, 64)]).toEqual([true, false]);
});

it('has nothing gather where nobody tells of requests', () => {
  const backlog = new Backlog(loadConfig({}));
  for (let jobs = 0; jobs < 100; jobs += 1) backlog.begin();
  expect(backlog.gathering().worthwhile(0)).toBe(false);
});

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

/** Whether a batch that begins to wait now, with so many items, has reason to. */
const worthwhile = (backlog: Backlog, items: number): boolean => backlog.gathering().begin()(items);

it('makes gathering worthwhile while two jobs wait behind those on the threads, and tells of every end', () => {
  const backlog = backlogOf(100, 1);
  let told = 0;
  backlog.gathering().onChange(() => (told += 1));
  expect(worthwhile(backlog, 1)).toBe(false);
  backlog.begin();
  backlog.begin();
  expect(worthwhile(backlog, 1)).toBe(true);
  backlog.end();
  expect([worthwhile(backlog, 1), told]).toEqual([true, 1]);
  backlog.end();
  expect([worthwhile(backlog, 1), told]).toEqual([false, 2]);
});

it('has a batch gather three quarters of the requests under way, and 64 at most', () => {
  const few = backlogOf(20, 50);
  expect([worthwhile(few, 14), worthwhile(few, 15)]).toEqual([true, false]);
  const many = backlogOf(1000, 50);
  expect([worthwhile(many, 63), worthwhile(many, 64)]).toEqual([true, false]);
});

it('has a batch wait no longer than for the jobs that were under way when it began, whatever begins meanwhile', () => {
  const backlog = backlogOf(1000, 10);
  const isWorthwhile = backlog.gathering().begin();
  for (let jobs = 1; jobs < Math.max(2, availableParallelism()) + 10; jobs += 1) {
    backlog.begin();
    backlog.end();
    expect(isWorthwhile(1)).toBe(true);
  }
  backlog.begin();
  backlog.end();
  expect(isWorthwhile(1)).toBe(false);
  expect(worthwhile(backlog, 1)).toBe(true);
});

it('has nothing gather where nobody tells of requests', () => {
  const backlog = new Backlog(loadConfig({}));
  for (let jobs = 0; jobs < 100; jobs += 1) backlog.begin();
  expect(worthwhile(backlog, 0)).toBe(false);
});

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Backlog } from './backlog.js';

const given = process.env['UV_THREADPOOL_SIZE'];

describe('the backlog of the thread pool', () => {
  beforeEach(() => {
    process.env['UV_THREADPOOL_SIZE'] = '2';
  });
  afterEach(() => {
    if (given === undefined) delete process.env['UV_THREADPOOL_SIZE'];
    else process.env['UV_THREADPOOL_SIZE'] = given;
  });

  it('makes gathering worthwhile while five jobs wait behind those on the threads, and tells when it ends', () => {
    const backlog = new Backlog();
    const gathering = backlog.gathering(64);
    let told = 0;
    gathering.onEnd(() => (told += 1));
    for (let jobs = 1; jobs <= 6; jobs += 1) backlog.begin();
    expect(gathering.worthwhile()).toBe(false);
    backlog.begin();
    backlog.begin();
    expect(gathering.worthwhile()).toBe(true);
    backlog.end();
    expect([gathering.worthwhile(), told]).toEqual([true, 0]);
    backlog.end();
    expect([gathering.worthwhile(), told]).toEqual([false, 1]);
  });
});

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { WorkLimit } from './work-limit.js';

interface Job {
  readonly done: Promise<string>;
  readonly finish: () => void;
}

let begun: string[];

beforeEach(() => {
  begun = [];
  jest.useFakeTimers();
});

afterEach(() => {
  jest.useRealTimers();
});

/** Work of an organization that is under way until it is told to finish; the result names the refusal where it has one. */
function job(limit: WorkLimit, organizationId: string, name = organizationId): Job {
  let finish = (): void => undefined;
  const held = new Promise<void>((resolve) => (finish = resolve));
  const work = async (): Promise<string> => {
    begun.push(name);
    await held;
    return 'done';
  };
  const done = limit.run(organizationId, work).catch((error: unknown) => (error as { code: string }).code);
  return { done, finish };
}

/** Lets everything happen that waits for nothing but promises. */
const settle = () => jest.advanceTimersByTimeAsync(0);

describe('WorkLimit', () => {
  it('refuses at once what is over the limits, and lets in again as soon as something ended', async () => {
    const limit = new WorkLimit(1, 2);
    const [first, second] = [job(limit, 'a'), job(limit, 'b')];
    expect([await job(limit, 'a').done, await job(limit, 'c').done]).toEqual(['rate_limited', 'unavailable']);
    await expect(limit.run('a', () => Promise.resolve())).rejects.toMatchObject({ headers: { 'Retry-After': '5' } });
    first.finish();
    await first.done;
    const third = job(limit, 'c');
    for (const each of [second, third]) each.finish();
    expect(await Promise.all([second.done, third.done])).toEqual(['done', 'done']);
  });

  it('lets in again when work failed, and once only where its end is told twice', async () => {
    const limit = new WorkLimit(1, 1);
    await expect(limit.run('a', () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    const leave = limit.enter('a');
    leave();
    const again = limit.enter('a');
    leave();
    expect(() => limit.enter('a')).toThrow();
    again();
    expect(() => limit.enter('a')).not.toThrow();
  });

  it('has work wait for its turn where it is patient, in the order asked for', async () => {
    const limit = new WorkLimit(1, 2, 1000);
    const jobs = [job(limit, 'a', 'a1'), job(limit, 'a', 'a2'), job(limit, 'a', 'a3')];
    for (const each of jobs) {
      await settle();
      each.finish();
    }
    expect(await Promise.all(jobs.map(({ done }) => done))).toEqual(['done', 'done', 'done']);
    expect(begun).toEqual(['a1', 'a2', 'a3']);
  });

  it('does not have an organization wait for another that has enough', async () => {
    const limit = new WorkLimit(1, 2, 1000);
    const first = job(limit, 'a', 'a1');
    const second = job(limit, 'a', 'a2');
    const other = job(limit, 'b');
    await settle();
    expect(begun).toEqual(['a1', 'b']);
    const third = job(limit, 'c');
    other.finish();
    await settle();
    expect(begun).toEqual(['a1', 'b', 'c']);
    for (const each of [first, second, third]) each.finish();
    expect(await Promise.all([first.done, second.done, third.done])).toEqual(['done', 'done', 'done']);
  });

  it('has organizations take turns, however much one of them asked for before', async () => {
    const limit = new WorkLimit(1, 1, 1000);
    const jobs = ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'].map((name) => job(limit, name.slice(0, 1), name));
    for (let ended = 0; ended < jobs.length; ended += 1) {
      await settle();
      jobs.find((_, index) => begun.at(-1) === ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'][index])?.finish();
    }
    await Promise.all(jobs.map(({ done }) => done));
    expect(begun).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2']);
  });

  it('refuses what waits when it is told that there is no time, and has nothing wait from then on', async () => {
    const limit = new WorkLimit(1, 2, 1000);
    const [first, second, third] = [job(limit, 'a'), job(limit, 'a', 'late'), job(limit, 'a', 'late')];
    await settle();
    limit.stopWaiting();
    expect([await second.done, await third.done]).toEqual(['rate_limited', 'rate_limited']);
    expect(await job(limit, 'a', 'late').done).toBe('rate_limited');
    first.finish();
    expect([await first.done, begun, jest.getTimerCount()]).toEqual(['done', ['a'], 0]);
  });

  it('keeps the place of whoever has its turn from those who come meanwhile', async () => {
    const limit = new WorkLimit(1, 1, 1000);
    const first = job(limit, 'a');
    const second = job(limit, 'b');
    first.finish();
    await first.done;
    const third = job(limit, 'c');
    await settle();
    expect(begun).toEqual(['a', 'b']);
    second.finish();
    third.finish();
    expect([await second.done, await third.done]).toEqual(['done', 'done']);
  });

  it('refuses work that waited in vain, and forgets it', async () => {
    const limit = new WorkLimit(1, 2, 1000);
    const jobs = [job(limit, 'a'), job(limit, 'b')];
    const [mine, foreign] = [job(limit, 'a', 'late'), job(limit, 'c', 'late')];
    let refused = 0;
    for (const late of [mine, foreign]) void late.done.then(() => (refused += 1));
    await jest.advanceTimersByTimeAsync(999);
    expect(refused).toBe(0);
    const last = job(limit, 'b', 'b2');
    await jest.advanceTimersByTimeAsync(1);
    expect([await mine.done, await foreign.done]).toEqual(['rate_limited', 'unavailable']);
    for (const each of [...jobs, last]) each.finish();
    expect(await last.done).toBe('done');
    expect(begun).toEqual(['a', 'b', 'b2']);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('has ten of an organization wait and a hundred in all; the next is refused at once', async () => {
    const limit = new WorkLimit(1, 2, 1000);
    const jobs = [job(limit, 'a'), job(limit, 'b')];
    for (let index = 0; index < 10; index += 1) jobs.push(job(limit, 'a'));
    expect(await job(limit, 'a').done).toBe('rate_limited');
    for (let index = 0; index < 90; index += 1) jobs.push(job(limit, `c${index}`));
    expect(await job(limit, 'd').done).toBe('unavailable');
    for (const each of jobs) each.finish();
    expect(new Set(await Promise.all(jobs.map(({ done }) => done)))).toEqual(new Set(['done']));
  });
});

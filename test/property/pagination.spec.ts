import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { check } from './check.js';

type Item = Record<string, unknown>;

interface PageBody {
  readonly data: Item[];
  readonly nextCursor: string | null;
}

describe('lists, whatever the sizes of their pages', () => {
  let service: TestApp;
  let operator: string;
  let agentId: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    // Several of an instant, which only the id tells apart.
    const start = service.clock.nowMs();
    for (let group = 0; group < 6; group += 1) {
      service.clock.freeze(new Date(start + group * 1000).toISOString());
      for (let member = 0; member < 4; member += 1) {
        const name = `agent ${group}.${member}`;
        const { body } = await service.api.call('POST', '/agents', operator, {
          name,
          labels: { group: String(group % 2) },
        });
        agentId = body['agentId'] as string;
      }
    }
    for (let count = 0; count < 9; count += 1) {
      if (count % 3 === 0) service.clock.advance(1);
      await service.api.secret(operator, agentId);
    }
  });
  afterAll(() => service.close());

  async function page(path: string, limit: number | null, cursor: string | null): Promise<PageBody> {
    const query = new URLSearchParams({
      ...(limit === null ? {} : { limit: String(limit) }),
      ...(cursor === null ? {} : { cursor }),
    }).toString();
    const answer = await service.api.call<PageBody>(
      'GET',
      `${path}${path.includes('?') ? '&' : '?'}${query}`,
      operator,
    );
    expect(answer.status).toBe(200);
    return answer.body;
  }

  const lists: [string, () => string, string, number][] = [
    ['agents', () => '/agents', 'agentId', 25],
    ['agents with a label', () => '/agents?label=group:1', 'agentId', 12],
    ['secrets', () => `/agents/${agentId}/credentials`, 'credentialId', 9],
    ['audit events', () => '/audit', 'eventId', 37],
  ];

  it.each(lists)('%s: any sequence of limits visits each item once, in order', async (_, path, id, atLeast) => {
    const whole = (await page(path(), 200, null)).data;
    expect(whole.length).toBeGreaterThanOrEqual(atLeast);
    const limits = fc.array(fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 200 })), {
      minLength: 1,
      maxLength: 20,
    });
    await check(
      fc.asyncProperty(limits, async (sizes) => {
        const seen: Item[] = [];
        let cursor: string | null = null;
        for (let turn = 0; ; turn += 1) {
          const limit = sizes[turn % sizes.length] ?? 1;
          const { data, nextCursor }: PageBody = await page(path(), limit, cursor);
          seen.push(...data);
          expect(data).toHaveLength(Math.min(limit, whole.length - seen.length + data.length));
          expect(nextCursor === null).toBe(seen.length === whole.length);
          if (nextCursor === null) break;
          cursor = nextCursor;
        }
        expect(seen).toEqual(whole);
        expect(new Set(seen.map((item) => item[id])).size).toBe(whole.length);
      }),
      12,
    );
  });

  it.each(lists)('%s: newest first', async (_, path) => {
    const whole = (await page(path(), 200, null)).data;
    const instants = whole.map((item) => (item['createdAt'] ?? item['occurredAt']) as string);
    expect(instants).toEqual([...instants].sort().reverse());
  });

  it.each(lists)('%s: 50 a page unless told otherwise, and a cursor may be used again', async (_, path) => {
    const whole = (await page(path(), 200, null)).data;
    expect((await page(path(), null, null)).data).toEqual(whole.slice(0, 50));
    const { nextCursor } = await page(path(), 3, null);
    const [once, again] = [await page(path(), 5, nextCursor), await page(path(), 5, nextCursor)];
    expect(again).toEqual(once);
    expect(once.data).toEqual(whole.slice(3, 8));
  });

  it('agents: what is added while one reads is not visited, and what was there is, once', async () => {
    await check(
      fc.asyncProperty(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 3 }), async (limit, added) => {
        const before = (await page('/agents', 200, null)).data.map((item) => item['agentId']);
        const seen: unknown[] = [];
        let cursor: string | null = null;
        do {
          const { data, nextCursor }: PageBody = await page('/agents', limit, cursor);
          seen.push(...data.map((item) => item['agentId']));
          cursor = nextCursor;
          if (seen.length === limit) {
            service.clock.advance(1);
            for (let count = 0; count < added; count += 1)
              await service.api.call('POST', '/agents', operator, { name: 'new' });
          }
        } while (cursor !== null);
        expect(seen).toEqual(before);
      }),
      6,
    );
  });

  it('a cursor of another list is 400', async () => {
    const cursors = await Promise.all(lists.map(async ([, path]) => (await page(path(), 1, null)).nextCursor ?? ''));
    for (const [at, [, path]] of lists.entries()) {
      for (const [from, cursor] of cursors.entries()) {
        const sameList = at === from || (at < 2 && from < 2);
        const answer = await service.api.call(
          'GET',
          `${path()}${path().includes('?') ? '&' : '?'}cursor=${cursor}`,
          operator,
        );
        expect(answer.status).toBe(sameList ? 200 : 400);
      }
    }
  });
});

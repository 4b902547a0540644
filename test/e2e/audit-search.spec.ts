import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FAILING_ACTIONS } from '../../src/platform/kernel/audit-event.js';
import type { TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

interface AuditEvent {
  readonly sequence: number;
  readonly action: string;
  readonly outcome: string;
  readonly actor: string | null;
  readonly target: { readonly type: string; readonly id: string };
  readonly details: Record<string, unknown>;
  readonly occurredAt: string;
}

const FILTERS = ['agentId', 'action', 'outcome', 'from', 'to'] as const;

describe('searching the audit log', () => {
  let service: TestApp;
  let token: string;
  let agents: TestAgent[];
  let all: AuditEvent[];

  const list = async (query: string) => {
    const { status, body } = await service.api.call('GET', `/audit?limit=200&${query}`, token);
    expect(status).toBe(200);
    return (body['data'] as AuditEvent[]).map(({ sequence }) => sequence);
  };

  beforeAll(async () => {
    service = await startTestApp();
    token = await service.api.token(service.operator);
    agents = [];
    for (let number = 0; number < 3; number += 1) {
      const agent = await service.api.agent(token, { scopes: ['agents:read'] });
      agents.push(agent);
      for (let issued = 0; issued < 4; issued += 1) {
        // Backwards too: instants need not follow the sequence.
        service.clock.advance(issued === 2 ? -90 : 40);
        await service.api.revoke(token, await service.api.token(agent));
      }
      await service.api.requestToken({ ...agent, clientSecret: 'wrong' });
      await service.api.requestToken(agent, { scope: 'webhooks:read' });
      // Part of the log is in the tree, part is not.
      if (number === 1) await service.api.call('GET', '/audit/checkpoint', token);
    }
    all = (await service.api.call('GET', '/audit?limit=200', token)).body['data'] as AuditEvent[];
  });
  afterAll(() => service.close());

  it('finds with every combination of filters what a look at each event finds', async () => {
    const middle = all[Math.floor(all.length / 2)]?.occurredAt ?? '';
    const later = all[5]?.occurredAt ?? '';
    const choices: Record<(typeof FILTERS)[number], string[]> = {
      agentId: ['', agents[0]?.agentId ?? '', (agents[2]?.agentId ?? '').toUpperCase(), service.operator.clientId],
      action: ['', 'token.issued', 'token.revoked', 'token.refused', 'key.rotated'],
      outcome: ['', 'failure'],
      from: ['', middle],
      to: ['', later],
    };
    const combinations = FILTERS.reduce<Record<string, string>[]>(
      (found, name) => found.flatMap((filter) => choices[name].map((value) => ({ ...filter, [name]: value }))),
      [{}],
    ).filter(({ from, to }) => from === '' || to === '' || Date.parse(from ?? '') <= Date.parse(to ?? ''));
    expect(combinations.length).toBeGreaterThan(100);
    for (const filter of combinations) {
      const given = Object.entries(filter).filter(([, value]) => value !== '');
      const expected = all.filter((event) => matches(event, filter)).map(({ sequence }) => sequence);
      expect([given, await list(new URLSearchParams(given).toString())]).toEqual([given, expected]);
    }
  }, 60_000);

  it('knows which acts may be failures', () => {
    const failed = new Set(all.filter(({ outcome }) => outcome === 'failure').map(({ action }) => action));
    expect([...failed]).toEqual([...FAILING_ACTIONS]);
  });

  it('gives stable pages while events arrive', async () => {
    const query = `agentId=${agents[1]?.agentId ?? ''}`;
    const expected = await list(query);
    const seen: number[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const { body } = await service.api.call(
        'GET',
        `/audit?limit=3&${query}${cursor === '' ? '' : `&cursor=${cursor}`}`,
        token,
      );
      seen.push(...(body['data'] as AuditEvent[]).map(({ sequence }) => sequence));
      cursor = body['nextCursor'] as string | null;
      if (agents[1] !== undefined) await service.api.token(agents[1]);
    }
    expect(seen).toEqual(expected);
  });

  it.each([
    'from=x',
    'to=2026-13-01',
    'from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z',
    'unknown=1',
    'cursor=x',
    'agentId=x',
    'action=x',
    'outcome=x',
    'limit=0',
    'limit=201',
  ])('refuses %s', async (query) => {
    expect((await service.api.call('GET', `/audit?${query}`, token)).status).toBe(400);
  });
});

function matches(event: AuditEvent, filter: Record<string, string>): boolean {
  const agentId = filter['agentId']?.toLowerCase() ?? '';
  const { action = '', outcome = '', from = '', to = '' } = filter;
  return (
    (agentId === '' ||
      event.actor === agentId ||
      (event.target.type === 'agent' && event.target.id === agentId) ||
      event.details['agentId'] === agentId) &&
    (action === '' || event.action === action) &&
    (outcome === '' || event.outcome === outcome) &&
    (from === '' || Date.parse(event.occurredAt) >= Date.parse(from)) &&
    (to === '' || Date.parse(event.occurredAt) < Date.parse(to))
  );
}

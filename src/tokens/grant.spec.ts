import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Client, ScopeAudience } from '../platform/kernel/client.js';
import { decideGrant, type Grant, type GrantRefusal, type GrantRequest } from './grant.js';

const ISSUER = 'https://id.example';
const INVOICES = 'https://invoices.example';
const MAIL = 'urn:example:mail';

function clientWith(scopes: readonly string[], audiences: readonly ScopeAudience[] = []): Client {
  return {
    agentId: '7b6e2a5e-6d52-4b8e-9d0c-0a3c9a5d2b11',
    organizationId: '1f0d4c53-5b1f-4f0d-8a40-6f3f7f0f2c22',
    credentialId: '9a1d3c77-0f6e-4e0d-9d3b-4a5b6c7d8e33',
    agentStatus: 'active',
    organizationStatus: 'active',
    tier: 'free',
    scopes,
    audiences,
    tokenTtlSeconds: null,
    generation: '1.1.1',
  };
}

/** Two built-in scopes, two of one resource server, one of another. */
const AGENT = clientWith(
  ['agents:read', 'tokens:read', 'invoices:read', 'invoices:write', 'mail:send'],
  [
    { scope: 'invoices:read', identifier: INVOICES, ttlSeconds: 300 },
    { scope: 'invoices:write', identifier: INVOICES, ttlSeconds: 300 },
    { scope: 'mail:send', identifier: MAIL, ttlSeconds: 120 },
  ],
);

/** `known`: the resource servers of the organization, whether or not the agent has a scope of them. */
function decide(
  client: Client,
  request: Partial<GrantRequest>,
  known: readonly string[] = [ISSUER, INVOICES, MAIL],
): Grant | GrantRefusal {
  const { scopes = null, resource = null } = request;
  return decideGrant(client, { scopes, resource }, ISSUER, resource === null || known.includes(resource));
}

describe('a grant', () => {
  it('is for everything that the agent has, and for all audiences of it, where nothing is named', () => {
    expect(decide(AGENT, {})).toEqual({
      scopes: AGENT.scopes,
      audience: [ISSUER, INVOICES, MAIL],
      ttlSeconds: 120,
    });
  });

  it('is for the issuer where the agent has no scope', () => {
    expect(decide(clientWith([]), {})).toEqual({ scopes: [], audience: ISSUER, ttlSeconds: null });
  });

  it('has one audience, not a list of one, where all scopes share it', () => {
    const { audiences } = AGENT;
    expect(decide(clientWith(['mail:send'], audiences), {})).toMatchObject({ audience: MAIL, ttlSeconds: 120 });
    expect(decide(clientWith(['agents:read']), {})).toMatchObject({ audience: ISSUER, ttlSeconds: null });
  });

  it('follows the scopes that are named to their audience', () => {
    expect(decide(AGENT, { scopes: ['invoices:read', 'invoices:write'] })).toEqual({
      scopes: ['invoices:read', 'invoices:write'],
      audience: INVOICES,
      ttlSeconds: 300,
    });
    expect(decide(AGENT, { scopes: ['tokens:read'] })).toMatchObject({ audience: ISSUER, ttlSeconds: null });
  });

  it('narrows to what the agent has at the named resource', () => {
    expect(decide(AGENT, { resource: INVOICES })).toEqual({
      scopes: ['invoices:read', 'invoices:write'],
      audience: INVOICES,
      ttlSeconds: 300,
    });
    expect(decide(AGENT, { resource: ISSUER })).toMatchObject({ scopes: ['agents:read', 'tokens:read'] });
    expect(decide(AGENT, { resource: MAIL, scopes: ['mail:send'] })).toMatchObject({ audience: MAIL, ttlSeconds: 120 });
  });

  it('is for our own API without scopes where the agent has none there', () => {
    expect(decide(clientWith(['mail:send'], AGENT.audiences), { resource: ISSUER })).toEqual({
      scopes: [],
      audience: ISSUER,
      ttlSeconds: null,
    });
  });

  it.each<[string, Partial<GrantRequest>]>([
    ['of two audiences', { scopes: ['invoices:read', 'mail:send'] }],
    ['of our own API and a resource server', { scopes: ['agents:read', 'mail:send'] }],
    ['that the agent does not have', { scopes: ['audit:read'] }],
    ['that the agent does not have, beside one that it has', { scopes: ['agents:read', 'audit:read'] }],
    ['that the named resource does not have', { scopes: ['mail:send'], resource: INVOICES }],
    ['of which the named resource has only one', { scopes: ['mail:send', 'invoices:read'], resource: INVOICES }],
    ['of our own API at another resource', { scopes: ['agents:read'], resource: MAIL }],
    ['of a resource server at our own API', { scopes: ['mail:send'], resource: ISSUER }],
    ['in another case', { scopes: ['Agents:read'] }],
  ])('is refused with invalid_scope for scopes %s', (_what, request) => {
    expect(decide(AGENT, request)).toBe('invalid_scope');
  });

  it.each<[string, Partial<GrantRequest>]>([
    ['is unknown', { resource: 'https://nobody.example' }],
    ['is unknown, with a scope that the agent has', { resource: 'https://nobody.example', scopes: ['agents:read'] }],
    ['is unknown, with a scope that nobody has', { resource: 'https://nobody.example', scopes: ['x'] }],
    ['is known in another case', { resource: INVOICES.toUpperCase() }],
  ])('is refused with invalid_target for a resource that %s', (_what, request) => {
    expect(decide(AGENT, request)).toBe('invalid_target');
  });

  it('is refused with invalid_target for a resource at which the agent has nothing', () => {
    expect(decide(clientWith(['agents:read']), { resource: MAIL })).toBe('invalid_target');
  });

  it('is refused with invalid_scope where the token would not fit into a header; naming fewer scopes helps', () => {
    const many = Array.from({ length: 100 }, (_, index) => `agents:${String(index).padStart(70, '0')}`);
    expect(decide(clientWith(many), {})).toBe('invalid_scope');
    expect(decide(clientWith(many), { scopes: many.slice(0, 50) })).toMatchObject({ scopes: many.slice(0, 50) });
  });

  describe('whatever is asked', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'agents:read', 'audit:read', '__proto__', 'constructor');
    const identifier = fc.constantFrom(INVOICES, MAIL, 'https://third.example');
    const client = fc
      .tuple(
        fc.uniqueArray(name, { maxLength: 7 }),
        fc.dictionary(name, identifier, { noNullPrototype: true }),
        fc.dictionary(identifier, fc.option(fc.integer({ min: 60, max: 86_400 })), { noNullPrototype: true }),
      )
      .map(([scopes, homes, lifetimes]) => {
        const homeOf = new Map(Object.entries(homes));
        const audiences = scopes.flatMap((scope) => {
          const home = homeOf.get(scope);
          // Built-in scopes belong to our own API, whatever there is.
          if (home === undefined || scope.includes(':')) return [];
          return [{ scope, identifier: home, ttlSeconds: lifetimes[home] ?? null }];
        });
        return clientWith(scopes, audiences);
      });
    const request = fc.record({
      scopes: fc.option(fc.uniqueArray(name, { minLength: 1, maxLength: 4 })),
      resource: fc.option(fc.constantFrom(ISSUER, INVOICES, MAIL, 'https://third.example', 'https://nobody.example')),
    });
    const audienceOf = ({ audiences }: Client, scope: string): string =>
      audiences.find((each) => each.scope === scope)?.identifier ?? ISSUER;
    const listOf = ({ audience }: Grant): readonly string[] => [audience].flat();

    const forAll = (check: (client: Client, request: GrantRequest, decision: Grant | GrantRefusal) => void): void => {
      fc.assert(
        fc.property(client, request, (who, what) => {
          check(who, what, decide(who, what, [ISSUER, INVOICES, MAIL, 'https://third.example']));
        }),
        { numRuns: 1000 },
      );
    };

    it('grants nothing that the agent does not have, and each scope once', () => {
      forAll((who, _what, decision) => {
        if (typeof decision === 'string') return;
        expect(who.scopes).toEqual(expect.arrayContaining([...decision.scopes]));
        expect(new Set(decision.scopes).size).toBe(decision.scopes.length);
      });
    });

    it('grants exactly the scopes that are named', () => {
      forAll((_who, { scopes }, decision) => {
        if (typeof decision !== 'string' && scopes !== null) expect(decision.scopes).toEqual(scopes);
      });
    });

    it('shows the token to no audience but those of its scopes, or the one that is named', () => {
      forAll((who, { resource }, decision) => {
        if (typeof decision === 'string') return;
        const homes = new Set(decision.scopes.map((scope) => audienceOf(who, scope)));
        if (resource !== null) {
          expect(decision.audience).toBe(resource);
          expect([...homes].filter((home) => home !== resource)).toEqual([]);
        } else {
          expect(new Set(listOf(decision))).toEqual(homes.size === 0 ? new Set([ISSUER]) : homes);
        }
        expect(new Set(listOf(decision)).size).toBe(listOf(decision).length);
      });
    });

    it('has several audiences only where neither scope nor resource is named', () => {
      forAll((_who, { scopes, resource }, decision) => {
        if (typeof decision === 'string' || !Array.isArray(decision.audience)) return;
        expect([scopes, resource]).toEqual([null, null]);
        expect(decision.audience.length).toBeGreaterThan(1);
      });
    });

    it('has the shortest lifetime among its audiences, and no other’s', () => {
      forAll((who, _what, decision) => {
        if (typeof decision === 'string') return;
        const lifetimes = who.audiences
          .filter(({ identifier: home }) => listOf(decision).includes(home))
          .flatMap(({ ttlSeconds }) => (ttlSeconds === null ? [] : [ttlSeconds]));
        expect(decision.ttlSeconds).toBe(lifetimes.length === 0 ? null : Math.min(...lifetimes));
      });
    });

    it('is refused only for a reason', () => {
      forAll((who, { scopes, resource }, decision) => {
        const lacks = scopes !== null && scopes.some((scope) => !who.scopes.includes(scope));
        const homes = new Set((scopes ?? []).map((scope) => audienceOf(who, scope)));
        const elsewhere = resource !== null && [...homes].some((home) => home !== resource);
        const nothingThere = resource !== null && !who.scopes.some((scope) => audienceOf(who, scope) === resource);
        if (decision === 'invalid_scope') expect(lacks || elsewhere || homes.size > 1).toBe(true);
        else if (decision === 'invalid_target') expect(nothingThere && resource !== ISSUER).toBe(true);
        else expect(lacks || elsewhere || (resource === null && homes.size > 1)).toBe(false);
      });
    });
  });
});

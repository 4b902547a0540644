import { describe, expect, it } from '@jest/globals';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { createHash } from 'node:crypto';
import type { AuditDetail, NewAuditEvent } from './audit-event.js';
import { genesisHash, hashOf, renderEvent, type ChainedEvent, type RenderedEvent } from './canonical-event.js';

const EVENT_ID = '01890a5d-ac96-774b-bcce-b302099a8057';
const ORGANIZATION = '3f1b7c52-2f0e-4b55-9c7e-1a2b3c4d5e6f';
const OCCURRED_AT = '2026-02-28T23:59:59.999Z';
const PREVIOUS = 'ab'.repeat(32);

/** Text that renderers get wrong: quotes, escapes, controls, separators, the BOM, planes beyond the first. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({
    unit: fc.constantFrom('"', '\\', '/', '\0', '\b', '\t', '\n', '\f', '\r', '\u001f', '\u007f', '\u2028', '\u2029'),
    maxLength: 20,
  }),
  fc.constantFrom(
    '',
    '","sequence":1,"x":"',
    '{"hash":null}',
    '\ufeff',
    '😀',
    '\u{10ffff}',
    'é',
    'e\u0301',
    '</script>',
  ),
);

const detail: fc.Arbitrary<AuditDetail> = fc.letrec<{ any: AuditDetail }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    hostile,
    fc.boolean(),
    fc.constant(null),
    fc.maxSafeInteger(),
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(hostile, tie('any'), { maxKeys: 4, noNullPrototype: true }),
  ),
})).any;

const event: fc.Arbitrary<NewAuditEvent> = fc.record({
  organizationId: fc.uuid(),
  action: fc.constantFrom('token.issued' as const, 'agent.created' as const),
  outcome: fc.constantFrom('success' as const, 'failure' as const),
  actor: fc.option(fc.uuid()),
  target: fc.record({ type: hostile, id: hostile }),
  origin: fc.record({ ip: fc.option(hostile), userAgent: fc.option(hostile) }),
  details: fc.dictionary(hostile, detail, { maxKeys: 5, noNullPrototype: true }),
});

/** What the database makes of a rendered event, and the event as callers see it then. */
function chained(rendered: RenderedEvent, sequence: number, previousHash: string) {
  const { event: happened, eventId, occurredAt } = rendered;
  const text = `${rendered.head}"previousHash":"${previousHash}","sequence":${sequence},${rendered.tail}`;
  const hash = createHash('sha256').update(text, 'utf8').digest('hex');
  const view: ChainedEvent = {
    eventId,
    sequence,
    organizationId: happened.organizationId,
    action: happened.action,
    outcome: happened.outcome,
    actor: happened.actor,
    target: happened.target,
    ip: happened.origin.ip,
    userAgent: happened.origin.userAgent,
    details: JSON.parse(rendered.details) as unknown,
    occurredAt,
    previousHash,
    hash,
  };
  return { text, view };
}

function plainEvent(more: Partial<NewAuditEvent> = {}): NewAuditEvent {
  return {
    organizationId: ORGANIZATION,
    action: 'token.issued',
    outcome: 'success',
    actor: EVENT_ID,
    target: { type: 'token', id: 'jti' },
    origin: { ip: '203.0.113.7', userAgent: 'curl/8.5.0' },
    details: { scope: 'agents:read', expiresAt: 1 },
    ...more,
  };
}

describe('the canonical form of an audit event', () => {
  it('is byte for byte RFC 8785, whatever strings the event holds', () => {
    fc.assert(
      fc.property(event, fc.nat(), (happened, sequence) => {
        const { text, view } = chained(renderEvent(happened, EVENT_ID, OCCURRED_AT), sequence + 1, PREVIOUS);
        const { hash: _, ...hashed } = view;
        expect(text).toBe(canonicalize(hashed));
      }),
      { numRuns: 1000 },
    );
  });

  it('has the hash that its verification computes', () => {
    fc.assert(
      fc.property(event, (happened) => {
        const { view } = chained(renderEvent(happened, EVENT_ID, OCCURRED_AT), 7, PREVIOUS);
        expect(hashOf(view)).toBe(view.hash);
      }),
    );
  });

  it('is a fixed text for a fixed event', () => {
    const { head, tail } = renderEvent(plainEvent(), EVENT_ID, OCCURRED_AT);
    expect(head).toBe(
      `{"action":"token.issued","actor":"${EVENT_ID}","details":{"expiresAt":1,"scope":"agents:read"},` +
        `"eventId":"${EVENT_ID}","ip":"203.0.113.7","occurredAt":"${OCCURRED_AT}",` +
        `"organizationId":"${ORGANIZATION}","outcome":"success",`,
    );
    expect(tail).toBe('"target":{"id":"jti","type":"token"},"userAgent":"curl/8.5.0"}');
  });

  it('orders the details by UTF-16 code units, as RFC 8785 §3.2.3 does', () => {
    const details = { '\u20ac': 1, '\r': 2, '\ufb33': 3, 1: 4, '\u{1f600}': 5, '\u0080': 6, ö: 7 };
    expect(renderEvent(plainEvent({ details }), EVENT_ID, OCCURRED_AT).details).toBe(
      '{"\\r":2,"1":4,"\u0080":6,"ö":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}',
    );
  });

  it.each([
    ['action', { action: 'token.refused' }],
    ['outcome', { outcome: 'failure' }],
    ['actor', { actor: null }],
    ['target id', { target: { type: 'token', id: 'other' } }],
    ['target type', { target: { type: 'agent', id: 'jti' } }],
    ['ip', { ip: null }],
    ['user agent', { userAgent: 'curl/8.5.1' }],
    ['details', { details: { scope: 'agents:write', expiresAt: 1 } }],
    ['instant', { occurredAt: '2026-02-28T23:59:59.998Z' }],
    ['sequence', { sequence: 8 }],
    ['previous hash', { previousHash: 'cd'.repeat(32) }],
    ['event id', { eventId: ORGANIZATION }],
    ['organization', { organizationId: EVENT_ID }],
  ])('changes its hash with the %s', (_name, altered) => {
    const { view } = chained(renderEvent(plainEvent(), EVENT_ID, OCCURRED_AT), 7, PREVIOUS);
    expect(hashOf({ ...view, ...altered })).not.toBe(view.hash);
  });

  it('begins a chain with the hash of the organization id', () => {
    expect(genesisHash(ORGANIZATION)).toBe(createHash('sha256').update(ORGANIZATION).digest('hex'));
  });

  it('refuses what JSON cannot carry, before it reaches the database', () => {
    const details = { name: '\ud800' };
    expect(() => renderEvent(plainEvent({ details }), EVENT_ID, OCCURRED_AT)).toThrow(/surrogate/i);
  });
});

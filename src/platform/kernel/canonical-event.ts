import { hash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { NewAuditEvent } from './audit-event.js';

const PLAIN = /^[\x20-\x7e]*$/;

/** An event that is ready for the chain: `head` and `tail` stand before and after "previousHash" and "sequence". */
export interface RenderedEvent {
  readonly event: NewAuditEvent;
  readonly eventId: string;
  readonly occurredAt: string;
  readonly details: string;
  readonly head: string;
  readonly tail: string;
}

/** An event as callers see it, and as its hash covers it (all members but `hash`). */
export interface ChainedEvent {
  readonly eventId: string;
  readonly sequence: number;
  readonly organizationId: string;
  readonly action: string;
  readonly outcome: string;
  readonly actor: string | null;
  readonly target: { readonly type: string; readonly id: string };
  readonly ip: string | null;
  readonly userAgent: string | null;
  readonly details: unknown;
  readonly occurredAt: string;
  readonly previousHash: string;
  readonly hash: string;
}

/**
 * Renders the canonical form (RFC 8785) of an event around the two members that only the database knows. In canonical
 * order "previousHash" and "sequence" stand between "outcome" and "target".
 *
 * @param event what happened
 * @param eventId a UUID of its own
 * @param occurredAt ISO 8601, UTC, with milliseconds
 */
export function renderEvent(event: NewAuditEvent, eventId: string, occurredAt: string): RenderedEvent {
  const details = isCanonicalAsItStands(event.details) ? JSON.stringify(event.details) : canonicalJson(event.details);
  const { ip, userAgent } = event.origin;
  // Ids, instants and names of ours need no escaping; what callers chose does.
  const head =
    `{"action":"${event.action}","actor":${text(event.actor)},"details":${details},"eventId":"${eventId}",` +
    `"ip":${text(ip)},"occurredAt":"${occurredAt}","organizationId":"${event.organizationId}",` +
    `"outcome":"${event.outcome}",`;
  const tail =
    `"target":{"id":${text(event.target.id)},"type":${text(event.target.type)}},` + `"userAgent":${text(userAgent)}}`;
  return { event, eventId, occurredAt, details, head, tail };
}

/** `hex(SHA-256(JCS(event without "hash")))`. Written out member by member: verification does it a million times. */
export function hashOf(event: ChainedEvent): string {
  return sha256Hex(
    `{"action":${text(event.action)},"actor":${text(event.actor)},"details":${canonicalJson(event.details)},` +
      `"eventId":${text(event.eventId)},"ip":${text(event.ip)},"occurredAt":${text(event.occurredAt)},` +
      `"organizationId":${text(event.organizationId)},"outcome":${text(event.outcome)},` +
      `"previousHash":${text(event.previousHash)},"sequence":${event.sequence},` +
      `"target":{"id":${text(event.target.id)},"type":${text(event.target.type)}},` +
      `"userAgent":${text(event.userAgent)}}`,
  );
}

/** The `previousHash` of an organization's first event. */
export function genesisHash(organizationId: string): string {
  return sha256Hex(organizationId);
}

/** The canonical form of a JSON value, RFC 8785. */
export function canonicalJson(value: unknown): string {
  const json = canonicalize(value);
  if (json === undefined) throw new Error('an audit event has a member that JSON cannot carry');
  return json;
}

/** Whether JSON.stringify gives the canonical form: flat, members in order, nothing but ASCII. Most events are. */
function isCanonicalAsItStands(details: NewAuditEvent['details']): boolean {
  let before = '';
  for (const name in details) {
    const value = details[name];
    if (name <= before || !PLAIN.test(name)) return false;
    if (typeof value === 'string' ? !PLAIN.test(value) : !Number.isSafeInteger(value)) return false;
    before = name;
  }
  return true;
}

/** A string or null in canonical form: JSON.stringify escapes well-formed strings as RFC 8785 §3.2.2.2 asks. */
function text(value: string | null): string {
  return JSON.stringify(value);
}

function sha256Hex(value: string): string {
  return hash('sha256', value, 'hex');
}

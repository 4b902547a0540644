import type { RequestOrigin } from './principal.js';

/** Every act that the audit log knows, declared once. */
export const AUDIT_ACTIONS = [
  'token.issued',
  'token.refused',
  'token.revoked',
  'agent.created',
  'agent.updated',
  'agent.suspended',
  'agent.reactivated',
  'agent.decommissioned',
  'agent.tokens_revoked',
  'credential.created',
  'credential.rotated',
  'credential.revoked',
  'credential.tokens_revoked',
  'resource.created',
  'resource.updated',
  'resource.deleted',
  'organization.created',
  'organization.updated',
  'organization.suspended',
  'organization.reactivated',
  'organization.restored',
  'organization.tokens_revoked',
  'federation.partner_created',
  'federation.partner_updated',
  'federation.partner_deleted',
  'federation.tokens_revoked',
  'webhook.created',
  'webhook.updated',
  'webhook.deleted',
  'webhook.secret_rotated',
  'webhook.disabled',
  'quota.threshold',
  'key.created',
  'key.rotated',
  'key.revoked',
] as const;

/** The name of an act in the audit log. */
export type AuditAction = (typeof AUDIT_ACTIONS)[number];

/** The acts that may be recorded as failures. */
export const FAILING_ACTIONS: readonly AuditAction[] = ['token.refused'];

/** How an act ended. */
export const AUDIT_OUTCOMES = ['success', 'failure'] as const;

/** How an act ended. */
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/** A value of an event's details: JSON without floating-point numbers, so that every language renders it alike. */
export type AuditDetail =
  string | number | boolean | null | readonly AuditDetail[] | { readonly [name: string]: AuditDetail };

/** What happened, before it has its place in the chain. Never a secret or a token in any member. */
export interface NewAuditEvent {
  readonly organizationId: string;
  readonly action: AuditAction;
  readonly outcome: AuditOutcome;
  /** The agent that acted; `null` where nobody authenticated did. */
  readonly actor: string | null;
  readonly target: { readonly type: string; readonly id: string };
  readonly origin: RequestOrigin;
  readonly details: Readonly<Record<string, AuditDetail>>;
}

/**
 * The built-in scopes, declared once: what routes require, what agents may be granted, what the metadata and the API
 * document list. Scope strings appear nowhere else as literals.
 */
export const BUILT_IN_SCOPES = {
  'agents:read': 'Read agent identity records',
  'agents:write': 'Create, update, and decommission agents',
  'tokens:read': 'Introspect tokens',
  'audit:read': 'Query audit logs and verify audit chain integrity',
  'webhooks:read': 'List webhook subscriptions and delivery history',
  'webhooks:write': 'Create, update, and delete webhook subscriptions',
  'resources:read': 'List resource servers and their scopes',
  'resources:write': 'Create, update, and delete resource servers and their scopes',
  'admin:orgs': 'Manage organizations and federation partners',
} as const satisfies Record<string, string>;

/** The name of a built-in scope. */
export type BuiltInScope = keyof typeof BUILT_IN_SCOPES;

/** All built-in scope names, in the order in which they are declared. */
export const BUILT_IN_SCOPE_NAMES = Object.keys(BUILT_IN_SCOPES) as readonly BuiltInScope[];

/** The scope of the platform operator. */
export const OPERATOR_SCOPE: BuiltInScope = 'admin:orgs';

/** A scope-token of RFC 6749 §3.3: printable ASCII without space, double quote and backslash. */
export const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

/** The longest scope name that is accepted, in characters. */
export const MAX_SCOPE_LENGTH = 128;

/** Whether `scope` is one of the product's own. */
export function isBuiltInScope(scope: string): scope is BuiltInScope {
  return Object.hasOwn(BUILT_IN_SCOPES, scope);
}

import type { Principal } from './principal.js';
import { problems, type Problem } from './problem.js';
import { BUILT_IN_SCOPE_NAMES, isBuiltInScope } from './scopes.js';

/**
 * Refuses a caller that lacks one of the built-in scopes among `scopes`: nobody grants what they do not hold, and nobody
 * manages an agent that is stronger.
 *
 * @throws Problem `insufficient_scope` that names what is missing
 */
export function requireBuiltInScopes(principal: Principal, scopes: readonly string[]): void {
  const missing = scopes.filter((scope) => isBuiltInScope(scope) && !principal.scopes.has(scope));
  if (missing.length > 0) throw insufficientScope(missing);
}

/** How many scopes a refusal names: all built-in ones, and no more than fit into the header that clients take. */
const MAX_NAMED_SCOPES = 16;

/** The refusal of RFC 6750 §3.1 that names the scopes a token lacks. */
export function insufficientScope(scopes: readonly string[]): Problem {
  const named = scopes.slice(0, MAX_NAMED_SCOPES).join(' ');
  return problems.insufficientScope
    .withDetail(`This takes an access token with the scope ${named}.`)
    .withHeaders({ 'WWW-Authenticate': `Bearer error="insufficient_scope", scope="${named}"` });
}

/** Whether an agent with `scopes` is a platform operator in full: it holds every built-in scope. */
export function holdsAllBuiltInScopes(scopes: readonly string[]): boolean {
  return BUILT_IN_SCOPE_NAMES.every((scope) => scopes.includes(scope));
}

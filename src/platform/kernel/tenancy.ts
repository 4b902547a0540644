import { isOperator, type Principal } from './principal.js';
import { problems } from './problem.js';

/**
 * The organization that a request is about: the caller's own, or the one that it names, which only the operator may do.
 *
 * @param named the `organizationId` of the body or the query, where the caller gave one
 * @throws Problem `insufficient_scope` where anybody else names a foreign one
 */
export function organizationFor(principal: Principal, named: string | undefined): string {
  if (named === undefined || named.toLowerCase() === principal.organizationId) return principal.organizationId;
  if (isOperator(principal)) return named.toLowerCase();
  throw problems.insufficientScope.withDetail('Only the platform operator may name another organization.');
}

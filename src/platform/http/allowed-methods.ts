import type { FastifyInstance } from 'fastify';
import { problems, type Problem } from '../kernel/problem.js';
import { pathOf } from './oauth-path.js';

interface ParameterizedRoute {
  readonly pattern: RegExp;
  readonly methods: Set<string>;
}

/** Knows which methods each path has, so that a wrong method is told apart from an unknown path (RFC 9110 §15.5.6). */
export class AllowedMethods {
  private readonly plain = new Map<string, Set<string>>();
  private readonly parameterized = new Map<string, ParameterizedRoute>();

  /**
   * Starts to collect the routes of `fastify`; routes that were registered before are not known.
   *
   * @param fastify the root instance
   */
  constructor(fastify: FastifyInstance) {
    fastify.addHook('onRoute', ({ url, method }) => {
      const methods = this.methodsOf(url);
      for (const name of typeof method === 'string' ? [method] : method) methods.add(name);
    });
  }

  /**
   * The error for a request that no route took.
   *
   * @param url the request target as received
   * @returns `method_not_allowed` with an `Allow` header, or `not_found`
   */
  refusalFor(url: string): Problem {
    const methods = this.allowed(pathOf(url));
    if (methods.length === 0) return problems.notFound;
    return problems.methodNotAllowed.withHeaders({ Allow: methods.join(', ') });
  }

  private allowed(path: string): string[] {
    const methods = new Set(this.plain.get(path));
    for (const route of this.parameterized.values()) {
      if (route.pattern.test(path)) for (const method of route.methods) methods.add(method);
    }
    return [...methods].sort();
  }

  private methodsOf(url: string): Set<string> {
    const plain = !url.includes(':') && !url.includes('*');
    const known = plain ? this.plain.get(url) : this.parameterized.get(url)?.methods;
    if (known !== undefined) return known;
    const methods = new Set<string>();
    if (plain) this.plain.set(url, methods);
    else this.parameterized.set(url, { pattern: patternOf(url), methods });
    return methods;
  }
}

/** The paths that a route with parameters takes: each parameter is one non-empty segment, `*` is any rest. */
function patternOf(url: string): RegExp {
  const segments = url.split('/').map((segment) => {
    if (segment.startsWith(':')) return '[^/]+';
    return segment.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  });
  // eslint-disable-next-line security/detect-non-literal-regexp -- of the routes in the code, letters escaped
  return new RegExp(`^${segments.join('/')}$`);
}

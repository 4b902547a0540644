import { Injectable } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import type { AccessTokenClaims } from './access-token-claims.js';
import { TokenState, type ActiveToken } from './token-state.js';

/** The path whose requests name a token to look up beside the caller's own. */
const INTROSPECTION_PATH = '/api/v1/token/introspect';

/**
 * Looks up the target of an introspection while its caller is looked up, so that both share one query. Whether the
 * caller may see the answer is decided before the answer is read.
 */
@Injectable()
export class Introspections {
  private readonly begun = new WeakMap<FastifyRequest, Promise<ActiveToken | null>>();

  constructor(private readonly state: TokenState) {}

  /** The caller's token where it is active, else null; begins the lookup of the target with the caller's. */
  caller(request: FastifyRequest, token: string, target: string | undefined): Promise<ActiveToken | null> {
    if (target === undefined || request.routeOptions.url !== INTROSPECTION_PATH) return this.state.active(token);
    const [caller, lookup] = this.state.bothActive(token, target);
    // Where the caller is refused nobody reads the answer, and its failure is nobody's.
    lookup.catch(() => undefined);
    this.begun.set(request, lookup);
    return caller;
  }

  /** The claims of the target where it is active, else null. */
  async target(request: FastifyRequest, token: string): Promise<AccessTokenClaims | null> {
    return (await (this.begun.get(request) ?? this.state.active(token)))?.claims ?? null;
  }
}

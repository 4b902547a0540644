import type { FastifyRequest } from 'fastify';
import type { Client } from '../platform/kernel/client.js';

/** One way in which a client can authenticate itself (RFC 6749 §2.3). */
export interface ClientAuthenticationStrategy {
  /**
   * @returns the client, or null where the request does not use this way
   * @throws OAuthError where it does, and the client is not the one that it says
   */
  validate(request: FastifyRequest): Promise<Client | null>;
}

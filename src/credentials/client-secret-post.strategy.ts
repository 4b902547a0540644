import { Injectable } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { formOf } from '../platform/http/oauth-form.js';
import { originOf } from '../platform/kernel/access.js';
import type { Client } from '../platform/kernel/client.js';
import type { ClientAuthenticationStrategy } from './client-authentication-strategy.js';
import { ClientAuthenticator } from './client-authenticator.js';

/** As RFC 7591 §2 calls the method. */
const CLIENT_SECRET_POST = 'client_secret_post';

/** `client_secret_post`: id and secret in the body (RFC 6749 §2.3.1). */
@Injectable()
export class ClientSecretPostStrategy implements ClientAuthenticationStrategy {
  constructor(private readonly authenticator: ClientAuthenticator) {}

  /**
   * @returns the client, or null where the body has no `client_id` and `client_secret`
   * @throws OAuthError `invalid_client`
   */
  async validate(request: FastifyRequest): Promise<Client | null> {
    const form = formOf(request);
    const clientId = form.get('client_id');
    const secret = form.get('client_secret');
    if (clientId === undefined || secret === undefined) return null;
    return this.authenticator.authenticate({ clientId, secret, method: CLIENT_SECRET_POST }, originOf(request));
  }
}

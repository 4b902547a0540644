import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { FastifyRequest } from 'fastify';
import { Strategy } from 'passport-custom';
import { formOf } from '../platform/http/oauth-form.js';
import { originOf } from '../platform/kernel/access.js';
import type { Client } from '../platform/kernel/client.js';
import { ClientAuthenticator } from './client-authenticator.js';

/** The name of the strategy, as RFC 7591 §2 calls the method. */
export const CLIENT_SECRET_POST = 'client_secret_post';

/** `client_secret_post`: id and secret in the body (RFC 6749 §2.3.1). */
@Injectable()
export class ClientSecretPostStrategy extends PassportStrategy(Strategy, CLIENT_SECRET_POST) {
  constructor(private readonly authenticator: ClientAuthenticator) {
    super();
  }

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

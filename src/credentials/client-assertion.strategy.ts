import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { FastifyRequest } from 'fastify';
import { Strategy } from 'passport-custom';
import { formOf } from '../platform/http/oauth-form.js';
import { originOf } from '../platform/kernel/access.js';
import type { Client } from '../platform/kernel/client.js';
import { oauthErrors } from '../platform/kernel/oauth-error.js';
import { AssertionAuthenticator } from './assertion-authenticator.js';

/** The name of the strategy. */
export const CLIENT_ASSERTION = 'client_assertion';

/** The one type of assertion that is taken, RFC 7523 §2.2. */
const JWT_BEARER = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** Client authentication by a JWT: `private_key_jwt` and partners' assertions (RFC 7521 §4.2, RFC 7523 §2.2). */
@Injectable()
export class ClientAssertionStrategy extends PassportStrategy(Strategy, CLIENT_ASSERTION) {
  constructor(private readonly authenticator: AssertionAuthenticator) {
    super();
  }

  /**
   * @returns the client, or null where the body has no `client_assertion`
   * @throws OAuthError `invalid_client`
   */
  async validate(request: FastifyRequest): Promise<Client | null> {
    const form = formOf(request);
    const assertion = form.get('client_assertion');
    if (assertion === undefined) return null;
    if (form.get('client_assertion_type') !== JWT_BEARER) {
      throw oauthErrors.invalidClient.withPrivateDetail('unknown client_assertion_type');
    }
    return this.authenticator.authenticate({ clientId: form.get('client_id'), assertion }, originOf(request));
  }
}

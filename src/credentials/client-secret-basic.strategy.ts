import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import type { FastifyRequest } from 'fastify';
import { Strategy } from 'passport-custom';
import { formOf } from '../platform/http/oauth-form.js';
import { originOf } from '../platform/kernel/access.js';
import type { Client } from '../platform/kernel/client.js';
import { OAuthError, oauthErrors } from '../platform/kernel/oauth-error.js';
import { ClientAuthenticator } from './client-authenticator.js';

/** The name of the strategy, as RFC 7591 §2 calls the method. */
export const CLIENT_SECRET_BASIC = 'client_secret_basic';

const SCHEME = /^basic(?: +|$)/i;
const CHALLENGE = { 'WWW-Authenticate': 'Basic realm="SentryAgent AgentIdP", charset="UTF-8"' };

/** `client_secret_basic`: id and secret, each form-encoded, in an HTTP Basic header (RFC 6749 §2.3.1). */
@Injectable()
export class ClientSecretBasicStrategy extends PassportStrategy(Strategy, CLIENT_SECRET_BASIC) {
  constructor(private readonly authenticator: ClientAuthenticator) {
    super();
  }

  /**
   * @returns the client, or null where the request has no Basic header
   * @throws OAuthError `invalid_client` with a challenge (RFC 6749 §5.2), `invalid_request` where the body names another
   *   client
   */
  async validate(request: FastifyRequest): Promise<Client | null> {
    if (!usesBasic(request)) return null;
    const credentials = parseBasic(request.headers.authorization ?? '');
    if (credentials === null) {
      throw oauthErrors.invalidClient.withHeaders(CHALLENGE).withPrivateDetail('malformed Basic header');
    }
    const named = formOf(request).get('client_id');
    if (named !== undefined && named !== credentials.clientId) {
      throw oauthErrors.invalidRequest.withDescription('client_id disagrees with the Authorization header.');
    }
    try {
      return await this.authenticator.authenticate({ ...credentials, method: CLIENT_SECRET_BASIC }, originOf(request));
    } catch (error) {
      throw error instanceof OAuthError && error.error === 'invalid_client' ? error.withHeaders(CHALLENGE) : error;
    }
  }
}

/** Whether a request carries a Basic header. */
export function usesBasic(request: FastifyRequest): boolean {
  return SCHEME.test(request.headers.authorization ?? '');
}

function parseBasic(header: string): { clientId: string; secret: string } | null {
  const encoded = header.replace(SCHEME, '').trim();
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(encoded)) return null;
  const decoded = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon === -1) return null;
  const clientId = formDecode(decoded.slice(0, colon));
  const secret = formDecode(decoded.slice(colon + 1));
  return clientId === null || secret === null ? null : { clientId, secret };
}

function formDecode(text: string): string | null {
  try {
    const decoded = decodeURIComponent(text.replaceAll('+', ' '));
    return decoded.includes('\0') ? null : decoded;
  } catch {
    return null;
  }
}

import { describe, expect, it } from '@jest/globals';
import { OAuthError, oauthErrors } from './oauth-error.js';

const original = new OAuthError(400, 'invalid_request', 'Public.', {
  headers: { 'X-A': '1' },
  privateDetail: 'private',
});
const state = ({ status, error, description, privateDetail, headers, message }: OAuthError): unknown => ({
  status,
  error,
  description,
  privateDetail,
  headers,
  message,
});

describe('an OAuth error', () => {
  it('is an Error with its code and its description as message', () => {
    expect(original).toBeInstanceOf(Error);
    expect([original.name, original.message, original.status, original.error]).toEqual([
      'OAuthError',
      'Public.',
      400,
      'invalid_request',
    ]);
  });

  it.each<[string, (error: OAuthError) => OAuthError, object]>([
    ['description', (error) => error.withDescription('Other.'), { description: 'Other.', message: 'Other.' }],
    ['private detail', (error) => error.withPrivateDetail('secret'), { privateDetail: 'secret' }],
    ['headers', (error) => error.withHeaders({ 'X-B': '2' }), { headers: { 'X-A': '1', 'X-B': '2' } }],
    ['a header anew', (error) => error.withHeaders({ 'X-A': '9' }), { headers: { 'X-A': '9' } }],
  ])('gives a copy with another %s, keeps the rest, and stays as it is', (_what, change, changed) => {
    const before = state(original);
    const copy = change(original);
    expect(copy).not.toBe(original);
    expect(copy).toBeInstanceOf(OAuthError);
    expect(state(copy)).toEqual({ ...(before as object), ...changed });
    expect(state(original)).toEqual(before);
  });

  it('answers code and description, and never the private detail', () => {
    const body = original.withPrivateDetail('the secret cause').toBody();
    expect(body).toEqual({ error: 'invalid_request', error_description: 'Public.' });
    expect(JSON.stringify(body)).not.toContain('secret');
  });
});

describe('the catalogue of OAuth errors', () => {
  it.each(Object.entries(oauthErrors))(
    'has %s with a 4xx or 5xx status and a description of allowed characters',
    (_name, error) => {
      expect(error.status).toBeGreaterThanOrEqual(400);
      expect(error.status).toBeLessThan(600);
      // RFC 6749 §5.2.
      expect(error.description).toMatch(/^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
      expect(error.privateDetail).toBeUndefined();
    },
  );

  it('has the texts of the guide, letter by letter', () => {
    expect(oauthErrors.invalidClient.toBody()).toEqual({
      error: 'invalid_client',
      error_description: 'Client authentication failed. Invalid client_id or client_secret.',
    });
    expect(oauthErrors.agentSuspended.toBody()).toEqual({
      error: 'unauthorized_client',
      error_description: 'Agent is currently suspended and cannot obtain tokens.',
    });
    expect(oauthErrors.unsupportedGrantType.toBody()).toEqual({
      error: 'unsupported_grant_type',
      error_description: "Only 'client_credentials' grant type is supported.",
    });
  });

  it('says when to come again where the service is not available', () => {
    expect(Number(oauthErrors.temporarilyUnavailable.headers['Retry-After'])).toBeGreaterThan(0);
  });
});

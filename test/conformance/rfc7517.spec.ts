import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { KeyRotationService } from '../../src/keys/key-rotation.service.js';
import { headerOf } from '../support/forge.js';
import { publishedLongAgo } from '../support/signing-keys.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** A key of the set; what signs checkpoints says so. */
type PublishedJwk = JWK & { readonly purpose?: string };

const JWKS = '/.well-known/jwks.json';
const PUBLIC_MEMBERS: Record<string, string[]> = {
  RSA: ['alg', 'e', 'kid', 'kty', 'n', 'use'],
  EC: ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'],
  OKP: ['alg', 'crv', 'kid', 'kty', 'use', 'x'],
};

describe('RFC 7517, the JSON Web Key Set', () => {
  let service: TestApp;

  beforeAll(async () => {
    service = await startTestApp();
    // Replicas that were started with other algorithms: each publishes a key, which signs once everybody has it.
    for (const SIGNING_ALG of ['PS256', 'ES256', 'EdDSA', 'RS256']) {
      const other = await startTestApp({ database: service.database, env: { SIGNING_ALG } });
      await publishedLongAgo(service.database);
      await other.app.get(KeyRotationService).advance();
      await other.close();
    }
  });
  afterAll(() => service.close());

  const keys = async () => (await service.api.send<{ keys: PublishedJwk[] }>('GET', JWKS)).body.keys;

  it('§5 is a JSON object with the member keys, public, cached for five minutes', async () => {
    const { status, headers, body } = await service.api.send('GET', JWKS);
    expect(status).toBe(200);
    expect(headers.get('content-type')).toMatch(/^application\/json\b/);
    expect(headers.get('cache-control')).toBe('public, max-age=300');
    expect(Object.keys(body)).toEqual(['keys']);
  });

  it('§4 shows public members only, of every kind of key', async () => {
    const all = await keys();
    expect([...new Set(all.map(({ kty }) => kty ?? ''))].sort()).toEqual(['EC', 'OKP', 'RSA']);
    for (const { purpose, ...key } of all) {
      // §4: further members may stand in a key. What signs checkpoints says so.
      expect([undefined, 'audit']).toContain(purpose);
      expect(Object.keys(key).sort()).toEqual(PUBLIC_MEMBERS[key.kty ?? '']);
    }
  });

  it('§4.2 and §4.4 say that a key is for signatures, and of which algorithm', async () => {
    const all = await keys();
    expect(all.every(({ use }) => use === 'sig')).toBe(true);
    const algorithmsFor = (wanted: unknown) => all.filter(({ purpose }) => purpose === wanted).map(({ alg }) => alg);
    // The last one is published ahead.
    expect(algorithmsFor(undefined)).toEqual(['RS256', 'PS256', 'ES256', 'EdDSA', 'RS256', 'RS256']);
    expect(algorithmsFor('audit')).toEqual(['ES256', 'ES256']);
  });

  it('§4.5 gives every key a kid of its own: its thumbprint', async () => {
    const all = await keys();
    expect(new Set(all.map(({ kid }) => kid)).size).toBe(all.length);
    for (const key of all) expect(key.kid).toBe(await calculateJwkThumbprint(key));
  });

  it('§4.5 has the key that a token names', async () => {
    const { kid } = headerOf(await service.api.token(service.operator));
    expect((await keys()).filter((key) => key.kid === kid)).toHaveLength(1);
  });

  it('§9.2 has RSA keys of at least 2048 bits', async () => {
    for (const { n } of (await keys()).filter(({ kty }) => kty === 'RSA')) {
      expect(Buffer.from(n ?? '', 'base64url').length * 8).toBeGreaterThanOrEqual(2048);
    }
  });

  it('§5 is cached for as long as JWKS_MAX_AGE_SECONDS says', async () => {
    const own = await startTestApp({ database: service.database, env: { JWKS_MAX_AGE_SECONDS: '60' } });
    try {
      expect((await own.api.send('GET', JWKS)).headers.get('cache-control')).toBe('public, max-age=60');
    } finally {
      await own.close();
    }
  });
});

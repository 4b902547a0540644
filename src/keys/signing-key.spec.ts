import { describe, expect, it } from '@jest/globals';
import { calculateJwkThumbprint, compactVerify, CompactSign, importJWK } from 'jose';
import type { SigningAlgorithm } from '../platform/config/config.js';
import { exportPrivateKey, generateSigningKey, parseSigningKey } from './signing-key.js';

const ALGORITHMS: [SigningAlgorithm, object][] = [
  ['RS256', { kty: 'RSA', e: 'AQAB' }],
  ['PS256', { kty: 'RSA', e: 'AQAB' }],
  ['ES256', { kty: 'EC', crv: 'P-256' }],
  ['EdDSA', { kty: 'OKP', crv: 'Ed25519' }],
];

describe.each(ALGORITHMS)('a signing key for %s', (algorithm, kind) => {
  it('is published with kid, use and alg, and without its private half', async () => {
    const { kid, publicJwk } = await generateSigningKey(algorithm);
    expect(publicJwk).toMatchObject({ ...kind, kid, use: 'sig', alg: algorithm });
    expect(kid).toBe(await calculateJwkThumbprint(publicJwk));
    for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) expect(publicJwk).not.toHaveProperty(secret);
  });

  it('comes back from storage as the same pair', async () => {
    const made = await generateSigningKey(algorithm);
    const stored = JSON.parse(JSON.stringify(made.publicJwk)) as typeof made.publicJwk;
    const parsed = parseSigningKey(stored, exportPrivateKey(made));
    expect([parsed.kid, parsed.algorithm, parsed.publicJwk]).toEqual([made.kid, algorithm, made.publicJwk]);
    const jws = await new CompactSign(Buffer.from('payload'))
      .setProtectedHeader({ alg: algorithm })
      .sign(parsed.privateKey);
    const { payload } = await compactVerify(jws, await importJWK(made.publicJwk));
    expect(Buffer.from(payload).toString()).toBe('payload');
    await compactVerify(jws, parsed.publicKey);
  });

  it('is another each time', async () => {
    const [one, other] = await Promise.all([generateSigningKey(algorithm), generateSigningKey(algorithm)]);
    expect(one.kid).not.toBe(other.kid);
  });
});

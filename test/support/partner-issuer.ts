import { generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { jws, rs256, type Signature } from './forge.js';

type Json = Record<string, unknown>;

/** A key pair that signs assertions. */
export interface AssertionKey {
  readonly alg: 'RS256' | 'ES256' | 'ES384' | 'EdDSA';
  readonly kid: string;
  readonly privateKey: KeyObject;
  /** With `kid`, `alg` and `use`. */
  readonly jwk: Readonly<Record<string, string>>;
}

/** Makes a key pair. */
export function assertionKey(alg: AssertionKey['alg'] = 'ES256', kid: string = randomUUID()): AssertionKey {
  const { privateKey, publicKey } = pairFor(alg);
  return { alg, kid, privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' } };
}

/** Signs claims as a JWT; members of the header may be others. */
export function assertion(key: AssertionKey, claims: object, header: object = {}): string {
  return jws({ alg: key.alg, kid: key.kid, typ: 'JWT', ...header }, claims, signatureOf(key));
}

/** What signs with a key. */
export function signatureOf({ alg, privateKey }: AssertionKey): Signature {
  if (alg === 'RS256') return rs256(privateKey);
  if (alg === 'EdDSA') return (input) => sign(null, Buffer.from(input), privateKey);
  const digest = alg === 'ES256' ? 'sha256' : 'sha384';
  return (input) => sign(digest, Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
}

/** Where issuers have listened. */
const PORTS = new Set<number>();

/** An issuer of our own, on a real port: discovery document, keys, and every call that it gets. */
export class PartnerIssuer {
  /** The paths that were asked for. */
  readonly calls: string[] = [];
  /** The keys that are published. */
  keys: AssertionKey[];
  /** Header fields of the keys' document. */
  headers: Record<string, string> = {};
  /** What else it answers, by path. */
  readonly routes: Record<string, RequestListener> = {};
  /** Answers in the place of the issuer. */
  answering: RequestListener | null = null;
  private listensOn = 0;

  private constructor(
    private readonly server: Server,
    alg: AssertionKey['alg'],
    private readonly path: string,
  ) {
    this.keys = [assertionKey(alg)];
  }

  /**
   * Starts an issuer on a free port that no issuer of this file had: the system gives ports again, and an organization
   * that trusts the earlier issuer would take the new one for it.
   *
   * @param path the issuer's own, where it has one
   */
  static async start(alg: AssertionKey['alg'] = 'ES256', path = ''): Promise<PartnerIssuer> {
    for (;;) {
      const issuer = await PartnerIssuer.listen(alg, path);
      if (!PORTS.has(issuer.listensOn)) {
        PORTS.add(issuer.listensOn);
        return issuer;
      }
      await issuer.close();
    }
  }

  private static async listen(alg: AssertionKey['alg'], path: string): Promise<PartnerIssuer> {
    const server = createServer((request, response) => {
      issuer.calls.push(request.url ?? '');
      if (issuer.answering !== null) return issuer.answering(request, response);
      const route = issuer.routes[(request.url ?? '').split('?')[0] ?? ''];
      if (route !== undefined) return route(request, response);
      const documents: Record<string, Json> = {
        [`${path}/.well-known/openid-configuration`]: issuer.discovery(),
        '/keys': { keys: issuer.keys.map(({ jwk }) => jwk) },
      };
      const document = documents[request.url ?? ''];
      response.writeHead(document === undefined ? 404 : 200, { 'content-type': 'application/json', ...issuer.headers });
      response.end(JSON.stringify(document ?? {}));
    });
    const issuer = new PartnerIssuer(server, alg, path);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    issuer.listensOn = (server.address() as AddressInfo).port;
    return issuer;
  }

  /** Its identifier, the `iss` of its assertions. */
  get url(): string {
    return `http://127.0.0.1:${this.listensOn}${this.path}`;
  }

  get jwksUri(): string {
    return `http://127.0.0.1:${this.listensOn}/keys`;
  }

  discovery(): Json {
    return { issuer: this.url, jwks_uri: this.jwksUri };
  }

  /** An assertion that its newest key signed. */
  mint(claims: object, header: object = {}): string {
    const key = this.keys.at(-1);
    if (key === undefined) throw new Error('the issuer has no key');
    return assertion(key, { iss: this.url, ...claims }, header);
  }

  /** Stops listening and ends every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}

function pairFor(alg: AssertionKey['alg']): { privateKey: KeyObject; publicKey: KeyObject } {
  switch (alg) {
    case 'RS256':
      return generateKeyPairSync('rsa', { modulusLength: 2048 });
    case 'ES256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' });
    case 'ES384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' });
    case 'EdDSA':
      return generateKeyPairSync('ed25519');
  }
}

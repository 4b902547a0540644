import type { IncomingMessage, ServerResponse } from 'node:http';
import { githubActionsClaims, kubernetesClaims, spiffeClaims } from '../support/partner-claims.js';
import { PartnerIssuer } from '../support/partner-issuer.js';
import type { TestApp } from '../support/test-app.js';
import type { Program } from './shell.js';

const CLUSTER = 'https://kubernetes.default.svc.cluster.local';
const PROJECTED = '/var/run/secrets/agentidp/token';

/**
 * What stands for GitHub, a cluster or SPIRE in the guides: an issuer of our own that mints tokens with exactly the
 * claims that theirs have, and the programs that hand them out.
 */
export class Platform {
  /**
   * @param name the issuer as the guide names it
   * @param variables what the platform has set in the environment of a workload
   */
  constructor(
    private readonly issuer: PartnerIssuer,
    private readonly name: string,
    readonly variables: ReadonlyMap<string, string> = new Map(),
    readonly programs: Readonly<Record<string, Program>> = {},
  ) {}

  /** A text of the guide with the issuer where it really is. */
  actual(text: string): string {
    return text.replaceAll(this.name, this.issuer.url);
  }

  close(): Promise<void> {
    return this.issuer.close();
  }
}

const PLATFORMS: Readonly<Record<string, (service: TestApp) => Promise<Platform>>> = {
  'docs/github-actions.md': githubActions,
  'docs/kubernetes.md': kubernetes,
  'docs/spiffe.md': spire,
};

/** The platform of a document; null where it needs none. */
export async function platformOf(file: string, service: TestApp): Promise<Platform | null> {
  return (await PLATFORMS[file]?.(service)) ?? null;
}

async function githubActions({ clock }: TestApp): Promise<Platform> {
  const issuer = await PartnerIssuer.start('RS256');
  const bearer = 'a-token-of-the-runner';
  issuer.routes['/idtoken'] = (request: IncomingMessage, response: ServerResponse) => {
    const audience = new URL(request.url ?? '', issuer.url).searchParams.get('audience') ?? '';
    if (request.headers.authorization !== `Bearer ${bearer}`) return response.writeHead(401).end();
    const value = issuer.mint(githubActionsClaims(audience, clock.nowSeconds()), { x5t: issuer.keys[0]?.kid });
    return response.end(JSON.stringify({ count: value.length, value }));
  };
  const variables = new Map([
    ['ACTIONS_ID_TOKEN_REQUEST_URL', `${issuer.url}/idtoken?api-version=2.0`],
    ['ACTIONS_ID_TOKEN_REQUEST_TOKEN', bearer],
  ]);
  return new Platform(issuer, 'https://token.actions.githubusercontent.com', variables);
}

async function kubernetes({ clock, issuer: audience }: TestApp): Promise<Platform> {
  const issuer = await PartnerIssuer.start('RS256');
  const kubectl: Program = ([get, raw, path]) => {
    if (get !== 'get' || raw !== '--raw') throw new Error('kubectl is not understood');
    if (path === '/openid/v1/jwks') return JSON.stringify({ keys: issuer.keys.map(({ jwk }) => jwk) });
    if (path !== '/.well-known/openid-configuration') throw new Error(`kubectl knows no ${path ?? ''}`);
    return JSON.stringify({ issuer: CLUSTER, jwks_uri: 'https://10.0.0.1:6443/openid/v1/jwks' });
  };
  const cat: Program = ([path]) => {
    if (path !== PROJECTED) throw new Error(`there is no ${path ?? ''}`);
    const claims = { iss: CLUSTER, ...kubernetesClaims(audience, clock.nowSeconds()) };
    return issuer.mint(claims, { typ: undefined });
  };
  return new Platform(issuer, issuer.url, new Map(), { kubectl, cat });
}

async function spire({ clock }: TestApp): Promise<Platform> {
  const issuer = await PartnerIssuer.start('ES256');
  const agent: Program = (args) => {
    const [api, fetch, jwt, flag, audience = '', output, json] = args;
    if ([api, fetch, jwt, flag, output, json].join(' ') !== 'api fetch jwt -audience -output json') {
      throw new Error('spire-agent is not understood');
    }
    const claims = spiffeClaims(audience, clock.nowSeconds());
    const svid = { hint: '', spiffe_id: claims['sub'], svid: issuer.mint(claims) };
    return JSON.stringify([{ svids: [svid] }, { bundles: {} }]);
  };
  return new Platform(issuer, 'https://oidc.example.org', new Map(), { 'spire-agent': agent });
}

import { expect } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { claimsOf, type Answer, type Api, type ClientCredentials } from '../support/api.js';
import { assertion, assertionKey, type AssertionKey } from '../support/partner-issuer.js';
import type { Receiver } from '../support/receiver.js';
import { until } from '../support/until.js';

type Json = Record<string, unknown>;

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const PARTNER = 'https://ci.example';
const SUBJECT = 'project:payments';
/** What an act that is no change may alter in a view. */
const VOLATILE = ['lastUsedAt'];

/** Something that was true of what a version wrote, and has to stay true. */
interface Fact {
  readonly what: string;
  readonly holds: (api: Api, caller: string) => Promise<void>;
}

/**
 * One of everything that an installation may hold, made over the API of an earlier version, with what has to hold of it
 * for as long as its tokens live, on whichever version.
 */
export class Inventory {
  private readonly facts: Fact[] = [];

  private constructor(
    private readonly api: Api,
    private readonly issuer: string,
    /** Issued before the upgrade, to an operator that is never touched. */
    private readonly caller: string,
  ) {}

  /**
   * Makes everything that the version at `api` has.
   *
   * @param issuer its `iss`, to which assertions are addressed
   * @param receiver where webhooks go
   */
  static async fill(api: Api, operator: ClientCredentials, issuer: string, receiver: Receiver): Promise<Inventory> {
    const inventory = new Inventory(api, issuer, await api.token(operator));
    await inventory.addAgents();
    await inventory.addOrganizations();
    await inventory.addResources();
    const { text: document } = await api.send('GET', '/api/openapi.json');
    if (document.includes('/federation/partners')) await inventory.addAssertions();
    if (document.includes('/webhooks')) await inventory.addWebhook(receiver);
    return inventory;
  }

  /** What was made, for a test that wants to be sure of it. */
  get size(): number {
    return this.facts.length;
  }

  /** Expects everything to hold at a replica, asked with a token from before the upgrade. */
  async check(api: Api): Promise<void> {
    for (const { what, holds } of this.facts) {
      await holds(api, this.caller).catch((error: unknown) => {
        throw new Error(`no longer holds: ${what}`, { cause: error });
      });
    }
  }

  private fact(what: string, holds: Fact['holds']): void {
    this.facts.push({ what, holds });
  }

  private async made(path: string, body?: unknown, method = 'POST'): Promise<Json> {
    const answer = await this.api.call(method, path, this.caller, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.body;
  }

  /** What a view shows, it shows again. */
  private async keeps(path: string): Promise<void> {
    const before = stable(await this.made(path, undefined, 'GET'));
    this.fact(`GET ${path}`, async (api, caller) => {
      const { status, body } = await api.call('GET', path, caller);
      expect([status, stable(body)]).toMatchObject([200, before]);
    });
  }

  private lives(what: string, token: string): void {
    this.fact(`${what} is active`, async (api, caller) => {
      expect(await api.introspect(caller, token)).toMatchObject({ active: true, jti: claimsOf(token)['jti'] });
    });
  }

  private dead(what: string, token: string): void {
    this.fact(`${what} is dead`, async (api, caller) => {
      expect(await api.introspect(caller, token)).toEqual({ active: false });
      expect((await api.call('GET', '/agents', token)).status).toBe(401);
    });
  }

  private earns(what: string, client: ClientCredentials, status = 200): void {
    this.fact(`${what} is answered with ${status}`, async (api) => {
      expect((await api.requestToken(client)).status).toBe(status);
    });
  }

  private async addAgents(): Promise<void> {
    const { api, caller } = this;
    const scopes = ['agents:read', 'tokens:read'];
    const agent = async (name: string) => {
      const made = await api.agent(caller, {
        name,
        scopes,
        labels: { team: 'ümlaut' },
        owner: 'ops',
        environment: 'staging',
      });
      return { ...made, token: await api.token(made) };
    };

    const working = await agent('works');
    this.lives('a token', working.token);
    this.earns('a secret', working);
    const oneByOne = await api.token(working);
    expect((await api.revoke(caller, oneByOne)).status).toBe(200);
    this.dead('a token that was revoked', oneByOne);
    await this.keeps(`/agents/${working.agentId}`);

    const suspended = await agent('is suspended');
    await this.made(`/agents/${suspended.agentId}/suspend`);
    this.dead('a token of a suspended agent', suspended.token);
    this.earns('a suspended agent', suspended, 403);

    const revoked = await agent('has no tokens left');
    await this.made(`/agents/${revoked.agentId}/revoke-tokens`);
    this.dead('a token of an agent whose tokens were revoked', revoked.token);
    this.earns('an agent whose tokens were revoked', revoked);
    this.lives('a token from after that', await api.token(revoked));

    const gone = await agent('is decommissioned');
    await this.made(`/agents/${gone.agentId}`, undefined, 'DELETE');
    this.dead('a token of a decommissioned agent', gone.token);
    this.earns('a decommissioned agent', gone, 401);

    const two = await agent('has two secrets');
    const second = await api.secret(caller, two.agentId, { name: 'second' });
    await this.made(`/agents/${two.agentId}/credentials/${two.credentialId}`, undefined, 'DELETE');
    this.dead('a token of a secret that was revoked', two.token);
    this.earns('a secret that was revoked', two, 401);
    this.earns('the other secret', { ...two, ...second });
    await this.keeps(`/agents/${two.agentId}/credentials`);

    const demoted = await agent('lost a scope');
    await this.made(`/agents/${demoted.agentId}`, { scopes: ['agents:read'] }, 'PATCH');
    this.dead('a token with a scope that was taken away', demoted.token);
  }

  private async addOrganizations(): Promise<void> {
    const { api, caller } = this;
    const organization = async (slug: string) => {
      const limits = { tokensPerMonth: 5 };
      const { organizationId } = await this.made('/organizations', { name: slug, slug, tier: 'pro', limits });
      const member = await api.agent(caller, { organizationId, scopes: ['agents:read'] });
      return { organizationId, member, token: await api.token(member) };
    };
    const tenant = await organization('tenant');
    for (let count = 1; count < 5; count += 1) await api.token(tenant.member);
    this.lives('a token of another organization', tenant.token);
    this.earns('an organization that has used up its tokens', tenant.member, 403);
    await this.keeps(`/organizations/${String(tenant.organizationId)}`);
    const closed = await organization('closed');
    await this.made(`/organizations/${String(closed.organizationId)}/suspend`);
    this.dead('a token of a suspended organization', closed.token);
    this.earns('a suspended organization', closed.member, 403);
  }

  private async addResources(): Promise<void> {
    const { api, caller } = this;
    const identifier = 'https://books.example';
    const scopes = [{ name: 'books:read', description: 'Read books' }];
    const { resourceId } = await this.made('/resources', { identifier, name: 'Books', scopes });
    const reads = await api.agent(caller, { scopes: ['books:read'] });
    const token = await api.token(reads, { scope: 'books:read' });
    this.lives('a token for a resource server', token);
    this.fact('the audience of a scope', async (replica) => {
      expect(claimsOf(await replica.token(reads, { scope: 'books:read' }))['aud']).toBe(claimsOf(token)['aud']);
    });
    await this.keeps(`/resources/${String(resourceId)}`);
  }

  private async addAssertions(): Promise<void> {
    const [key, lost, ci] = [assertionKey(), assertionKey(), assertionKey('RS256')];
    const { agentId } = await this.made('/agents', { name: 'proves itself by keys', scopes: ['agents:read'] });
    const path = `/agents/${String(agentId)}`;
    await this.made(`${path}/keys`, { jwk: key.jwk });
    const { credentialId } = await this.made(`${path}/keys`, { jwk: lost.jwk });
    await this.made(`${path}/keys/${String(credentialId)}`, undefined, 'DELETE');
    const { partnerId } = await this.made('/federation/partners', {
      name: 'CI',
      issuer: PARTNER,
      jwks: { keys: [ci.jwk] },
    });
    await this.made(`${path}/federated-identities`, { partnerId, subject: SUBJECT, claims: { protected: true } });
    const asked = (api: Api, by: AssertionKey, claims: Json): Promise<Answer> => {
      const now = Math.floor(Date.now() / 1000);
      const all = { aud: this.issuer, iat: now, exp: now + 60, jti: randomUUID(), ...claims };
      return api.form('/api/v1/token', {
        grant_type: 'client_credentials',
        client_id: String(agentId),
        client_assertion_type: ASSERTION_TYPE,
        client_assertion: assertion(by, all),
      });
    };
    const own = { iss: agentId, sub: agentId };
    const federated = { iss: PARTNER, sub: SUBJECT, protected: true };
    const { body } = await asked(this.api, ci, federated);
    this.lives('a token that a partner earned', String(body['access_token']));
    for (const [what, by, claims, status] of [
      ['a public key', key, own, 200],
      ['a public key that was revoked', lost, own, 401],
      ['a federated identity', ci, federated, 200],
      ['a federated identity without its claim', ci, { ...federated, protected: false }, 401],
    ] as const) {
      this.fact(`${what} is answered with ${status}`, async (api) => {
        expect((await asked(api, by, claims)).status).toBe(status);
      });
    }
    await this.keeps(`${path}/keys`);
    await this.keeps(`${path}/federated-identities`);
    await this.keeps(`/federation/partners/${String(partnerId)}`);
  }

  private async addWebhook(receiver: Receiver): Promise<void> {
    const { webhookId, signingSecret } = await this.made('/webhooks', { url: receiver.url, events: ['agent.created'] });
    const verifier = new Webhook(String(signingSecret));
    await this.keeps(`/webhooks/${String(webhookId)}`);
    this.fact('a webhook sends what happens, signed with its secret', async (api, caller) => {
      const { agentId } = await api.agent(caller, { name: 'is told of' });
      const tells = () => receiver.received.find(({ text }) => text.includes(agentId));
      await until('the message', () => tells() !== undefined);
      const { text, headers } = tells() ?? { text: '', headers: {} };
      expect(verifier.verify(text, { ...headers })).toMatchObject({ type: 'agent.created' });
    });
  }
}

/** A view without what changes by itself. */
function stable(view: Json): Json {
  return JSON.parse(
    JSON.stringify(view, (name, value: unknown) => (VOLATILE.includes(name) ? undefined : value)),
  ) as Json;
}

/** Id and secret of a client. */
export interface ClientCredentials {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** An answer over HTTP. */
export interface Answer<Body = Record<string, unknown>> {
  readonly status: number;
  readonly headers: Headers;
  /** The JSON of the body; an empty object where there is none. */
  readonly body: Body;
  readonly text: string;
}

/** An agent with a secret, as tests need one. */
export interface TestAgent extends ClientCredentials {
  readonly agentId: string;
  readonly credentialId: string;
}

type Json = Record<string, unknown>;

/** Calls the service over HTTP as a client would. */
export class Api {
  constructor(readonly url: string) {}

  /** Any request; `path` from the root. */
  async send<Body = Json>(method: string, path: string, init: RequestInit = {}): Promise<Answer<Body>> {
    const response = await fetch(this.url + path, { ...init, method });
    const text = await response.text();
    const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
    return {
      status: response.status,
      headers: response.headers,
      body: (isJson && text !== '' ? JSON.parse(text) : {}) as Body,
      text,
    };
  }

  /** A form to an OAuth endpoint. */
  form<Body = Json>(
    path: string,
    parameters: Record<string, string> | [string, string][] | string,
    headers: Record<string, string> = {},
  ): Promise<Answer<Body>> {
    const body = typeof parameters === 'string' ? parameters : new URLSearchParams(parameters).toString();
    return this.send<Body>('POST', path, {
      body,
      headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...headers },
    });
  }

  /** A management request with a Bearer token. */
  call<Body = Json>(method: string, path: string, token: string, body?: unknown): Promise<Answer<Body>> {
    return this.send<Body>(method, `/api/v1${path}`, {
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  /** A token request with `client_secret_post`. */
  requestToken(client: ClientCredentials, more: Record<string, string> = {}): Promise<Answer> {
    return this.form('/api/v1/token', {
      grant_type: 'client_credentials',
      client_id: client.clientId,
      client_secret: client.clientSecret,
      ...more,
    });
  }

  /** A token, or an error that says what the service answered. */
  async token(client: ClientCredentials, more: Record<string, string> = {}): Promise<string> {
    const { status, body, text } = await this.requestToken(client, more);
    if (status !== 200) throw new Error(`no token: ${status} ${text}`);
    return body['access_token'] as string;
  }

  /** Registers an agent with a secret, as whoever `token` names. */
  async agent(token: string, fields: Json = {}): Promise<TestAgent> {
    const created = await this.call('POST', '/agents', token, { name: 'test agent', ...fields });
    if (created.status !== 201) throw new Error(`no agent: ${created.status} ${created.text}`);
    const agentId = created.body['agentId'] as string;
    return { agentId, clientId: agentId, ...(await this.secret(token, agentId)) };
  }

  /** Gives an agent another secret. */
  async secret(
    token: string,
    agentId: string,
    fields: Json = {},
  ): Promise<{ clientSecret: string; credentialId: string }> {
    const { status, body, text } = await this.call('POST', `/agents/${agentId}/credentials`, token, fields);
    if (status !== 201) throw new Error(`no secret: ${status} ${text}`);
    return { clientSecret: body['clientSecret'] as string, credentialId: body['credentialId'] as string };
  }

  /** What introspection says of a token, asked by whoever `caller` names. */
  async introspect(caller: string, token: string): Promise<Json> {
    const { status, body, text } = await this.form(
      '/api/v1/token/introspect',
      { token },
      { Authorization: `Bearer ${caller}` },
    );
    if (status !== 200) throw new Error(`no introspection: ${status} ${text}`);
    return body;
  }

  /** Revokes a token as whoever `caller` names. */
  revoke(caller: string, token: string): Promise<Answer> {
    return this.form('/api/v1/token/revoke', { token }, { Authorization: `Bearer ${caller}` });
  }
}

/** The header of `client_secret_basic`, RFC 6749 §2.3.1. */
export function basic({ clientId, clientSecret }: ClientCredentials): Record<string, string> {
  const pair = `${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`;
  return { Authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

/** The payload of a token, not verified. */
export function claimsOf(token: string): Json {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')) as Json;
}

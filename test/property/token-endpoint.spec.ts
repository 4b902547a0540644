import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { claimsOf, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { check } from './check.js';

const TOKEN = '/api/v1/token';
const FORM = 'application/x-www-form-urlencoded';
const SCOPES = ['agents:read', 'agents:write', 'tokens:read'];
const ERRORS: Record<number, string[]> = {
  400: ['invalid_request', 'unsupported_grant_type', 'invalid_scope', 'invalid_target'],
  401: ['invalid_client'],
  413: ['invalid_request'],
};

describe('the token endpoint, whatever it is sent', () => {
  let service: TestApp;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    agent = await service.api.agent(await service.api.token(service.operator), { scopes: SCOPES });
  });
  afterAll(() => service.close());

  /** Sends a form; a minute later, so that failed authentications do not add up. */
  function send(body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
    service.clock.advance(61);
    return service.api.send('POST', TOKEN, {
      body: typeof body === 'string' ? Buffer.from(body) : Buffer.from(body),
      headers: { 'Content-Type': FORM, ...headers },
    });
  }

  function expectDocumented({ status, body, headers, text }: Answer): void {
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('content-type')).toMatch(/^application\/json\b/);
    if (status === 200) {
      expect(Object.keys(body).sort()).toEqual(['access_token', 'expires_in', 'scope', 'token_type']);
      expect(claimsOf(body['access_token'] as string)['sub']).toBe(agent.agentId);
      return;
    }
    expect(Object.keys(body)).toEqual(['error', 'error_description']);
    expect(ERRORS[status]).toContain(body['error']);
    expect(text).not.toContain(agent.clientSecret);
  }

  /** Stands for what is known only once the service runs. */
  const CLIENT_ID = 'the client id';
  const SECRET = 'the secret';
  const real = (text: string) => (text === CLIENT_ID ? agent.clientId : text === SECRET ? agent.clientSecret : text);

  const hostile = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.constantFrom('', ' ', '\0', '%', '%00', '__proto__', "' OR 1=1 --", '{}', '\u202e', 'x'.repeat(5000)),
  );
  const parameter = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.tuple(fc.constant('grant_type'), fc.constantFrom('client_credentials', 'password', '')),
    },
    { weight: 3, arbitrary: fc.tuple(fc.constant('client_id'), fc.oneof(fc.constant(CLIENT_ID), fc.uuid(), hostile)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant('client_secret'), fc.oneof(fc.constant(SECRET), hostile)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('scope'), fc.oneof(fc.constantFrom(...SCOPES), hostile)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('resource'), hostile) },
    { weight: 1, arbitrary: fc.tuple(hostile, hostile) },
  );

  it('answers any form in a documented shape, and 200 only to the right secret', async () => {
    await check(
      fc.asyncProperty(fc.array(parameter, { maxLength: 8 }), async (parameters) => {
        const pairs = parameters.map(([name, value]) => [name, real(value)] as [string, string]);
        const answer = await send(new URLSearchParams(pairs).toString());
        expectDocumented(answer);
        const given = (name: string) => pairs.filter(([key]) => key === name).map(([, value]) => value);
        if (answer.status === 200) {
          expect(given('client_secret')).toEqual([agent.clientSecret]);
          expect(given('client_id')).toEqual([agent.clientId]);
          expect(given('grant_type')).toEqual(['client_credentials']);
        }
      }),
      150,
    );
  });

  it('answers any bytes in a documented shape, and never 200', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .array(fc.constantFrom('grant_type', '=', '&', '%', 'client_credentials', '+', '%0', '\0', '\xff'))
        .map((parts) => Buffer.from(parts.join(''), 'latin1')),
    );
    await check(
      fc.asyncProperty(bytes, async (body) => {
        const answer = await send(body);
        expectDocumented(answer);
        expect(answer.status).not.toBe(200);
      }),
      80,
    );
  });

  it('answers any Authorization header in a documented shape, and 200 only to the right secret', async () => {
    const text = fc.oneof(hostile, fc.constant(SECRET), fc.constant(CLIENT_ID));
    await check(
      fc.asyncProperty(
        fc.constantFrom('Basic', 'basic', 'Bearer', 'Digest', ''),
        text,
        text,
        async (scheme, id, secret) => {
          const pair = `${encodeURIComponent(real(id))}:${encodeURIComponent(real(secret))}`;
          const header = `${scheme} ${Buffer.from(pair).toString('base64')}`.slice(0, 8000);
          const answer = await send('grant_type=client_credentials', { Authorization: header });
          expectDocumented(answer);
          const right = id === CLIENT_ID && secret === SECRET && scheme.toLowerCase() === 'basic';
          expect(answer.status === 200).toBe(right);
        },
      ),
      80,
    );
  });

  it('refuses every secret that is not the right one', async () => {
    const change = fc.tuple(
      fc.constantFrom('replace', 'insert', 'delete', 'flip'),
      fc.nat(52),
      fc.stringMatching(/^[0-9A-Za-z_]$/),
    );
    await check(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        let secret = agent.clientSecret;
        for (const [act, at, character] of changes) {
          const inner = act === 'flip' ? flipCase(secret.charAt(at)) : character;
          const kept = act === 'insert' ? at : at + 1;
          secret = secret.slice(0, at) + (act === 'delete' ? '' : inner) + secret.slice(kept);
        }
        fc.pre(secret !== agent.clientSecret);
        const client = { client_id: agent.clientId, client_secret: secret };
        const answer = await send(new URLSearchParams({ grant_type: 'client_credentials', ...client }).toString());
        expect([answer.status, answer.body['error']]).toEqual([401, 'invalid_client']);
      }),
      80,
    );
  });

  it('grants any choice of scopes in the order asked, and refuses any with one that is not the agent’s', async () => {
    const scopes = fc.array(fc.constantFrom(...SCOPES, 'admin:orgs', 'nope'), { minLength: 1, maxLength: 6 });
    await check(
      fc.asyncProperty(scopes, async (asked) => {
        const answer = await service.api.requestToken(agent, { scope: asked.join(' ') });
        const allowed = asked.every((scope) => SCOPES.includes(scope));
        expect(answer.status).toBe(allowed ? 200 : 400);
        expect(answer.body['scope'] ?? answer.body['error']).toBe(
          allowed ? [...new Set(asked)].join(' ') : 'invalid_scope',
        );
      }),
      60,
    );
  });
});

function flipCase(character: string): string {
  return character === character.toUpperCase() ? character.toLowerCase() : character.toUpperCase();
}

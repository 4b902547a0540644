import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type { ClientCredentials } from '../support/api.js';
import { assertion, assertionKey } from '../support/partner-issuer.js';
import { RawConnection, rawIntrospection, rawTokenRequest } from '../support/raw-connection.js';
import type { ServiceProcess } from '../support/service-process.js';

const CLIENTS = 16;
const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };

/** How many of each answer there were. */
export interface SoakCounts {
  tokens: number;
  introspections: number;
  revocations: number;
  assertions: number;
  refusals: number;
  changes: number;
  unavailable: number;
  readonly others: Map<string, number>;
}

/** Whom the load is made with. */
export interface SoakParties {
  readonly operator: ClientCredentials;
  readonly issuer: string;
  /** The present second by the clock of the service. */
  readonly nowSeconds: () => number;
}

/**
 * Full load of every kind, each client asking again as soon as it is answered: tokens by secret and by assertion,
 * introspections, revocations, wrong secrets, changes of agents.
 */
export async function soakLoad(
  service: ServiceProcess,
  parties: SoakParties,
  over: () => boolean,
  counts: SoakCounts,
): Promise<void> {
  const { operator, issuer, nowSeconds } = parties;
  const management = await service.api.token(operator);
  const agent = await service.api.agent(management, { scopes: ['tokens:read'] });
  const key = assertionKey();
  await service.api.call('POST', `/agents/${agent.agentId}/keys`, management, { jwk: key.jwk });

  const asserted = (): string => {
    const claims = { iss: agent.agentId, sub: agent.agentId, aud: issuer, jti: randomUUID() };
    const now = nowSeconds();
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion(key, { ...claims, iat: now, exp: now + 300 }),
    });
    return RawConnection.request('POST', '/api/v1/token', FORM, form.toString());
  };
  const guess = (): string =>
    rawTokenRequest({ clientId: randomUUID(), clientSecret: `sas_${randomBytes(24).toString('hex')}` });

  const client = async (): Promise<void> => {
    const connection = await RawConnection.open(service.url);
    const ask = async (what: string, request: string, expected: number): Promise<string | null> => {
      const { status, body } = await connection.ask(request);
      if (status === expected) return body;
      if (status === 503) counts.unavailable += 1;
      else counts.others.set(`${what}: ${status}`, (counts.others.get(`${what}: ${status}`) ?? 0) + 1);
      return null;
    };
    while (!over()) {
      const kind = randomInt(32);
      if (kind === 0) {
        if ((await ask('guess', guess(), 401)) !== null) counts.refusals += 1;
        continue;
      }
      if (kind === 1) {
        // A token of its own each time: it lives for a second or two of the test's time.
        const caller = await ask('caller', rawTokenRequest(operator), 200);
        if (caller === null) continue;
        const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${tokenOf(caller)}` };
        const body = JSON.stringify({ name: `agent ${randomInt(1000)}` });
        const change = RawConnection.request('PATCH', `/api/v1/agents/${agent.agentId}`, headers, body);
        if ((await ask('change', change, 200)) !== null) counts.changes += 1;
        continue;
      }
      const isAsserted = kind < 8;
      const issued = await ask('token', isAsserted ? asserted() : rawTokenRequest(agent), 200);
      if (issued === null) continue;
      counts[isAsserted ? 'assertions' : 'tokens'] += 1;
      const token = tokenOf(issued);
      if (kind < 20) {
        if ((await ask('introspection', rawIntrospection(token, token), 200)) !== null) counts.introspections += 1;
      } else if (kind < 28) {
        const headers = { ...FORM, Authorization: `Bearer ${token}` };
        const revocation = RawConnection.request('POST', '/api/v1/token/revoke', headers, `token=${token}`);
        if ((await ask('revocation', revocation, 200)) !== null) counts.revocations += 1;
      }
    }
    connection.close();
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

function tokenOf(body: string): string {
  return (JSON.parse(body) as { access_token: string }).access_token;
}

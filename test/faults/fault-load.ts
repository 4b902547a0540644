import { setTimeout as delay } from 'node:timers/promises';
import { claimsOf, type TestAgent } from '../support/api.js';
import { ConnectionLost, RawConnection, rawTokenRequest, type RawAnswer } from '../support/raw-connection.js';

/** What clients were told, and so what must hold. */
export interface Acknowledged {
  /** Ids of tokens that were answered, by organization. */
  readonly tokens: Map<string, string[]>;
  /** Tokens whose revocation was answered. */
  readonly revoked: string[];
  /** Tokens that were answered and that nobody asked to revoke. */
  readonly alive: string[];
  /** Agents whose registration was answered. */
  readonly agents: string[];
  /** How many answers of each status. */
  readonly statuses: Map<number, number>;
  /** Connections that were lost with a request on them. */
  lost: number;
}

export function nothingAcknowledged(): Acknowledged {
  return { tokens: new Map(), revoked: [], alive: [], agents: [], statuses: new Map(), lost: 0 };
}

/** An organization with an agent that asks. */
export interface LoadedOrganization {
  readonly organizationId: string;
  readonly agent: TestAgent;
}

const PER_REPLICA_AND_ORGANIZATION = 3;
const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };

/**
 * Asks both replicas for tokens of every organization, revokes one in four, and registers agents, until `over`. A lost
 * connection and a 503 promise nothing.
 *
 * @param url where a replica is at the moment
 * @param operatorToken a token of the operator
 */
export async function faultLoad(
  url: (replica: number) => string,
  organizations: readonly LoadedOrganization[],
  operatorToken: string,
  over: () => boolean,
  told: Acknowledged,
): Promise<void> {
  const client = async (replica: number, run: (ask: Ask, number: number) => Promise<void>): Promise<void> => {
    let connection: RawConnection | null = null;
    const ask: Ask = async (request) => {
      try {
        if (connection === null || !connection.open) connection = await RawConnection.open(url(replica));
        const answer = await connection.ask(request);
        told.statuses.set(answer.status, (told.statuses.get(answer.status) ?? 0) + 1);
        return answer;
      } catch (error) {
        if (error instanceof ConnectionLost && error.sent) told.lost += 1;
        connection?.close();
        connection = null;
        await delay(50);
        return null;
      }
    };
    for (let number = 0; !over(); number += 1) {
      await run(ask, number);
      await delay(5);
    }
    (connection as RawConnection | null)?.close();
  };
  const issuing = (of: LoadedOrganization) => async (ask: Ask, number: number) => {
    const answer = await ask(rawTokenRequest(of.agent));
    if (answer?.status === 403) return delay(50);
    if (answer?.status !== 200) return;
    const { access_token: token } = JSON.parse(answer.body) as { access_token: string };
    const ids = told.tokens.get(of.organizationId) ?? [];
    told.tokens.set(of.organizationId, ids);
    ids.push(String(claimsOf(token)['jti']));
    if (number % 4 !== 0) return void told.alive.push(token);
    const headers = { ...FORM, Authorization: `Bearer ${token}` };
    const revocation = await ask(RawConnection.request('POST', '/api/v1/token/revoke', headers, `token=${token}`));
    if (revocation?.status === 200) told.revoked.push(token);
  };
  const registering = async (ask: Ask) => {
    const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${operatorToken}` };
    const answer = await ask(RawConnection.request('POST', '/api/v1/agents', headers, '{"name":"made under faults"}'));
    if (answer?.status === 201) told.agents.push((JSON.parse(answer.body) as { agentId: string }).agentId);
    await delay(40);
  };
  const clients = [0, 1].flatMap((replica) => [
    client(replica, registering),
    ...organizations.flatMap((of) =>
      Array.from({ length: PER_REPLICA_AND_ORGANIZATION }, () => client(replica, issuing(of))),
    ),
  ]);
  await Promise.all(clients);
}

type Ask = (request: string) => Promise<RawAnswer | null>;

import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Answer, Api, ClientCredentials } from '../support/api.js';

const CLIENTS = 8;
/** How often a client repeats a request that was answered with 503, and the longest that it waits in between. */
const REPETITIONS = 20;
const LONGEST_WAIT_MS = 1000;

/** Clients that work without a pause on whichever replicas there are, and repeat what is answered with 503. */
export class Load {
  /** Requests that were answered as they have to be. */
  answered = 0;
  /** Answers of 503 that were repeated. */
  repeated = 0;
  /** What went wrong. */
  readonly failures: string[] = [];
  /** Tokens that were issued, and those of them that were revoked. */
  readonly issued: string[] = [];
  readonly revoked: string[] = [];
  private replicas: readonly Api[];
  private isOver = false;
  private readonly clients: Promise<void>[];
  private next = 0;

  constructor(
    private readonly client: ClientCredentials,
    replicas: readonly Api[],
  ) {
    this.replicas = replicas;
    this.clients = Array.from({ length: CLIENTS }, () => this.work());
  }

  /** Sends new requests to these replicas only; those under way are answered by whoever has them. */
  use(...replicas: readonly Api[]): void {
    this.replicas = replicas;
  }

  /** How many requests have been answered, for waiting until some more are. */
  async more(count: number): Promise<void> {
    const goal = this.answered + count;
    while (this.answered < goal && this.failures.length === 0) await delay(10);
  }

  /** Ends when every request is answered. */
  async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.clients);
  }

  private async work(): Promise<void> {
    while (!this.isOver && this.failures.length < 10) {
      try {
        await this.round();
      } catch (error) {
        this.failures.push(inspect(error));
      }
    }
  }

  /** Takes a token, uses it, has it revoked, and finds it dead: each request wherever it happens to go. */
  private async round(): Promise<void> {
    const { body } = await this.ask(200, (api) => api.requestToken(this.client));
    const token = String(body['access_token']);
    this.issued.push(token);
    await this.ask(200, (api) => api.call('GET', '/agents?limit=1', token));
    await this.ask(201, (api) => api.call('POST', '/agents', token, { name: 'made under load' }));
    const bearer = { Authorization: `Bearer ${token}` };
    const asked = await this.ask(200, (api) => api.form('/api/v1/token/introspect', { token }, bearer));
    if (asked.body['active'] !== true) throw new Error(`a token that was just issued is not active: ${asked.text}`);
    await this.ask(200, (api) => api.revoke(token, token));
    this.revoked.push(token);
    await this.ask(401, (api) => api.call('GET', '/agents?limit=1', token));
  }

  private async ask(status: number, request: (api: Api) => Promise<Answer>): Promise<Answer> {
    for (let repetition = 0; ; repetition += 1) {
      const api = this.replicas[(this.next += 1) % this.replicas.length];
      if (api === undefined) throw new Error('there is no replica');
      const answer = await request(api);
      if (answer.status === status) {
        this.answered += 1;
        return answer;
      }
      if (answer.status !== 503 || repetition === REPETITIONS) {
        throw new Error(`${answer.status} instead of ${status}: ${answer.text}`);
      }
      this.repeated += 1;
      await delay(Math.min(Number(answer.headers.get('retry-after') ?? 0) * 1000, LONGEST_WAIT_MS));
    }
  }
}

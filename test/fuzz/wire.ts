import { Agent, request, type IncomingMessage } from 'node:http';
import type { Rendered } from './render.js';

/** An answer as it came. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** What the text is, where it is JSON. */
  readonly json: unknown;
}

/** How long an answer may take, in milliseconds. */
const PATIENCE_MS = 20_000;

/** Sends requests over kept connections. */
export class Wire {
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 32 });

  constructor(private readonly url: string) {}

  /** @throws Error where no answer came */
  send({ method, target, headers, body }: Rendered): Promise<Reply> {
    const { hostname, port, host } = new URL(this.url);
    const length =
      body === undefined ? (method === 'POST' ? ['Content-Length', '0'] : []) : ['Content-Length', String(body.length)];
    return new Promise((resolve, reject) => {
      const sent = request({
        agent: this.agent,
        hostname,
        port,
        method,
        path: target,
        headers: ['Host', host, ...headers, ...length],
        timeout: PATIENCE_MS,
      });
      sent.once('timeout', () => sent.destroy(new Error(`no answer within ${PATIENCE_MS} ms`)));
      sent.once('error', reject);
      sent.once('response', (answer) => {
        const parts: Buffer[] = [];
        answer.on('data', (part: Buffer) => parts.push(part));
        answer.once('error', reject);
        answer.once('end', () => resolve(replyOf(answer, Buffer.concat(parts).toString('utf8'))));
      });
      sent.end(body);
    });
  }

  close(): void {
    this.agent.destroy();
  }
}

function replyOf({ statusCode = 0, headers }: IncomingMessage, text: string): Reply {
  const fields = Object.entries(headers).map(([name, value]) => [name, [value].flat().join(', ')] as const);
  return { status: statusCode, headers: Object.fromEntries(fields), text, json: parsed(headers['content-type'], text) };
}

function parsed(mediaType: string | undefined, text: string): unknown {
  if (!/[/+]json\b/.test(mediaType ?? '')) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

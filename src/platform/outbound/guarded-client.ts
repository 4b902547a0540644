import { LRUCache } from 'lru-cache';
import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingHttpHeaders,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { urlToHttpOptions } from 'node:url';
import { AddressPolicy } from './address-policy.js';
import { dnsResolver, isLocalName, type ResolveName } from './name-resolver.js';
import { OutboundError, outboundErrorOf } from './outbound-error.js';

/** How long an idle connection is kept, in milliseconds. */
const IDLE_MS = 15_000;
/** Idle connections that are kept a host: as many as one organization's webhooks may use at once. */
const MAX_IDLE_A_HOST = 32;
/** URLs that are remembered as `node:http` takes them. */
const MAX_TARGETS = 1000;

/** What a guarded client may reach. */
export interface GuardOptions {
  /** Addresses or CIDRs that are not public but may be reached. */
  readonly allowedNetworks: readonly string[];
  /** Whether `http:` may be used outside the allowed networks too: in development only. */
  readonly plainHttp: boolean;
  /** Resolves names; the DNS unless given. */
  readonly resolve?: ResolveName;
}

/** One call. */
export interface OutboundRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole call, from looking up the name to the answer's last byte, in milliseconds. */
  readonly timeoutMs: number;
  /** Bytes of the answer's body that are read. */
  readonly maxBytes: number;
  /** Ends the call early. */
  readonly signal?: AbortSignal;
}

/** What was answered: any status, redirects too, which are never followed. */
export interface OutboundAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most `maxBytes` of the body. */
  readonly body: Buffer;
  /** Whether there was more. */
  readonly truncated: boolean;
}

/** A JSON document that was read. */
export interface JsonDocument {
  readonly json: unknown;
  /** `max-age` of its `Cache-Control` (RFC 9111 §5.2.2.1), 0 where it may not be kept, null where nothing is said. */
  readonly maxAgeSeconds: number | null;
}

/**
 * Calls URLs that others have named, without letting them reach what only we can: every address of the host is checked,
 * whatever its notation, the connection goes to the very address that was checked, redirects are not followed, and time
 * and size have limits.
 */
export class GuardedClient {
  private readonly policy: AddressPolicy;
  private readonly plainHttp: boolean;
  private readonly resolve: ResolveName;
  private readonly http: HttpAgent;
  private readonly https: HttpsAgent;
  /** What is pure about a URL. Addresses behind names are never remembered. */
  private readonly targets = new LRUCache<string, Target>({ max: MAX_TARGETS });

  constructor({ allowedNetworks, plainHttp, resolve = dnsResolver() }: GuardOptions) {
    this.policy = new AddressPolicy(allowedNetworks);
    this.plainHttp = plainHttp;
    this.resolve = resolve;
    const kept = { keepAlive: true, maxFreeSockets: MAX_IDLE_A_HOST, timeout: IDLE_MS };
    this.http = new HttpAgent({ ...kept, lookup: this.lookup((address) => this.permitsPlainly(address)) });
    this.https = new HttpsAgent({ ...kept, lookup: this.lookup((address) => this.policy.permits(address)) });
  }

  /**
   * What is wrong with a URL as a destination, as far as it can be told without asking the DNS; null where nothing is.
   */
  fault(text: string): string | null {
    const url = URL.canParse(text) ? new URL(text) : null;
    if (url === null || !['https:', 'http:'].includes(url.protocol)) return 'must be an absolute https URL';
    if (url.username !== '' || url.password !== '') return 'must not hold a user or a password';
    const host = hostOf(url);
    if (isIP(host) !== 0 && !this.policy.permits(host)) return 'names an address that may not be called';
    if (isLocalName(host) && !['127.0.0.1', '::1'].some((address) => this.policy.isNamed(address))) {
      return 'names an address that may not be called';
    }
    if (url.protocol === 'https:' || this.plainHttp) return null;
    const mayBeNamed = isIP(host) === 0 ? this.policy.allowedNetworks.length > 0 : this.policy.isNamed(host);
    return mayBeNamed ? null : 'must be an https URL';
  }

  /**
   * Makes one call.
   *
   * @throws OutboundError
   */
  async call(request: OutboundRequest): Promise<OutboundAnswer> {
    const target = this.target(request.url);
    if (target === null) throw new OutboundError('address_refused');
    const endsAt = performance.now() + request.timeoutMs;
    try {
      return await this.once(target, request);
    } catch (error) {
      // The other side may close a kept connection at the instant we use it: that is no failure of the call.
      if (!(error instanceof StaleConnection)) throw error;
      const timeoutMs = Math.ceil(endsAt - performance.now());
      if (timeoutMs <= 0) throw new OutboundError('timeout');
      return await this.once(target, { ...request, timeoutMs });
    }
  }

  /**
   * Reads a JSON document.
   *
   * @param limits `timeoutMs` for the whole call, `maxBytes` of the document
   * @returns the document, and how long its server says that it may be kept
   * @throws OutboundError also for any status but 200, a document that is too large, or no JSON
   */
  async getJson(url: string, limits: { readonly timeoutMs: number; readonly maxBytes: number }): Promise<JsonDocument> {
    const headers = { accept: 'application/json' };
    const answer = await this.call({ method: 'GET', url, headers, ...limits });
    if (answer.status !== 200) throw new OutboundError('unexpected_answer', `status ${answer.status}`);
    if (answer.truncated) throw new OutboundError('unexpected_answer', 'the document is too large');
    try {
      const json: unknown = JSON.parse(answer.body.toString('utf8'));
      return { json, maxAgeSeconds: maxAgeOf(answer.headers['cache-control']) };
    } catch {
      throw new OutboundError('unexpected_answer', 'the document is not JSON');
    }
  }

  /** Closes the connections that are kept. */
  close(): void {
    this.http.destroy();
    this.https.destroy();
  }

  /** A URL that may be called, as far as it can be told without asking the DNS; else null. */
  private target(text: string): Target | null {
    const known = this.targets.get(text);
    if (known !== undefined) return known;
    if (this.fault(text) !== null) return null;
    const url = new URL(text);
    const target = { options: urlToHttpOptions(url), isPlain: url.protocol === 'http:' };
    this.targets.set(text, target);
    return target;
  }

  private once(
    { options: target, isPlain }: Target,
    { method, headers, body, timeoutMs, maxBytes, signal }: OutboundRequest,
  ) {
    return new Promise<OutboundAnswer>((resolve, reject) => {
      const sent = { ...headers, ...lengthOf(body) };
      const options = { ...target, method, headers: sent, agent: isPlain ? this.http : this.https };
      const request = isPlain ? httpRequest(options) : httpsRequest(options);
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
      };
      const fail = (error: unknown) => {
        settle();
        reject(outboundErrorOf(error));
      };
      const giveUp = (error: OutboundError) => {
        fail(error);
        request.destroy(error);
      };
      const abort = () => giveUp(new OutboundError('aborted'));
      const timer = setTimeout(() => giveUp(new OutboundError('timeout')), timeoutMs);
      signal?.addEventListener('abort', abort, { once: true });
      let answered = false;
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (answered || !isStale(request, error)) return fail(error);
        settle();
        reject(new StaleConnection());
      });
      // Last of all, and there may have been nothing before it: not after an answer that changes the protocol (101).
      request.on('close', () => answered || fail(new OutboundError('connection_failed')));
      request.on('response', (response) => {
        answered = true;
        const chunks: Buffer[] = [];
        let size = 0;
        const finish = (truncated: boolean) => {
          settle();
          const status = response.statusCode ?? 0;
          resolve({ status, headers: response.headers, body: Buffer.concat(chunks).subarray(0, maxBytes), truncated });
        };
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size <= maxBytes) return;
          finish(true);
          response.destroy();
        });
        response.on('end', () => finish(false));
        response.on('error', fail);
      });
      if (signal?.aborted === true) abort();
      request.end(body);
    });
  }

  private permitsPlainly(address: string): boolean {
    return this.plainHttp ? this.policy.permits(address) : this.policy.isNamed(address);
  }

  /** A lookup for `net.connect` that gives only addresses which were checked; one that is refused refuses them all. */
  private lookup(permits: (address: string) => boolean): LookupFunction {
    return (name, options, callback) => {
      this.permitted(name, permits).then(
        (addresses) => {
          if (options.all === true) return callback(null, addresses);
          callback(null, addresses[0]?.address ?? '', addresses[0]?.family ?? 4);
        },
        (error: unknown) => callback(outboundErrorOf(error), '', 4),
      );
    };
  }

  private async permitted(name: string, permits: (address: string) => boolean) {
    const found = await this.resolve(name);
    // Which of the loopback addresses is meant is not said by the name.
    const addresses = isLocalName(name) ? found.filter(permits) : found;
    if (addresses.length === 0 || !addresses.every(permits)) throw new OutboundError('address_refused');
    return addresses.map((address) => ({ address, family: isIP(address) }));
  }
}

/** Where a call goes, as `node:http` takes it. */
interface Target {
  readonly options: RequestOptions;
  readonly isPlain: boolean;
}

/** A kept connection was closed before anything was answered. */
class StaleConnection extends Error {}

function isStale(request: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

function maxAgeOf(cacheControl: string | undefined): number | null {
  const directives = (cacheControl ?? '')
    .toLowerCase()
    .split(',')
    .map((each) => each.trim());
  if (directives.includes('no-store') || directives.includes('no-cache')) return 0;
  const seconds = directives
    .map((each) => /^max-age="?(\d{1,9})"?$/.exec(each)?.[1])
    .find((each) => each !== undefined);
  return seconds === undefined ? null : Number(seconds);
}

/** The host as `net.connect` takes it; the URL parser has already turned every notation of numbers into dotted quads. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

function lengthOf(body: string | undefined): Record<string, string> {
  return body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
}

import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { problems } from '../kernel/problem.js';
import { beginNothingMore } from './answers-in-turn.js';
import { answerError } from './error.filter.js';
import { API_SECURITY_HEADERS } from './security-headers.js';

/**
 * Answers what the router refuses before any hook runs: malformed percent-encoding and parameters that are too long,
 * both 404 since they name nothing. For Fastify's `frameworkErrors`.
 */
export function answerFrameworkError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  reply.headers(API_SECURITY_HEADERS).header('x-request-id', request.id);
  answerError(error, request, reply);
}

/**
 * Answers what Node's HTTP parser refuses, where no request exists yet: 431 for header fields that are too large
 * (RFC 6585 §5), 408 for a request that takes too long, 400 for everything else; then closes the connection. For
 * Fastify's `clientErrorHandler`.
 */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  if (pendingAnswer(socket) !== null) {
    if (!ending.has(socket)) endAfterAnswers(socket);
    return;
  }
  const { status, detail } = transportFault(error.code);
  const body = bodyOf(status, detail);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'Connection: close',
    ...Object.entries(API_SECURITY_HEADERS).map(([name, value]) => `${name}: ${value}`),
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/**
 * Answers 417 to a request whose `Expect` names anything but `100-continue` (RFC 9110 §10.1.1): Node would do it without
 * our headers. For the server's event `checkExpectation`.
 */
export function answerExpectation(request: IncomingMessage, response: ServerResponse): void {
  beginNothingMore(request.socket);
  const body = bodyOf(417, 'The request expects what this server does not do.');
  response.writeHead(417, {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    connection: 'close',
    ...API_SECURITY_HEADERS,
  });
  response.end(body);
}

/** Connections that end once what arrived whole on them is answered. */
const ending = new WeakSet<Socket>();

/**
 * The answer that what is said now would be taken for: to a request that has arrived whole, or one that has begun. Node
 * keeps it in a member of the socket, by which its own handler of these errors goes too.
 */
function pendingAnswer({ _httpMessage }: Socket & { _httpMessage?: ServerResponse | null }): ServerResponse | null {
  if (_httpMessage === undefined || _httpMessage === null) return null;
  return _httpMessage.headersSent || _httpMessage.req.complete ? _httpMessage : null;
}

/** Waits for the answers to the requests that arrived whole, and closes: what came behind them is no request. */
function endAfterAnswers(socket: Socket): void {
  const pending = pendingAnswer(socket);
  if (pending === null) {
    socket.end();
    return;
  }
  ending.add(socket);
  // The answer to the next request takes the place of this one in the same turn.
  pending.once('close', () => setImmediate(endAfterAnswers, socket));
}

function bodyOf(status: number, detail: string): string {
  return JSON.stringify({ ...problems.validationFailed.withDetail(detail).toBody(), status });
}

function transportFault(code: string | undefined): { status: number; detail: string } {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return { status: 431, detail: 'The header fields of the request are too large.' };
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return { status: 413, detail: 'The chunk extensions of the request are too large.' };
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, detail: 'The request took too long to arrive.' };
    default:
      return { status: 400, detail: 'The request is not well-formed HTTP.' };
  }
}

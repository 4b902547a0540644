import { Catch, Logger, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { OAuthError } from '../kernel/oauth-error.js';
import type { Problem } from '../kernel/problem.js';
import { translateError } from './error-translation.js';
import { isOAuthPath, pathOf } from './oauth-path.js';

const logger = new Logger('HttpErrors');

/**
 * Answers every error in the shape of its endpoint: RFC 6749 §5.2 on the OAuth endpoints, RFC 9457 elsewhere. Nothing
 * internal leaves the process: the log gets it.
 */
@Catch()
export class ErrorFilter implements ExceptionFilter {
  catch(error: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    answerError(error, http.getRequest<FastifyRequest>(), http.getResponse<FastifyReply>());
  }
}

/**
 * Answers `request` with the error and logs it: 5xx at `error` with the stack (503 at `warn`), others at `debug`. An
 * answer that has begun is cut off instead, so that nobody takes it for a whole one.
 *
 * @param error anything that was thrown
 */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const oauth = isOAuthPath(request.url);
  const answer = translateError(error, oauth);
  report(error, answer, request);
  if (reply.sent || reply.raw.headersSent) {
    reply.raw.destroy();
    return;
  }
  reply.code(answer.status).header('cache-control', 'no-store');
  if (oauth) reply.header('pragma', 'no-cache');
  reply.headers(answer.headers);
  reply.header('content-type', answer instanceof OAuthError ? 'application/json' : 'application/problem+json');
  // As bytes: to a string Fastify would add a charset, which RFC 9457 §6.1 and RFC 8259 §11 do not define.
  void reply.send(Buffer.from(JSON.stringify(answer.toBody())));
}

function report(error: unknown, answer: OAuthError | Problem, request: FastifyRequest): void {
  const line = {
    reqId: request.id,
    method: request.method,
    path: pathOf(request.url),
    status: answer.status,
    code: answer instanceof OAuthError ? answer.error : answer.code,
    ...(answer.privateDetail === undefined ? {} : { detail: answer.privateDetail }),
  };
  if (answer.status < 500) logger.debug(line);
  else if (answer.status === 503) logger.warn(line);
  else logger.error({ ...line, err: loggable(error) });
}

/** What the log may have of an error: never its other properties, where drivers put statements and parameters. */
function loggable(error: unknown): { type: string; message: string; stack?: string } {
  if (!(error instanceof Error)) return { type: typeof error, message: 'something that is no Error was thrown' };
  const { name, message, stack, cause } = error;
  const trace = cause instanceof Error && stack !== undefined ? `${stack}\ncaused by: ${cause.stack ?? ''}` : stack;
  return { type: name, message, ...(trace === undefined ? {} : { stack: trace }) };
}

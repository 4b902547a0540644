import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyRequest } from 'fastify';
import { oauthErrors } from '../kernel/oauth-error.js';
import { problems } from '../kernel/problem.js';
import { parseJsonBody } from './json-body.js';
import { OAuthForm } from './oauth-form.js';
import { isOAuthPath } from './oauth-path.js';

/** The largest request body, in bytes. */
export const BODY_LIMIT_BYTES = 65_536;

const FORM = 'application/x-www-form-urlencoded';
const JSON_TYPE = 'application/json';

/** What an OAuth endpoint answers to any body that is no form (RFC 6749 §3.2). */
export const formRequired = oauthErrors.invalidRequest.withDescription(
  `This endpoint takes ${FORM} in UTF-8 without content coding.`,
);

/** What a management endpoint answers to any body that is no JSON. */
export const jsonRequired = problems.unsupportedMediaType.withDetail(
  `This endpoint takes ${JSON_TYPE} in UTF-8 without content coding.`,
);

/**
 * Gives the application its body parsers: forms on the OAuth endpoints (as `OAuthForm`), JSON everywhere else, nothing
 * besides. Bodies are at most 65,536 bytes (413 above).
 *
 * @param app an application made with `bodyParser: false`, not yet initialized
 */
export function registerBodyParsers(app: NestFastifyApplication): void {
  const fastify = app.getHttpAdapter().getInstance();
  const options = { parseAs: 'buffer', bodyLimit: BODY_LIMIT_BYTES } as const;
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser<Buffer>(FORM, options, (request, body, done) => {
    const accepted = isOAuthPath(request.url) && hasPlainUtf8(request, FORM);
    if (!accepted) return done(refusalFor(request));
    try {
      done(null, OAuthForm.parse(body));
    } catch (error) {
      done(error as Error);
    }
  });
  fastify.addContentTypeParser<Buffer>(JSON_TYPE, options, (request, body, done) => {
    const accepted = !isOAuthPath(request.url) && hasPlainUtf8(request, JSON_TYPE);
    if (!accepted) return done(refusalFor(request));
    try {
      done(null, parseJsonBody(body));
    } catch (error) {
      done(error as Error);
    }
  });
  fastify.addContentTypeParser('*', (request, payload, done) => {
    payload.resume();
    if (request.headers['content-length'] === '0') return done(null, undefined);
    done(refusalFor(request));
  });
}

function refusalFor(request: FastifyRequest): Error {
  return isOAuthPath(request.url) ? formRequired : jsonRequired;
}

/** Whether the body is sent as it is, in UTF-8: no content coding, and no charset but utf-8. */
function hasPlainUtf8(request: FastifyRequest, mediaType: string): boolean {
  const coding = request.headers['content-encoding'];
  if (coding !== undefined && coding !== '' && coding.toLowerCase() !== 'identity') return false;
  const contentType = request.headers['content-type'];
  if (contentType === undefined || contentType === mediaType) return true;
  for (const [, quoted, token] of contentType.matchAll(/;\s*charset\s*=\s*(?:"([^"]*)"|([^\s;]*))/gi)) {
    if ((quoted ?? token ?? '').toLowerCase() !== 'utf-8') return false;
  }
  return true;
}

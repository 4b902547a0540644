import { isUtf8 } from 'node:buffer';
import type { FastifyRequest } from 'fastify';
import { oauthErrors } from '../kernel/oauth-error.js';

/** The most parameters that a form may have. */
export const MAX_FORM_PARAMETERS = 64;

const malformed = oauthErrors.invalidRequest.withDescription(
  'The body is not well-formed application/x-www-form-urlencoded in UTF-8.',
);
const tooMany = oauthErrors.invalidRequest.withDescription(
  `The body may have at most ${MAX_FORM_PARAMETERS} parameters.`,
);

/**
 * The parameters of an OAuth request, `application/x-www-form-urlencoded` (RFC 6749 §3.2 and appendix B). A parameter
 * without a value counts as omitted.
 */
export class OAuthForm {
  /** The form of a request without a body. */
  static readonly EMPTY = new OAuthForm([], []);

  private constructor(
    private readonly names: readonly string[],
    private readonly values: readonly string[],
  ) {}

  /**
   * Reads a form in one pass. `+` is a space.
   *
   * @param body the bytes of the body
   * @returns the form
   * @throws OAuthError `invalid_request` for malformed percent-encoding, invalid UTF-8, a NUL character or more than
   *   64 parameters
   */
  static parse(body: Buffer): OAuthForm {
    if (body.length === 0) return OAuthForm.EMPTY;
    if (!isUtf8(body)) throw malformed;
    const text = body.toString('utf8');
    const encoded = text.includes('%') || text.includes('+');
    if (text.includes('\0')) throw malformed;
    const names: string[] = [];
    const values: string[] = [];
    let start = 0;
    while (start <= text.length) {
      let end = text.indexOf('&', start);
      if (end === -1) end = text.length;
      if (end > start) {
        if (names.length === MAX_FORM_PARAMETERS) throw tooMany;
        const equals = text.indexOf('=', start);
        const nameEnd = equals === -1 || equals > end ? end : equals;
        const name = text.slice(start, nameEnd);
        const value = nameEnd === end ? '' : text.slice(nameEnd + 1, end);
        names.push(encoded ? decode(name) : name);
        values.push(encoded ? decode(value) : value);
      }
      start = end + 1;
    }
    return new OAuthForm(names, values);
  }

  /**
   * The value of the parameter `name`; `undefined` when it is absent or empty. Of a repeated parameter the first
   * non-empty value: ask `repeated()` first.
   */
  get(name: string): string | undefined {
    for (let at = this.names.indexOf(name); at !== -1; at = this.names.indexOf(name, at + 1)) {
      const value = this.values[at];
      if (value !== undefined && value !== '') return value;
    }
    return undefined;
  }

  /** All non-empty values of the parameter `name`, in the order in which they stand. */
  all(name: string): string[] {
    return this.values.filter((value, at) => value !== '' && this.names[at] === name);
  }

  /**
   * The first parameter name that stands more than once (RFC 6749 §3.2 forbids it), empty values counted too.
   *
   * @param except a name that may (`resource`, RFC 8707 §2)
   */
  repeated(except?: string): string | undefined {
    return this.names.find((name, at) => name !== except && this.names.indexOf(name, at + 1) !== -1);
  }
}

/**
 * The form of an OAuth request, for guards, which run before parameters are injected.
 *
 * @returns the parsed form; the empty form when the request had no body
 */
export function formOf(request: FastifyRequest): OAuthForm {
  return request.body instanceof OAuthForm ? request.body : OAuthForm.EMPTY;
}

function decode(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text;
  if (!spaced.includes('%')) return spaced;
  let decoded: string;
  try {
    decoded = decodeURIComponent(spaced);
  } catch {
    throw malformed;
  }
  if (decoded.includes('\0')) throw malformed;
  return decoded;
}

/** The paths whose bodies are forms and whose errors have the shape of RFC 6749 §5.2. */
const OAUTH_FORM_PATHS: ReadonlySet<string> = new Set([
  '/api/v1/token',
  '/api/v1/token/introspect',
  '/api/v1/token/revoke',
]);

const AUTHORIZATION_PATH = '/api/v1/authorize';

/**
 * The path of a request target as the router sees it: without query and fragment, unreserved characters decoded, the
 * authority of an absolute-form target (RFC 9112 §3.2.2) cut off.
 *
 * @param url the request target as received
 * @returns the path; one that cannot be decoded is returned as it is
 */
export function pathOf(url: string): string {
  let path = url;
  if (!path.startsWith('/')) {
    const authority = path.indexOf('://');
    const start = authority === -1 ? -1 : path.indexOf('/', authority + 3);
    if (start !== -1) path = path.slice(start);
  }
  const end = path.search(/[?#]/);
  if (end !== -1) path = path.slice(0, end);
  if (!path.includes('%')) return path;
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

/**
 * Whether `url` is one of the endpoints that answer in the OAuth shape: token, introspection, revocation and the
 * authorization endpoint.
 *
 * @param url the request target as received, a query included
 */
export function isOAuthPath(url: string): boolean {
  if (OAUTH_FORM_PATHS.has(url)) return true;
  const path = pathOf(url);
  return OAUTH_FORM_PATHS.has(path) || path === AUTHORIZATION_PATH;
}

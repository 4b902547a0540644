/**
 * The one spelling of an identifier that it is compared by, so that nobody registers another's in a different one:
 * scheme and host in lower case, no default port, no dot segments, no needless percent-encoding (RFC 3986 §6.2.2, §6.2.3),
 * no repeated and no trailing slash, no empty query; all in lower case, since readers do not see the difference.
 *
 * @param identifier an absolute URI
 */
export function identifierKey(identifier: string): string {
  const url = new URL(identifier);
  const path = unescapeUnreserved(url.pathname)
    .replace(/\/{2,}/g, '/')
    .replace(/\/$/, '');
  return `${url.protocol}//${url.host}${path}${unescapeUnreserved(url.search)}`.toLowerCase();
}

function unescapeUnreserved(text: string): string {
  return text.replace(/%[0-9A-Fa-f]{2}/g, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape;
  });
}

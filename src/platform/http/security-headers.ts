/** The headers of every answer of the API: nothing to sniff, nothing to embed, nothing to tell other sites. */
export const API_SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  // Browsers of other sites have nothing to load here, the published keys included: whoever verifies tokens is a server.
  'cross-origin-resource-policy': 'same-origin',
};

/** Lets the API document's page load its own scripts, styles and images, and nothing from elsewhere. */
const DOCS_CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const STRICT_TRANSPORT_SECURITY = 'max-age=31536000';

/** The security headers by the kind of path. */
export interface SecurityHeaders {
  readonly api: Readonly<Record<string, string>>;
  readonly docs: Readonly<Record<string, string>>;
}

/**
 * The security headers of an installation.
 *
 * @param issuer the issuer's URL; an https one adds HSTS of one year (RFC 6797)
 */
export function securityHeaders(issuer: string): SecurityHeaders {
  const hsts = issuer.startsWith('https://') ? { 'strict-transport-security': STRICT_TRANSPORT_SECURITY } : {};
  const api = { ...API_SECURITY_HEADERS, ...hsts };
  return { api, docs: { ...api, 'content-security-policy': DOCS_CONTENT_SECURITY_POLICY } };
}

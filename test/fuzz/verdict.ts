import { PROBLEM_KINDS } from '../../src/platform/kernel/problem.js';
import type { ApiDocument, Json, Operation } from './api-document.js';
import type { Rendered } from './render.js';
import type { Reply } from './wire.js';

/** What must never leave the service, wherever it stands. */
const NEVER: readonly (readonly [string, RegExp])[] = [
  ['a PEM', /-----BEGIN /],
  ['a database URL', /postgres(?:ql)?:\/\//],
  ['a stack', /\n\s+at .+:\d+:\d+|\.(?:ts|js):\d+:\d+/],
  ['SQL', /QueryFailed|\bSELECT .+ FROM\b|duplicate key value|violates .+ constraint|invalid input syntax/],
  ['a private member of a JWK', /"(?:d|dp|dq|qi)":"[\w-]{20,}"/],
  ['a file of ours', /node_modules|\/src\/platform\//],
];
const SECRET = /(?:sas_[0-9A-Za-z]{40,}|whsec_[A-Za-z0-9+/=]{20,})/g;
const TOKEN = /eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{20,}/g;

/** How an answer differs from what it may be; empty: not at all. */
export function faultsOfReply(document: ApiDocument, operation: Operation, sent: Rendered, reply: Reply): string[] {
  const { status, headers, text } = reply;
  if (status >= 500) return [`answers ${status}: ${text.slice(0, 300)}`];
  const documented = operation.answers.get(String(status));
  if (documented === undefined) return [`answers ${status}, which is not documented: ${text.slice(0, 300)}`];
  return [
    ...faultsOfHeaders(status, headers),
    ...faultsOfContent(document, operation, documented, reply),
    ...leaksOf(document, operation, sent, reply),
    ...(status < 300 ? laxities(document, operation, sent) : []),
  ];
}

/** What an operation took although the document does not allow it. */
function laxities(document: ApiDocument, operation: Operation, { body }: Rendered): string[] {
  if (operation.body?.mediaType !== 'application/json' || body === undefined || body.length === 0) return [];
  const faults = document.faultsOfBody(operation, JSON.parse(body.toString('utf8')));
  return faults.map((fault) => `takes what it may not: ${fault}`);
}

function faultsOfHeaders(status: number, headers: Reply['headers']): string[] {
  const faults: string[] = [];
  if (headers['x-content-type-options'] !== 'nosniff') faults.push('may be sniffed');
  if (headers['content-security-policy'] === undefined) faults.push('has no Content-Security-Policy');
  if (headers['cross-origin-resource-policy'] !== 'same-origin') faults.push('may be loaded by other sites');
  if (headers['cache-control'] === undefined) faults.push('has no Cache-Control');
  if (status >= 400 && headers['cache-control'] !== 'no-store') faults.push('is an error that may be stored');
  if (status === 401 && !/^(Basic|Bearer)\b/.test(headers['www-authenticate'] ?? 'Basic'))
    faults.push('challenges oddly');
  if (status === 429 && !/^[1-9]\d*$/.test(headers['retry-after'] ?? '')) faults.push('does not say when to try again');
  if (headers['set-cookie'] !== undefined || headers['x-powered-by'] !== undefined)
    faults.push('has a header too many');
  if (headers['access-control-allow-origin'] !== undefined) faults.push('lets other origins read');
  return faults;
}

function faultsOfContent(
  document: ApiDocument,
  operation: Operation,
  documented: readonly string[],
  reply: Reply,
): string[] {
  const { status, headers, text, json: value } = reply;
  if (documented.length === 0) return text === '' ? [] : ['has content, which is not documented'];
  const [mediaType = ''] = (headers['content-type'] ?? '').split(';');
  if (!documented.includes(mediaType)) return [`is of the media type ${mediaType}, not ${documented.join()}`];
  if (!/[/+]json$/.test(mediaType)) return [];
  if (value === undefined) return ['is no JSON'];
  const faults = document.faultsOfAnswer(operation, status, mediaType, value);
  if (mediaType === 'application/problem+json') {
    const { code, status: told } = value as Json;
    const kind = PROBLEM_KINDS[code as keyof typeof PROBLEM_KINDS];
    if (told !== status || kind.status !== status)
      faults.push(`tells of ${String(code)} and ${String(told)} with ${status}`);
  }
  return faults;
}

/** Secrets and internals in an answer, but where the document says that they are shown this once. */
function leaksOf(document: ApiDocument, operation: Operation, sent: Rendered, { status, text }: Reply): string[] {
  const leaks = NEVER.flatMap(([what, pattern]) =>
    pattern.test(text) && !pattern.test(String(sent.body)) ? [`shows ${what}`] : [],
  );
  const shown = text.match(SECRET) ?? [];
  if (shown.length > 0) {
    const once = namesShownOnce(document, operation);
    const allowed = Object.entries(objectOf(text)).flatMap(([name, value]) => (once.includes(name) ? [value] : []));
    if (status !== 201 && status !== 200) leaks.push('shows a secret in an error');
    for (const secret of shown) if (!allowed.includes(secret)) leaks.push(`shows a secret: ${secret.slice(0, 9)}…`);
  }
  for (const token of text.match(TOKEN) ?? []) {
    const type = typOf(token);
    if (/jwt$/i.test(type) && !/checkpoint|receipt|revocation/.test(type) && objectOf(text)['access_token'] !== token) {
      leaks.push(`shows a token of typ ${type}`);
    }
  }
  return leaks;
}

/** The members of an operation's answers that the document says are shown once. */
function namesShownOnce(document: ApiDocument, operation: Operation): string[] {
  return document
    .membersOfSuccess(operation)
    .flatMap(([name, schema]) => (/shown this once/i.test(String(schema['description'])) ? [name] : []));
}

function objectOf(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}

function typOf(token: string): string {
  const [head = ''] = token.split('.');
  const { typ } = objectOf(Buffer.from(head, 'base64url').toString('utf8'));
  return typeof typ === 'string' ? typ : 'JWT';
}

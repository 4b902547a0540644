/** A request and its answer. */
export interface Exchange {
  readonly status: number;
  readonly text: string;
}

interface Request {
  method: string | null;
  url: string | null;
  readonly headers: Headers;
  readonly data: string[];
  includeHeaders: boolean;
}

type Option = (request: Request, value: string) => void;

const OPTIONS: Readonly<Record<string, Option>> = {
  '-X': (request, value) => {
    request.method = value;
  },
  '-H': (request, value) => {
    const [, name = '', content = ''] = /^([A-Za-z-]+): (.+)$/.exec(value) ?? [];
    request.headers.append(name, content);
  },
  '-d': (request, value) => {
    if (value.startsWith('@')) throw new Error('this test does not understand curl -d @file');
    request.data.push(value);
  },
  '-u': (request, value) => {
    request.headers.set('Authorization', `Basic ${Buffer.from(value).toString('base64')}`);
  },
};

/**
 * Sends what `curl` would send.
 *
 * @param args its arguments
 * @returns the answer, and what curl writes of it
 * @throws Error for an option that is not known here
 */
export async function curl(args: readonly string[]): Promise<{ exchange: Exchange; written: string }> {
  const { method, url, headers, data, includeHeaders } = parse(args);
  // Outside quotes and by itself curl reads these as patterns.
  if (url === null || /[\s[\]{}]/.test(url)) throw new Error(`curl would not take this address: ${url ?? 'none'}`);
  if (data.length > 0 && !headers.has('content-type')) {
    headers.set('Content-Type', 'application/x-www-form-urlencoded');
  }
  const response = await fetch(url, {
    method: method ?? (data.length > 0 ? 'POST' : 'GET'),
    headers,
    redirect: 'manual',
    // As it is: curl encodes nothing.
    ...(data.length > 0 ? { body: Buffer.from(data.join('&')) } : {}),
  });
  const exchange = { status: response.status, text: await response.text() };
  if (!includeHeaders) return { exchange, written: exchange.text };
  const head = [`HTTP/1.1 ${response.status} ${response.statusText}`];
  for (const [name, value] of response.headers) head.push(`${name}: ${value}`);
  return { exchange, written: `${head.join('\n')}\n\n${exchange.text}` };
}

function parse(args: readonly string[]): Request {
  const headers = new Headers({ 'User-Agent': 'curl/8.5.0', Accept: '*/*' });
  const request: Request = { method: null, url: null, headers, data: [], includeHeaders: false };
  const rest = [...args];
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === '-s') continue;
    if (argument === '-i') {
      request.includeHeaders = true;
    } else if (argument.startsWith('-')) {
      const option = OPTIONS[argument];
      const value = rest.shift();
      if (option === undefined || value === undefined)
        throw new Error(`this test does not understand curl ${argument}`);
      option(request, value);
    } else {
      if (request.url !== null) throw new Error('curl gets two addresses');
      request.url = argument;
    }
  }
  return request;
}
